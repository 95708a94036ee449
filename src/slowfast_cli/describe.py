"""`slowfast describe`: what a video shows, in words."""

from slowfast_cli.ask import ask
from slowfast_cli.options import (
    Device,
    Dtype,
    End,
    Fps,
    Json,
    MaxNewTokens,
    Model,
    NumBeams,
    NumFrames,
    Seed,
    Start,
    Stream,
    Temperature,
    TopP,
    Video,
)


def describe(
    video: Video,
    model: Model = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
    stream: Stream = None,
    device: Device = None,
    dtype: Dtype = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    num_beams: NumBeams = 1,
    seed: Seed = None,
) -> None:
    """Say what a video shows."""
    arguments = locals()
    from slowfast_mllm.engine import DESCRIBE

    ask(question=DESCRIBE, **arguments)

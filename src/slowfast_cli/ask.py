"""`slowfast ask`: one question about one video."""

from typing import Annotated

import typer

from slowfast_cli import options
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


def ask(
    video: Video,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
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
    """Ask a video a question."""
    assistant = options.load_model(model, device, dtype)
    with options.working("Watching the video"):
        encoded = assistant.chat(video, num_frames=num_frames, fps=fps, start=start, end=end)
    streaming = options.wants_stream(stream, json) and num_beams == 1
    answer = encoded.ask(
        question,
        on_text=options.write if streaming else None,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        seed=seed,
    )
    options.print_answer(answer, json, streaming)

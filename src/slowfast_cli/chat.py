"""`slowfast chat`: a conversation about one video, which is read and encoded once."""

import sys

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


def chat(
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
    """Talk about a video: a question a line; an empty line or Ctrl-D ends.

    With --json every answer is one line of JSON.
    """
    assistant = options.load_model(model, device, dtype)
    with options.working("Watching the video"):
        conversation = assistant.chat(video, num_frames=num_frames, fps=fps, start=start, end=end)
    streaming = options.wants_stream(stream, json) and num_beams == 1
    while question := _next_question():
        answer = conversation.ask(
            question,
            on_text=options.write if streaming else None,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            num_beams=num_beams,
            seed=seed,
        )
        options.print_answer(answer, json, streaming)


def _next_question() -> str:
    """A line from the terminal, with a prompt there, or from a pipe; empty at its end."""
    if sys.stdin.isatty():
        typer.echo("? ", nl=False, err=True)
    return sys.stdin.readline().strip()

"""`slowfast ask`: one question about one video."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import Answering, answering, tell_looks
from slowfast_cli.options import READ, LookTwice, Watched
from slowfast_cli.terminal import say

if TYPE_CHECKING:
    from slowfast_cli.remote import Told
    from slowfast_mllm.engine import Evidence


@answering
def ask(
    video: Watched,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Also tell which frames the answer read, and where in them.",
            rich_help_panel=READ,
        ),
    ] = False,
    evidence_image: Annotated[
        Path | None,
        typer.Option(help="Draw them, into this PNG.", rich_help_panel=READ),
    ] = None,
    look_twice: LookTwice = False,
    *,
    how: Answering,
) -> None:
    """Ask a video a question."""
    if not question.strip():
        raise typer.BadParameter("the question is empty.")
    if evidence_image is not None:
        _refuse_target(evidence_image, video, how.server)
    answer: Any
    assistant: Any
    more = how.told(video)
    if evidence or evidence_image is not None:
        more["evidence"] = True
    if look_twice:
        answer, assistant = how.answer_twice(video, question, **more)
        if not how.json:
            tell_looks(answer)
    else:
        conversation = how.watch(video, quickly=not more)
        answer = how.answer(conversation, question, **more)
        assistant = getattr(conversation, "assistant", None)
    if answer.evidence is None:
        return
    if not how.json:
        _tell(answer.evidence)
    if evidence_image is not None:
        _draw(answer, assistant, video, how, evidence_image)


def _draw(answer: Any, assistant: Any, video: str, how: Answering, path: Path) -> None:
    from slowfast_mllm.engine import SlowFast
    from slowfast_mllm.tasks.evidence_image import EDGE, draw_evidence

    assert isinstance(assistant, SlowFast)  # no other has evidence
    looked = {"frames_fps": how.frames_fps, "fit": how.fit, "clip": how.clip}
    pictures = assistant.pictures(video, EDGE, at=answer.timestamps, **looked)
    draw_evidence(answer, pictures, path)


def _refuse_target(path: Path, video: str, server: str | None) -> None:
    if server:
        raise typer.BadParameter(
            "--evidence-image is drawn where the model is loaded; use --evidence, or ask no server "
            '(--server "").'
        )
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path}: the name of a picture ends in .png.")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path}: no such folder, {path.parent}.")
    if video.endswith(".sfmem"):
        raise typer.BadParameter(
            f"{video}: a memory holds no pictures; use --evidence, or ask the video itself."
        )


def _tell(evidence: "Evidence | Told") -> None:
    for span in evidence.spans:
        say(f"Read most: {span.start:.2f} to {span.end:.2f} s ({span.weight:.0%})")
    if not evidence.spans:
        say("No frame stands out: what was read is spread over the video.")
    told = ", ".join(f"{frame.timestamp:.2f} s ({frame.weight:.1%})" for frame in evidence.top)
    say(f"Top frames: {told}")

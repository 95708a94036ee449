"""How verbs load models: with a spinner, after consent to a download, the first with a note."""

import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from slowfast_cli.terminal import say

if TYPE_CHECKING:
    from slowfast_mllm.engine.protocol import Assistant

is_shared = False  # whether this is one of several processes that have a model together
_NOTICE = (
    "Note: the packaged model is small. It names 80 kinds of everyday things, counts people, tells "
    "how the camera moves and where it cuts, and misses much; what else happens it does not know. "
    "`slowfast models` lists larger ones, e.g. --model "
    "shi-labs/slowfast-video-mllm-qwen2-7b-convnext-576-frame64-s1t4 (CC-BY-NC-4.0). "
    "This note is shown once."
)


def load_model(
    model: str | None, cache: bool, yes: bool = False, one_video: bool = False, **how: Any
) -> "Assistant":
    """Load a model, with a spinner, and say once what the packaged one is.

    Args:
        cache: keep memories of videos on disk.
        yes: download it, if it is not here, without asking.
        one_video: it answers about one, once: several processes can do that together.
        **how: further arguments of `slowfast_mllm.load`.
    """
    if how.get("device") == "tp" and not one_video:
        refuse_processes()
    if model is not None and not yes:
        agree_to_download(model)
    with working("Loading the model"):
        from slowfast_mllm import load
        from slowfast_mllm.engine import MemoryCache

        folder = memories_folder() if cache else None
        memories = MemoryCache(folder) if folder is not None else None
        loaded = load(model, cache=memories, **how)
    if how.get("device") == "tp":
        global is_shared
        is_shared = True
        if os.environ["RANK"] != "0":  # the first process prints the answer
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if model is None:
        _show_notice_once()
    return loaded


def take_note(assistant: "Assistant", model: str | None, folder: Path) -> None:
    """For `recalled`, when a model has been loaded."""
    from slowfast_mllm.engine import SlowFast
    from slowfast_mllm.engine.quick import take_note

    if isinstance(assistant, SlowFast):
        take_note(assistant, model, folder)


def refuse_processes() -> NoReturn:
    """Several processes would write the same files, or wait for each other's input."""
    raise typer.BadParameter(
        "--device tp: for one question about one video (ask, describe, choose, ...) and for index; "
        "here use --device auto."
    )


def agree_to_download(model: str) -> None:
    """Ask on a terminal before gigabytes come; elsewhere leave it to the user to ask for them."""
    from slowfast_mllm.engine.catalog import resolved, would_download

    download = would_download(model)
    if download is None:
        return
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(f"Not here yet: {download}. Download it?", abort=True, err=True)
        return
    raise ValueError(
        f"{model}: would be downloaded ({download}); say --yes, or fetch it with "
        f"`hf download {resolved(model)}` first."
    )


def working(what: str) -> AbstractContextManager[Any]:
    """A spinner on stderr while something slow runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)


def cache_folder() -> Path | None:
    """Where memories and notes are kept; None for users without a home."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home) / "slowfast-mllm"


def memories_folder() -> Path | None:
    """Where memories are kept; None for users without a home."""
    folder = cache_folder()
    return None if folder is None else folder / "memories"


def _show_notice_once() -> None:
    """The first time the packaged model is used, say what it is."""
    folder = cache_folder()
    try:
        if folder is not None and (folder / "notice-shown").exists():
            return
    except OSError:
        pass  # a home that is not ours: the note comes each time
    say(_NOTICE, err=True)
    with suppress(OSError):  # a read-only one: it comes again
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "notice-shown").touch()


def local_path(video: str) -> str:
    """The path that a `file:` URI stands for; anything else as it is."""
    if video[:5].lower() != "file:":
        return video
    from slowfast_mllm.video.names import localized

    return str(localized(video))


def refuse_missing(video: str, server: str | None = None) -> None:
    """Fail, as reading it would, before a model is loaded: that may take minutes.

    Args:
        server: which may know how to fetch what is not here.
    """
    if os.path.exists(local_path(video)) or (server and re.match("(https?|data):", video, re.I)):
        return
    from slowfast_mllm.video import probe_video

    probe_video(video)

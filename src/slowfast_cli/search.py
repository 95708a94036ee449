"""`slowfast search`: which videos of a folder show something, and when."""

import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowfast_cli.answering import Finding, finding, how_to_load, refuse_local_options
from slowfast_cli.loading import refuse_processes, working
from slowfast_cli.terminal import say

if TYPE_CHECKING:
    from slowfast_cli.remote import Told
    from slowfast_mllm.tasks.search import Search


@finding
def search(
    folder: Annotated[Path, typer.Argument(help="A folder of videos, at any depth.")],
    words: Annotated[str, typer.Argument(help="What to look for, e.g. 'a red star'.")],
    top: Annotated[int, typer.Option(help="Videos to tell, at most.")] = 10,
    threshold: Annotated[
        float, typer.Option(help="How sure the model must be, between 0 and 1.")
    ] = 0.5,
    window: Annotated[
        float, typer.Option(help="Seconds of a video that are remembered together.")
    ] = 10.0,
    index: Annotated[
        Path | None,
        typer.Option(help="Where memories are kept. Default: .slowfast in the folder."),
    ] = None,
    open: Annotated[
        bool, typer.Option("--open", help="Write a page with pictures of the moments; show it.")
    ] = False,
    *,
    how: Finding,
) -> None:
    """Find the videos of a folder that show something, with times.

    What is new or has changed is watched first; what was watched before is not
    watched again.
    """
    if not words.strip():
        raise typer.BadParameter("say in words what to look for.")
    if how.start is not None or how.end is not None:
        raise typer.BadParameter("--start, --end: all of each video is searched; leave them out.")
    found: Any
    if how.server:
        asked = {"words": words, "top": top, "threshold": threshold, "window": window}
        found = _found_at(how.server, how, folder, index, asked)
    else:
        found = _found_here(how, folder, words, top, threshold, window, index)
    how.tell(found, _lines(found))
    if open:
        from slowfast_mllm.tasks.memories import DEFAULT_PLACE

        _show_page(found, folder, (index or folder / DEFAULT_PLACE) / "search.html")


def _found_at(
    server: str, how: Finding, folder: Path, index: Path | None, asked: dict[str, Any]
) -> "Told":
    """What a server finds in the videos, which are sent if it does not have them."""
    if index is not None:
        raise typer.BadParameter(
            '--index: a server keeps memories itself; leave it out, or ask none (--server "").'
        )
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; name one with videos.")
    refuse_local_options(how_to_load(how), how.cache)
    from slowfast_cli.remote import Server

    with working("Asking the server"):
        model = {"model": how.model} if how.model else {}
        return Server(server).search(folder, asked | how.given | model)


def _found_here(how: Finding, folder: Path, *asked: Any) -> "Search":
    if how.device == "tp":
        refuse_processes()
    assistant = replace(how, cache=False).load(str(folder))  # which keeps memories in one place
    from slowfast_mllm.tasks import search_folder

    with working("Watching new videos") as status:

        def show(done: int, total: int) -> None:
            if status is not None:
                status.update(f"Looking after videos: {done} of {total}")

        found: Search = search_folder(assistant, folder, *asked, show, **how.given)
    return found


def _lines(found: "Search | Told") -> list[str]:
    if not found.hits:
        return [f"not found in {found.searched} videos (at most {found.best:.1%})"]
    lines = []
    for hit in found.hits:
        times = ", ".join(f"{m.start:.1f} to {m.end:.1f} s" for m in hit.moments)
        lines.append(f"{hit.score:6.1%}  {hit.path}  {times}")
    return lines


def _show_page(found: Any, folder: Path, page: Path) -> None:
    from slowfast_mllm.tasks.contact_sheet import contact_sheet

    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(contact_sheet(found, folder), encoding="utf-8", errors="replace")
    say(f"Page: {page}", err=True)
    webbrowser.open(page.absolute().as_uri())

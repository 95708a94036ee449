"""`/v1/jobs/search`: which of several videos show something, and when.

They are uploaded files and URLs, or those of a folder that the operator opened. What was seen of
them is kept where all memories are; of the search itself nothing stays.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.serve.arguments import Searched
from slowfast_mllm.serve.desk import Desk
from slowfast_mllm.serve.errors import wrong
from slowfast_mllm.serve.helper import Helper
from slowfast_mllm.serve.parts import reference_of
from slowfast_mllm.tasks.search import Search, search_folder
from slowfast_mllm.video import VideoInfo
from slowfast_mllm.video.names import short_name


async def search(desk: Desk, body: Searched, owner: str) -> dict[str, Any]:
    """The result of `tasks.search` as JSON; videos are called what the request calls them.

    Raises:
        ApiError: one of them is not there or may not be read, or none can be.
    """
    if bool(body.videos) == bool(body.folder):
        raise wrong("videos: name some, or a folder", "videos")
    sampling = desk.sampling(body.looking())
    async with AsyncExitStack() as stack:
        paths: dict[str, str] = {}
        if body.folder:
            paths = await asyncio.to_thread(desk.sources.videos_in, body.folder)
        for number, part in enumerate(body.videos):
            reference = reference_of(part, f"videos[{number}]")
            source = await stack.enter_async_context(desk.sources.open(reference, owner))
            paths[short_name(reference)] = source.path
        place = await stack.enter_async_context(desk.sources.scratch())
        names = await asyncio.to_thread(_linked, place, paths)
        helper: Any = Helper(desk)
        helper.reader = _examining(desk)

        def work() -> Search:
            how = (body.words, body.top, body.threshold, body.window)
            try:
                return search_folder(helper, place, *how, place / "memories", **sampling)
            finally:  # here, too: it may go on for a while after nobody waits any more
                shutil.rmtree(place, ignore_errors=True)

        try:
            found = await helper.carry_out(work)
        except ValueError as error:
            raise wrong(_renamed(str(error), place, names)) from error
        none: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
        result = found.model_copy(update={**none, "folder": body.folder or ""})
        quoted = {link: json.dumps(name)[1:-1] for link, name in names.items()}
        told: dict[str, Any] = json.loads(_renamed(result.model_dump_json(), place, quoted))
        return told


def _linked(place: Path, paths: Mapping[str, str]) -> dict[str, str]:
    """Put links to videos into a new folder: name of a link -> what the client calls it."""
    place.mkdir(mode=0o700)
    names = {}
    for number, (name, path) in enumerate(paths.items()):
        if os.path.isdir(path):
            raise wrong(f"{name}: frames of a video; name the video itself", "videos")
        # What a file holds says what it is; and what it is called here stands in no text by chance.
        link = f"{place.name}{number:06}.mp4"
        (place / link).symlink_to(path)
        names[link] = name
    return names


def _renamed(text: str, place: Path, names: Mapping[str, str]) -> str:
    for link, name in names.items():
        path = str(place / link)
        for called in (path, short_name(path), link):
            text = text.replace(called, name)
    return text.replace(str(place), "these videos")


def _examining(desk: Desk) -> Reader:
    """Reads videos of which the operator's limits allow it."""

    def probe(source: Any, **how: Any) -> VideoInfo:
        desk.decoders.examine(source, bool(how.get("clip")))
        return desk.decoders.probe_video(source, **how)

    return Reader(desk.assistant.reader.read_video, probe)

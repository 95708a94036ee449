"""One record to train on, as values: its conversation, its files, and what is wrong with others."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_mllm.model.whole_checkpoint import first_line
from slowfast_mllm.video.names import is_data_uri, short_name

Message = dict[str, Any]


class RecordError(ValueError):
    """A record that cannot be trained on: where it is, and why."""


@dataclass(frozen=True)
class Stored:
    """A video or picture whose bytes lie in a data set; they are read each time they are needed.

    Attributes:
        rows: of `datasets`, in Arrow's format: nothing is decoded.
        keys: the row's number, its column, then where in the column.
    """

    name: str
    rows: Any = field(repr=False)
    keys: tuple[int | str, ...]

    def open(self) -> io.BytesIO:
        """Its bytes, under the name that readers give to what is wrong with them."""
        row, column, *inside = self.keys
        value = self.rows[row][column][0]  # no other column's bytes are copied
        for key in inside:
            value = value[key]
        stream = io.BytesIO(value["bytes"].as_py())
        stream.name = str(self)
        return stream

    def __str__(self) -> str:
        return f"{self.name}{''.join(f'[{key}]' for key in self.keys)}"


@dataclass(frozen=True)
class Record:
    """One conversation.

    Attributes:
        messages: `role` and `content`; the content of users is a list of parts, and a part of type
            "video" or "image" has the `path` of a file, what is `Stored` in its place, a `data:`
            URI, or for a video a list of such frames. A video's `sampling`, where there is one,
            says which of its frames are meant, as arguments of `read_video`. An answer's `weight`,
            1 where there is none, says how much its tokens count; at 0 it is context only.
        where: file and position, for reports.
        rejected: of a preference, the words in place of the last answer that are worse.
        carried: names of what the record brings beside, which means nothing here.
    """

    messages: list[Message]
    where: str
    rejected: str | None = None
    carried: frozenset[str] = frozenset()

    @property
    def visual_parts(self) -> list[dict[str, Any]]:
        """The parts that are videos and images, in order."""
        parts = [part for message in self.messages for part in message["content"]]
        return [part for part in parts if part["type"] != "text"]

    @property
    def media(self) -> list[tuple[str, Path | Stored]]:
        """Kind and file of each visual input, in order: of each frame, where a list is a video."""
        found: list[tuple[str, Path | Stored]] = []
        for part in self.visual_parts:
            for file in part["path"] if isinstance(part["path"], list) else [part["path"]]:
                if not is_data_uri(file):
                    found.append((part["type"], Path(file) if isinstance(file, str) else file))
        return found

    @property
    def unlearned(self) -> int:
        """Number of answers that carry no loss."""
        return sum(message.get("weight") == 0 for message in self.messages)

    def check_files(self) -> None:
        """Raises RecordError where one of `media` is not there."""
        for _, path in self.media:
            if isinstance(path, Stored):
                continue
            try:
                there = path.exists()
            except (OSError, ValueError) as error:  # a name that no file can have
                why = first_line(error)[:60]  # and the name again
                raise RecordError(f"{self.where}: {short_name(str(path))}: {why}.") from error
            if not there:
                raise RecordError(f"{self.where}: {short_name(str(path))}: no such file.")

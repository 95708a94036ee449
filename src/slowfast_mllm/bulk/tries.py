"""Who died of which video: what kills the program that looks at it twice is not looked at again.

A decoder that crashes takes its process along, and nobody is left to say which video it was. So
each is told here before it is looked at and after; one that comes again without having ended was
killed. What shared a process with it is looked at alone from then on, which clears the others.
"""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

MOST = 2  # deaths, after which nobody tries again
LOADING = "load"  # the stage of what is no video, which no file remembers
T = TypeVar("T")


class Ledger(Protocol):
    """`Tries`, or somebody who asks it from another process."""

    def begin(self, stage: str, ids: Collection[str]) -> dict[str, int]: ...
    def begin_alone(self, stage: str, id: str) -> None: ...
    def end(self, stage: str, ids: Collection[str]) -> None: ...


class Tries:
    """What is being looked at, and how often that ended in a death.

    It must live in a process that looks at no video itself.
    """

    def __init__(self, path: Path | None = None) -> None:
        """
        Args:
            path: a JSON Lines file that remembers deaths; lines that are taken out of it are
                forgotten. None: nothing is remembered.
        """
        self._path = path
        self._open: set[tuple[str, str]] = set()
        self._deaths: dict[str, int] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError, KeyError):  # torn by a full disk
                    row = json.loads(line)
                    self._deaths[row["id"]] = int(row["deaths"])

    def begin(self, stage: str, ids: Collection[str]) -> dict[str, int]:
        """Say what is looked at now.

        Returns:
            Of each how often somebody died of it; those that are not 0 are still to begin, alone.
        """
        for id in ids:
            if (stage, id) in self._open:
                self._open.discard((stage, id))
                self._died(stage, id)
        deaths = {id: self._deaths.get(id, 0) for id in ids}
        self._open |= {(stage, id) for id, count in deaths.items() if not count}
        return deaths

    def begin_alone(self, stage: str, id: str) -> None:
        """Say that one is looked at, and nothing else in that process."""
        self._open.add((stage, id))

    def end(self, stage: str, ids: Collection[str]) -> None:
        """Say that they were looked at, with whatever result, and nobody died."""
        self._open -= {(stage, id) for id in ids}

    def _died(self, stage: str, id: str) -> None:
        self._deaths[id] = self._deaths.get(id, 0) + 1
        if self._path is None or stage == LOADING:
            return
        line = json.dumps({"id": id, "deaths": self._deaths[id]}) + "\n"
        # What cannot be written is known until the program ends; the results' file tells the rest.
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def guarded(
    tries: Ledger | None,
    stage: str,
    ids: Sequence[str],
    work: Callable[[list[int]], list[T]],
    refused: Callable[[str], T],
) -> list[T]:
    """Do work that may kill this process, without ever dying of the same thing three times.

    Args:
        tries: None: nobody counts deaths.
        work: gives what the ids with these numbers became, in their order.
        refused: what an id becomes that is not looked at any more; of a line that says why.

    Returns:
        What each id became.
    """
    if tries is None:
        return work(list(range(len(ids))))
    deaths = tries.begin(stage, ids)
    together = [number for number, id in enumerate(ids) if not deaths[id]]
    became = dict(zip(together, work(together), strict=True)) if together else {}
    tries.end(stage, [ids[number] for number in together])
    for number, id in enumerate(ids):
        if deaths[id] >= MOST:
            became[number] = refused(
                f"quarantined: {deaths[id]} processes died of it; to have it tried again, take its "
                "line out of the .tries.jsonl."
            )
        elif deaths[id]:
            tries.begin_alone(stage, id)
            (became[number],) = work([number])
            tries.end(stage, [id])
    return [became[number] for number in range(len(ids))]

"""What share of answers about real clips is right, by kind; the same for a model and a rule."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from real_questions import NOT_SEEN, Question, is_right

from slowfast_mini.world import CAMERA_MOTIONS

_BINS = 10
KINDS = {  # of answers that are right or wrong, and what the table calls them
    "people": "people counted exactly",
    "camera moves": "camera moves or not",
    "camera kind": "how it moves, of moving ones",
    "cuts": "cuts exact",
    "when": "when within 1 s",
    "side": "left, middle, right of things found",
    "side found": "of those asked, things found",
    "direction": "which way it moves",
    "color": "color",
    "moves": "something moves",
    "frozen": "nothing moves in a frozen clip",
    "enters": "something enters",
    "leaves": "something leaves",
    "untaught": "untaught questions turned away",
}


@dataclass
class Scores:
    """Answers so far.

    Attributes:
        named: things said that are there, said that are not, and there but not said.
        presence: by truth, whether each yes/no answer was right.
        surety: of yes/no answers, P(yes) of yes and no, and whether yes is true.
        right: by kind, whether each other answer was right.
    """

    named: list[int] = field(default_factory=lambda: [0, 0, 0])
    presence: dict[bool, list[bool]] = field(default_factory=lambda: {True: [], False: []})
    surety: list[tuple[float, bool]] = field(default_factory=list)
    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add_things(self, said: Iterable[str], there: set[str], doubtful: Iterable[str]) -> None:
        """Doubtful ones are neither right nor wrong."""
        told = set(said) - set(doubtful)
        for index, part in enumerate((told & there, told - there, there - told)):
            self.named[index] += len(part)

    def add(self, question: Question, told: Any, p_yes: float | None = None) -> None:
        """An answer that is right or wrong; `told` as `read_answer` gives it."""
        hit = is_right(question, told)
        if hit is None:
            raise ValueError(f"{question.kind}: not an answer that is right or wrong alone")
        if question.kind == "presence":
            self.presence[question.truth].append(hit)
            if p_yes is not None:
                self.surety.append((p_yes, question.truth))
        elif question.kind == "side" and told == NOT_SEEN:
            self.right["side found"].append(False)
        else:
            if question.kind == "side":
                self.right["side found"].append(True)
            kind = "when" if question.kind in ("appears", "gone") else question.kind
            self.right[kind].append(hit)

    def add_camera(self, told: str | None, camera: dict[str, Any]) -> None:
        """A motion as the model calls it, against whether it moves and what would be right."""
        moves = None if told is None else told != "still"
        self.right["camera moves"].append(moves == camera["moves"])
        if camera["moves"] and camera["kinds"]:
            self.right["camera kind"].append(told in camera["kinds"])

    @property
    def precision(self) -> float:
        """Of the things named, the share that is there."""
        return self.named[0] / max(self.named[0] + self.named[1], 1)

    @property
    def recall(self) -> float:
        """Of the things there, the share that is named."""
        return self.named[0] / max(self.named[0] + self.named[2], 1)

    @property
    def balanced(self) -> float | None:
        """Mean of the shares right where yes is true and where no is; None without both."""
        shares = [float(np.mean(hits)) for hits in self.presence.values() if hits]
        return float(np.mean(shares)) if len(shares) == 2 else None

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error of yes/no: in ten bins of the probability of what is
        answered, how far its mean is from the share that is right, weighted by their answers."""
        if not self.surety:
            return None
        p_yes, truth = np.array([p for p, _ in self.surety]), np.array([t for _, t in self.surety])
        sure, right = np.maximum(p_yes, 1 - p_yes), (p_yes >= 0.5) == truth
        bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
        return float(
            sum(
                abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
                for b in np.unique(bins)
            )
        )

    def share(self, kind: str) -> tuple[int, int]:
        """How many answers of a kind are right, and how many there are."""
        return sum(self.right[kind]), len(self.right[kind])

    def figures(self) -> dict[str, Any]:
        """All of it by name, for a file."""
        return {
            "things precision": self.precision,
            "things recall": self.recall,
            "things named, wrong, missed": self.named,
            "yes/no balanced accuracy": self.balanced,
            "yes/no expected calibration error": self.calibration_error,
            **{kind: self.share(kind) for kind in KINDS if self.right[kind]},
        }


def always_the_same(asked: Iterable[tuple[Question, dict[str, Any]]]) -> Scores:
    """What the best of all answers that never look would score, by kind; `asked` with the truth of
    each clip. Things named and yes/no have none: yes/no is balanced."""
    kinds: dict[str, list[tuple[Question, dict[str, Any]]]] = defaultdict(list)
    for question, truth in asked:
        if question.kind not in ("things", "presence"):
            kind = "when" if question.kind in ("appears", "gone") else question.kind
            kinds[kind].append((question, truth))
    best = Scores()
    for kind, rows in kinds.items():
        tried = []
        for told in _tellable(kind, rows):
            scores = Scores()
            for question, truth in rows:
                if kind == "camera":
                    scores.add_camera(told, truth["camera"])
                else:
                    scores.add(question, told)
            tried.append(scores)
        for part in KINDS:  # of the camera another is best at telling that it moves than how
            if any(scores.right[part] for scores in tried):
                best.right[part] = max((scores.right[part] for scores in tried), key=sum)
    best.right.pop("side found", None)
    return best


def _tellable(kind: str, rows: list[tuple[Question, dict[str, Any]]]) -> list[Any]:
    if kind == "when":
        return [float(second) for second in range(13)]
    if kind == "camera":
        return list(CAMERA_MOTIONS)
    if kind in ("direction", "color"):
        return sorted({told for question, _ in rows for told in question.truth})
    return sorted({question.truth for question, _ in rows})


def totals_table(columns: dict[str, Scores]) -> str:
    """A Markdown table, a row a figure, a column for each of `columns`."""
    rows = [
        ("things named: precision", [_named(s, s.precision, 1) for s in columns.values()]),
        ("things named: recall", [_named(s, s.recall, 2) for s in columns.values()]),
        ("yes/no: balanced accuracy", [_balanced(s) for s in columns.values()]),
        (
            "yes/no: expected calibration error",
            [_decimal(s.calibration_error) for s in columns.values()],
        ),
    ]
    for kind, title in KINDS.items():
        rows.append((title, [_counted(*s.share(kind)) for s in columns.values()]))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    shown = [row for row in rows if any(cell != "–" for cell in row[1])]
    return "\n".join(lines + [f"| {title} | {' | '.join(cells)} |" for title, cells in shown])


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _named(scores: Scores, value: float, other: int) -> str:
    of = scores.named[0] + scores.named[other]
    return f"{value:.2f} ({scores.named[0]} of {of})" if of else "–"


def _balanced(scores: Scores) -> str:
    if scores.balanced is None:
        return "–"
    parts = [f"{sum(scores.presence[t])} of {len(scores.presence[t])}" for t in (True, False)]
    return f"{scores.balanced:.2f} (yes {parts[0]}, no {parts[1]})"


def _counted(right: int, asked: int) -> str:
    return f"{right / asked:.2f} ({right} of {asked})" if asked else "–"

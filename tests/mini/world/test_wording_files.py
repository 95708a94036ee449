"""Files of wordings: a slip is told with its place, before a training draws from it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slowfast_mini.world.wording_files import FOLDER, QUESTIONS, read_wordings

COUNT = "How many objects are there in the whole video?"  # held out


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_every_question_has_wordings_of_both_kinds(language: str) -> None:
    taught, held_out = read_wordings(FOLDER / language)
    assert held_out.keys() == QUESTIONS.keys() | {"unknown"}
    assert all(taught[name] for name in held_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("== color ==", "== hue =="), "unknown section 'hue'"),
        (lambda t: "a line\n" + t, "plain.txt:1: unknown section"),
        (lambda t: t.replace("of {x}", "of {y}", 1), "wording of 'color' has {x}"),
        (lambda t: t.replace("\n== count ==", "\n== count ==\nHow many {x}?"), "no placeholder"),
        (lambda t: t.replace("[What is|", "What is|", 1), "unbalanced brackets"),
        (lambda t: t.replace("[What is|", "[[What is|", 1), "unbalanced brackets"),
        (lambda t: t.replace("[hue|", "[", 1).replace("[What|Which]", "[What]", 1), "are one"),
        (lambda t: t.replace("[What|Which]", "[What|What]", 1), "or the same: [What|What]"),
        (lambda t: t.replace("\n== shape ==", " \n== shape =="), "blanks at an end"),
        (lambda t: t.replace("== count ==", f"== count ==\n{COUNT}"), "both taught and held out"),
        (lambda t: t.replace("== count ==", "== count ==\nHow many?\nHow many?"), "there twice"),
    ],
)
def test_a_slip_is_told(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    folder = shutil.copytree(FOLDER / "en", tmp_path / "en")
    text = (folder / "plain.txt").read_text(encoding="utf-8")
    (folder / "plain.txt").write_text(change(text), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_wordings(folder)


def test_a_question_without_held_out_wordings_is_told(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "en", tmp_path / "en")
    text = (folder / "held_out.txt").read_text(encoding="utf-8")
    kept = re.sub("== speed ==.*?(?=== )", "", text, flags=re.DOTALL)
    (folder / "held_out.txt").write_text(kept, encoding="utf-8")
    with pytest.raises(ValueError, match="no wordings of 'speed'"):
        read_wordings(folder)

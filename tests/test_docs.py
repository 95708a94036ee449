"""What docs/your-own-model.md shows is run as it stands there, with fewer epochs."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from slowfast_cli.main import main
from slowfast_mllm.train.recipe import load_recipe

PAGE = Path(__file__).parents[1] / "docs" / "your-own-model.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to the library is run; of the rest it is checked that it exists."""
    name, *words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
    if name == "slowfast":
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
    elif name == "python":
        assert importlib.util.find_spec(words[1])
    else:
        assert name == "pip"


def test_the_example_of_an_own_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), {})
        elif language == "yaml":
            recipe = Path(re.findall(r"^name: (\w+)", text)[0] + ".yaml")
            recipe.write_text(re.sub(r"epochs: \d+", "epochs: 1", text))
            load_recipe(recipe)
        else:
            for line in text.splitlines():
                command(line, monkeypatch)
    assert "6 records (6 with video), 0 bad" in capsys.readouterr().out
    assert (tmp_path / "saved" / "model.safetensors").is_file()

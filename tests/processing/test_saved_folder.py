"""A saved folder names the package that opens it, to programs that have not imported it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processor_parts import tiny_model, tiny_processor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from slowfast_mini import WEIGHTS
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor

_PROGRAM = """
import json, sys
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "slowfast_mllm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

folder, copy, said = sys.argv[1:]
found = []
sys.meta_path.insert(0, Absent())
for auto in (AutoConfig, AutoModelForImageTextToText, AutoProcessor):
    for options in ({}, {"trust_remote_code": True}):
        try:
            found.append(type(auto.from_pretrained(folder, **options)).__name__)
        except (ImportError, ValueError) as error:
            found.append(type(error).__name__ + " " + " ".join(str(error).split()))
del sys.meta_path[0]
for auto in (AutoModelForImageTextToText, AutoProcessor):
    opened = auto.from_pretrained(folder, trust_remote_code=True)
    opened.save_pretrained(copy)
    found.append(type(opened).__module__)
json.dump(found, open(said, "w"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(path)
    tiny_processor().save_pretrained(path)
    return path


def test_where_the_package_was_not_imported(folder: Path, tmp_path: Path) -> None:
    said = tmp_path / "said.json"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), str(tmp_path / "copy"), str(said)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_MODULES_CACHE": str(tmp_path / "modules"),
        },
    )
    assert done.returncode == 0, done.stderr
    *refused, model, processor = json.loads(said.read_text())
    for unasked, unmet in zip(refused[::2], refused[1::2], strict=True):
        assert unasked.startswith("ValueError")
        assert "trust_remote_code=True" in unasked
        assert unmet.startswith("ImportError")
        assert "pip install slowfast_mllm" in unmet
    assert model.startswith("slowfast_mllm.")
    assert processor.startswith("slowfast_mllm.")
    names = {path.name for path in (tmp_path / "copy").glob("*")}
    assert names == {path.name for path in folder.glob("*")}
    for name in ("config.json", "processor_config.json"):
        one, other = (json.loads((f / name).read_text()) for f in (folder, tmp_path / "copy"))
        assert one["auto_map"] == other["auto_map"]


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": False}], ids=str)
def test_where_it_was_imported_nothing_of_the_folder_is_run(
    options: dict, folder: Path, tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "slowfast_shim.py").write_text("raise SystemExit('executed')")
    assert isinstance(AutoConfig.from_pretrained(tmp_path, **options), SlowFastConfig)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, **options)
    assert isinstance(model, SlowFastForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path, **options), SlowFastProcessor)


def test_the_file_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    text = (folder / "slowfast_shim.py").read_text()
    assert "pip install slowfast-mllm" in text
    tiny_model().config.save_pretrained(tmp_path)
    for other in (tmp_path, WEIGHTS):
        assert (other / "slowfast_shim.py").read_text() == text

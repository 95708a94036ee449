"""What is imported when: probing loads no model, and Auto classes know ours all the same."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIP = str(ROOT / "examples" / "shapes.mp4")
# Beside the standard library: what reads files, and what Typer brings for the terminal.
READING = {"numpy", "av", "cython_runtime", "PIL"}
TYPER = {"typer", "click", "rich", "pygments", "markdown_it", "mdurl", "shellingham", "colorama"}
TYPER |= {"pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
TYPER |= {"annotated_types", "annotated_doc"}


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def distributions(program: str) -> set[str]:
    """Top-level packages, beside Python's own, that are loaded when a program ends."""
    out = run(
        "import sys\nbefore = set(sys.modules)\n"
        f"{program}\n"
        "import json\nprint()\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    names = {name.split(".")[0] for name in json.loads(out.splitlines()[-1])}
    return {name for name in names - set(sys.stdlib_module_names) if not name.startswith("_")}


def test_info_on_a_clip_imports_what_reads_it_and_no_more() -> None:
    loaded = distributions(
        f"sys.argv = ['slowfast', 'info', {CLIP!r}, '--json']\n"
        "from slowfast_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded - READING - TYPER == {"slowfast_cli", "slowfast_mllm"}
    assert "av" in loaded


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_info_on_a_clip_needs_little_memory() -> None:
    out = run(
        f"import sys; sys.argv = ['slowfast', 'info', {CLIP!r}]\n"
        "from slowfast_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(open('/proc/self/status').read())"
    )
    peak = re.search(r"VmHWM:\s+(\d+) kB", out)
    assert peak
    assert int(peak[1]) < 120_000


def test_the_front_of_several_servers_loads_nothing_that_computes() -> None:
    pytest.importorskip("fastapi")
    loaded = distributions("import slowfast_mllm.serve.front")
    assert "fastapi" in loaded
    assert not loaded & {"torch", "transformers"}


@pytest.mark.parametrize(
    ("given", "then"),
    [({}, "2000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], then: str
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    out = run(
        "import os, sys; sys.argv = ['slowfast', '--version']\n"
        "from slowfast_cli.main import main\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    assert out.split()[-1] == then


def test_the_package_loads_its_parts_when_they_are_used() -> None:
    assert distributions("import slowfast_mllm; dir(slowfast_mllm)") == {"slowfast_mllm"}
    loaded = distributions("from slowfast_mllm import read_video, VideoError")
    assert loaded - READING == {"slowfast_mllm"}


@pytest.mark.parametrize(
    "imports",
    [
        # This module of transformers asks for the Auto classes while it is half executed, and the
        # model needs it whole.
        "import slowfast_mllm, threading\n"
        "from importlib import import_module\n"
        "names = ['transformers.modeling_layers', 'slowfast_mllm.processing']\n"
        "threads = [threading.Thread(target=import_module, args=[name]) for name in names]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
        "import transformers.models.auto.configuration_auto; import slowfast_mllm",
    ],
)
def test_auto_classes_know_the_model_in_whatever_order_things_are_imported(imports: str) -> None:
    out = run(
        f"{imports}\n"
        "from transformers.models.auto.modeling_auto import MODEL_MAPPING\n"
        "from transformers.models.auto.processing_auto import PROCESSOR_MAPPING\n"
        "from slowfast_mllm import SlowFastConfig as C\n"
        "import importlib, slowfast_mllm; importlib.reload(slowfast_mllm)\n"
        "print(MODEL_MAPPING[C].__name__, PROCESSOR_MAPPING[C].__name__)"
    )
    assert out.split() == ["SlowFastModel", "SlowFastProcessor"]


def test_a_module_that_cannot_be_imported_says_so_itself_and_stops_nothing_else() -> None:
    out = run(
        "import sys, slowfast_mllm\n"
        "class Lacking:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == self.name:\n"
        "            raise ImportError(f'{name} is broken')\n"
        "sys.meta_path.insert(0, lacking := Lacking())\n"
        "def tell(name, part):\n"
        "    lacking.name = name\n"
        "    try:\n"
        "        getattr(slowfast_mllm, part)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "tell('slowfast_mllm.processing.pixels', 'SlowFastProcessor')\n"
        "tell('slowfast_mllm.engine.stopping', 'load')\n"
        "from transformers import AutoModel\n"
        "print(slowfast_mllm.SlowFastConfig in AutoModel._model_mapping)"
    )
    assert out.splitlines() == [
        "slowfast_mllm.processing.pixels is broken",
        "slowfast_mllm.engine.stopping is broken",
        "True",
    ]

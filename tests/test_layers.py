"""The arrows between packages point down only, and one file touches the registries."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# What each package or module may import of this project, beside itself. The packaged model stands
# beside the library and uses it; of it, the library knows the folder of the weights alone.
ALLOWED = {
    "slowfast_mllm.questions": set(),
    "slowfast_mllm.video": set(),
    "slowfast_mllm.model": set(),
    "slowfast_mllm.processing": {"slowfast_mllm.model", "slowfast_mllm.video"},
    "slowfast_mllm.auto": {"slowfast_mllm.model", "slowfast_mllm.processing"},
    "slowfast_mllm.registration": {"slowfast_mllm.auto"},
    "slowfast_mllm.evaluate": {
        *("slowfast_mllm.model", "slowfast_mllm.engine", "slowfast_mllm.tasks"),
        *("slowfast_mllm.video", "slowfast_mllm.load"),
    },
    "slowfast_mllm.engine": {
        *("slowfast_mllm.model", "slowfast_mllm.processing", "slowfast_mllm.video"),
        *("slowfast_mllm.questions", "slowfast_mini.WEIGHTS"),
    },
    "slowfast_mllm.tasks": {"slowfast_mllm.engine", "slowfast_mllm.video"},
    "slowfast_mllm.bulk": {
        *("slowfast_mllm.engine", "slowfast_mllm.tasks", "slowfast_mllm.video"),
        "slowfast_mini.WEIGHTS",
    },
    "slowfast_mllm.serve": {
        *("slowfast_mllm.engine", "slowfast_mllm.tasks", "slowfast_mllm.video"),
    },
    "slowfast_mllm.train": {
        *("slowfast_mllm.model", "slowfast_mllm.processing", "slowfast_mllm.video"),
    },
    "slowfast_mini.__init__": set(),
    "slowfast_mini.world": set(),
    "slowfast_mini.things": {"slowfast_mini.world"},
    "slowfast_mini.lessons": {
        *("slowfast_mini.world", "slowfast_mini.things"),
        *("slowfast_mllm.model", "slowfast_mllm.processing"),
        "slowfast_mllm.train",
    },
}


def imported(file: Path) -> set[str]:
    """Packages, by two names ("slowfast_mllm.video"), and the command line by one."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        names |= {".".join(m.split(".")[:2]) for m in modules if m.startswith("slowfast_m")}
        names |= {"slowfast_cli" for m in modules if m.startswith("slowfast_cli")}
    return names - {"slowfast_mllm"}  # its version


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_down(package: str) -> None:
    place = SRC / package.replace(".", "/")
    files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for file in files:
        assert imported(file) <= ALLOWED[package] | {package}, file


def edges(package: str) -> dict[str, set[str]]:
    """Which modules of a package each of them imports, wherever in the file it says so."""
    folder = SRC / package.replace(".", "/")
    files = {f"{package}.{file.stem}": file for file in folder.glob("*.py")}
    files[package] = files.pop(f"{package}.__init__")
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[module] = (names & set(files)) - {package}
    return found


@pytest.mark.parametrize("package", [p for p in ALLOWED if (SRC / p.replace(".", "/")).is_dir()])
def test_modules_of_a_package_do_not_import_each_other_in_a_circle(package: str) -> None:
    TopologicalSorter(edges(package)).prepare()  # raises CycleError


def test_the_command_line_alone_reaches_the_lessons() -> None:
    for file in (SRC / "slowfast_cli").glob("*.py"):
        mini = {name for name in imported(file) if name.startswith("slowfast_mini")}
        assert mini <= {"slowfast_mini.WEIGHTS"} or file.name == "train.py", file


def test_only_auto_touches_the_registries() -> None:
    for file in SRC.rglob("*.py"):
        if file.name != "auto.py":
            text = file.read_text(encoding="utf-8")
            assert ".register(" not in text or "ALL_ATTENTION_FUNCTIONS" in text, file

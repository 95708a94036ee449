"""The arrows between packages point down only, and one file touches the registries."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# What each package may import of this project, beside itself.
ALLOWED = {
    "video": set(),
    "world": set(),
    "model": set(),
    "processing": {"model", "video"},
    "auto": {"model", "processing"},
    "evaluate": {"model"},
    "engine": {"model", "processing", "video"},
    "train": {"model", "processing", "video", "world"},
}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        names |= {m.split(".")[1] for m in modules if m.startswith("slowfast_mllm.")}
        names |= {"slowfast_cli" for m in modules if m.startswith("slowfast_cli")}
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_down(package: str) -> None:
    folder = SRC / "slowfast_mllm"
    files = [folder / "auto.py"] if package == "auto" else list((folder / package).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) <= ALLOWED[package] | {package}, file


def edges(package: str) -> dict[str, set[str]]:
    """Which modules of a package each of them imports, wherever in the file it says so."""
    name = f"slowfast_mllm.{package}"
    files = {f"{name}.{file.stem}": file for file in (SRC / "slowfast_mllm" / package).glob("*.py")}
    files[name] = files.pop(f"{name}.__init__")
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[module] = (names & set(files)) - {name}
    return found


@pytest.mark.parametrize("package", sorted(set(ALLOWED) - {"auto"}))
def test_modules_of_a_package_do_not_import_each_other_in_a_circle(package: str) -> None:
    TopologicalSorter(edges(package)).prepare()  # raises CycleError


def test_only_auto_touches_the_registries() -> None:
    for file in SRC.rglob("*.py"):
        if file.name != "auto.py":
            text = file.read_text(encoding="utf-8")
            assert ".register(" not in text or "ALL_ATTENTION_FUNCTIONS" in text, file

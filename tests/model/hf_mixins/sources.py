"""Fetches the common tests of the installed transformers; nothing of them is kept here.

They ship in its source distribution. Two folders that the distribution leaves out are replaced by
`stubs/`. Knows nothing of our model.
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import transformers

PACKAGE = "hf_common_tests"
_STUBS = Path(__file__).parent / "stubs"


class SourcesUnavailableError(RuntimeError):
    """The distribution could not be downloaded."""


def common_tests(cache: Path) -> Path:
    """A folder to put on the path, from which `hf_common_tests.test_modeling_common` imports.

    Raises:
        SourcesUnavailableError: no index can be reached, or it has no such distribution.
    """
    folder = cache / transformers.__version__
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _unpack(_download(folder), folder)
        _pip("install", "--no-deps", "--target", str(folder), "parameterized")
        (folder / "complete").touch()
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SourcesUnavailableError(done.stderr.strip()[-500:])


def _download(folder: Path) -> Path:
    wanted = f"transformers=={transformers.__version__}"
    options = ("--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(folder))
    _pip("download", *options, wanted)
    return next(folder.glob("transformers-*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    """The tests become a package; what stands at the top of the archive is left out."""
    package = folder / PACKAGE
    shutil.copytree(_STUBS, package)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            parts = Path(member.name).parts[1:]
            if parts[:1] == ("tests",) and member.isfile() and len(parts) > 1:
                member.name = str(Path(*parts[1:]))
                tar.extract(member, package, filter="data")
    (package / "__init__.py").touch()
    archive.unlink()

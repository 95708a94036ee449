"""Runs transformers' own processor tests on ours. Slow: downloads its source distribution once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = HERE / "hf_mixins" / "common_processor_cases.py"
SOURCES = HERE.parent / "model" / "hf_mixins"


@pytest.mark.slow
def test_common_processor_tests(pytestconfig: pytest.Config) -> None:
    sys.path.insert(0, str(SOURCES))
    from sources import SourcesUnavailableError, common_tests

    try:
        sources = common_tests(pytestconfig.cache.mkdir("transformers-sources"))
    except SourcesUnavailableError as error:
        pytest.skip(f"transformers' source distribution cannot be downloaded: {error}")
    finally:
        sys.path.remove(str(SOURCES))
    # In a process of its own: their modules change settings of transformers when imported, and
    # their markers are unknown to our settings.
    path = [str(sources), str(CASES.parent), str(HERE), *sys.path]
    options = ["-c", os.devnull, "--rootdir", str(HERE.parent), "-q", "-rs", "-W", "ignore"]
    command = [sys.executable, "-m", "pytest", str(CASES), *options, "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

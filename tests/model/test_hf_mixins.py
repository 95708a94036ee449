"""transformers' own common model tests, out of tree: what its other models keep, ours keeps too.

Their sources are downloaded on the first run (see `hf_mixins/sources.py`); without an index the
test is skipped. Which of them do not apply, and why, stands in `hf_mixins/expected_skips.py`.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hf_mixins.expected_skips import is_expected
from hf_mixins.sources import SourcesUnavailableError, common_tests

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
AT_LEAST_PASSED = 100


@pytest.mark.slow
def test_common_model_tests(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    try:
        fetched = common_tests(request.config.cache.mkdir("transformers-sources"))
    except (SourcesUnavailableError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the sources of transformers' tests cannot be downloaded: {error}")
    report = tmp_path / "report.xml"
    cases = HERE / "hf_mixins" / "common_model_cases.py"
    command = [sys.executable, "-m", "pytest", str(cases), "-q", f"--junitxml={report}"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    paths = os.pathsep.join(map(str, (fetched, SOURCE, HERE)))
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    passed, failed, skipped = [], [], []
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = {child.tag: child.get("message", "") for child in case}
        if outcome.keys() & {"failure", "error"}:
            failed.append(case.get("name"))
        elif "skipped" in outcome:
            skipped.append(outcome["skipped"])
        else:
            passed.append(case.get("name"))
    assert not failed, done.stdout[-20000:]
    assert not [reason for reason in skipped if not is_expected(reason)]
    assert len(passed) >= AT_LEAST_PASSED

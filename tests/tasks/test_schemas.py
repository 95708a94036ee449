"""docs/schemas/*.json are what `slowfast schema JOB` prints."""

import json
import sys
from pathlib import Path

import pytest

from slowfast_cli.main import main
from slowfast_mllm.tasks import JOBS

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def schema(job: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["slowfast", "schema", job])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("job", JOBS)
def test_schemas_in_the_documents_are_those_of_the_results(job, monkeypatch, capsys) -> None:
    assert schema(job, monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    page = SCHEMAS / f"{job}.json"
    assert told == json.loads(page.read_text()), f"slowfast schema {job} > {page}"
    shared = {"model", "software", "video", "frames", "settings", "timing", "warnings"}
    assert shared < set(told["required"])


def test_there_is_no_schema_of_what_is_no_job(monkeypatch, capsys) -> None:
    assert schema("results", monkeypatch) == 2
    assert "no such job" in capsys.readouterr().err

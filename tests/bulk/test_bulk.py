"""Jobs over very many videos, without a cluster: nothing twice, nothing lost."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_mllm import SlowFast, load
from slowfast_mllm.bulk.jobs import Captions, Classes, Memories, do_here
from slowfast_mllm.bulk.stages import (
    Answerer,
    VideoEncoder,
    VideoReader,
    Worker,
    as_text,
    software,
)
from slowfast_mllm.bulk.tries import Tries, guarded
from slowfast_mllm.tasks.caption import Captioning
from slowfast_mllm.tasks.labels import Asked
from slowfast_mllm.tasks.records import Record

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
FEW = {"num_frames": 2}
CAPTIONS = Captions(Captioning(max_new_tokens=4, sampling=FEW))
CLASSES = Classes([Asked("a red star"), Asked("a blue ring")], sampling=FEW)


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    return load(device="cpu")


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(CLIP.read_bytes()[:3000])
    return [
        Record("whole", str(CLIP)),
        Record("row 2", "", problem="table.csv:2: no name of a file."),
        Record("part", str(CLIP), 1.0, 2.5),
        Record("broken", str(broken)),
    ]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "timing"}


def frame(**columns: list[Any]) -> dict[str, Any]:
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


class Died(BaseException):
    """Stands for a process that was killed: nothing after it runs."""


def lived(path: Path, ids: list[str], deadly: set[str]) -> tuple[list[str], list[list[str]]]:
    """What a batch becomes when its workers are begun again, and what each of them looked at."""
    tries, looks = Tries(path), []

    def work(numbers: list[int]) -> list[str]:
        looks.append([ids[number] for number in numbers])
        if deadly & set(looks[-1]):
            raise Died
        return [ids[number] for number in numbers]

    for _ in range(20):
        try:
            return guarded(tries, "read", ids, work, lambda why: why), looks
        except Died:
            continue
    raise AssertionError("it goes on for ever")


def test_what_kills_its_process_twice_is_named_and_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    path, ids = tmp_path / "out.tries.jsonl", list("abcd")
    became, looks = lived(path, ids, {"b", "d"})
    assert (became[0], became[2]) == ("a", "c")
    assert all(became[n].startswith("quarantined: 2 processes died") for n in (1, 3))
    for deadly in "bd":
        assert sum(deadly in look for look in looks) == 2
    became, looks = lived(path, ids, {"b", "d"})  # another program goes on: nobody dies again
    assert became[1].startswith("quarantined")
    assert not any({"b", "d"} & set(look) for look in looks)
    path.write_text("".join(x for x in path.read_text().splitlines(True) if '"b"' not in x))
    assert lived(path, ids, set())[0][:3] == ["a", "b", "c"]


def test_a_worker_that_is_killed_by_somebody_else_blames_no_video(tmp_path: Path) -> None:
    tries, ids = Tries(tmp_path / "out.tries.jsonl"), ["a", "b"]

    def killed(numbers: list[int]) -> list[str]:
        raise Died

    with pytest.raises(Died):
        guarded(tries, "read", ids, killed, str)
    for _ in range(3):
        assert guarded(tries, "read", ids, lambda some: [ids[n] for n in some], str) == ids


@pytest.mark.parametrize("kind", ["captions", "dense", "classes", "memories"])
def test_workers_make_the_rows_that_one_machine_makes(
    kind: str, assistant: SlowFast, records: list[Record], tmp_path: Path
) -> None:
    dense = Captions(Captioning(dense=True, window=4.0, max_new_tokens=4, sampling=FEW))
    job = {"captions": CAPTIONS, "dense": dense, "classes": CLASSES}.get(kind)
    job = job or Memories(tmp_path / "out", sampling=FEW)
    output = tmp_path / "out.jsonl"
    progress = do_here(job, assistant, records, output)
    assert (progress.done, progress.failed) == (2, 2)
    here = {row["id"]: untimed(row) for row in lines(output)}
    causes = {row["id"]: row["error"] for row in lines(output.with_suffix(".errors.jsonl"))}
    for read_before in (False, True):
        batch = frame(record=[as_text(record) for record in records])
        if read_before:
            batch = VideoReader(sampling=FEW, job=job)(batch)
        done = Worker(job, how_loaded={"device": "cpu"}, expected=software())(batch)
        assert set(done) == {"record", "result", "error", "fatal"}
        assert list(done["fatal"]) == [""] * 4
        told = dict(zip([r.id for r in records], done["result"], strict=True))
        rows = {id: {"id": id, **json.loads(text)} for id, text in told.items() if text}
        assert {id: untimed(row) for id, row in rows.items()} == here
        errors = dict(zip([r.id for r in records], done["error"], strict=True))
        assert {id: why for id, why in errors.items() if why} == causes


def test_many_are_classified_and_indexed_once(assistant: SlowFast, tmp_path: Path) -> None:
    output, records = tmp_path / "out.jsonl", [Record(f"{n}/a b", str(CLIP)) for n in range(3)]
    do_here(CLASSES, assistant, records[:2], output)
    before = output.read_bytes()
    output.write_bytes(before + before[:50])  # a killed program's last line
    assert do_here(CLASSES, assistant, records, output).total == 1
    assert [row["id"] for row in lines(output)] == [record.id for record in records]
    assert output.read_bytes().startswith(before)
    other = replace(CLASSES, labels=[Asked("a red star", "Is it red?"), Asked("a blue ring")])
    with pytest.raises(ValueError, match="other settings"):
        do_here(other, assistant, records, output)
    job = Memories(tmp_path / "kept", "exact", FEW)
    job.folder.mkdir()
    (job.folder / "x.sfmem.1.2.partial").touch()  # of a program that was killed
    do_here(job, assistant, records, tmp_path / "kept.jsonl")
    rows = lines(tmp_path / "kept.jsonl")
    assert sorted(tmp_path / row["memory"] for row in rows) == sorted(job.folder.iterdir())
    asked = [assistant.ask(v, "What is it?", max_new_tokens=4).text for v in
             (tmp_path / rows[2]["memory"], assistant.encode(CLIP, **FEW))]  # fmt: skip
    assert asked[0] == asked[1]


def test_a_number_of_frames_that_was_chosen_is_no_other_setting(
    assistant: SlowFast, tmp_path: Path
) -> None:
    job = replace(CLASSES, sampling={"num_frames": "auto"})
    for total in (1, 0):
        found = do_here(job, assistant, [Record("a", str(CLIP), 0, 1)], tmp_path / "out.jsonl")
        assert found.total == total


def test_stages_answer_as_the_model_does_by_itself(
    assistant: SlowFast, records: list[Record]
) -> None:
    how = {"how_loaded": {"device": "cpu"}}
    batch = frame(
        id=["whole", "part", "broken"],
        video=[str(CLIP), str(CLIP), records[3].video],
        start=[None, 1.0, float("nan")],
        end=[None, 2.5, float("nan")],
        question=["What moves?", "", ""],
        label=[1, 2, 3],
    )
    answerer = Answerer("Which colour?", sampling=FEW, generation={"max_new_tokens": 6}, **how)
    read = VideoReader(sampling=FEW)(batch)
    encoded = VideoEncoder(sampling=FEW, **how)(read)
    assert "frames" not in encoded
    answers = [answerer(given) for given in (batch, read, encoded)]
    for answered in answers:
        assert list(answered["label"]) == [1, 2, 3]
        assert answered["answer"].tolist() == answers[0]["answer"].tolist()
        assert answered["answer"].tolist() == [
            assistant.ask(CLIP, "What moves?", **FEW, max_new_tokens=6).text,
            assistant.ask(CLIP, "Which colour?", **FEW, start=1, end=2.5, max_new_tokens=6).text,
            "",
        ]
        assert answered["error"].tolist()[:2] == ["", ""]
        assert "not a readable video" in answered["error"][2]


def test_what_is_no_videos_fault_is_no_row(records: list[Record], tmp_path: Path) -> None:
    batch = frame(record=[as_text(record) for record in records])
    other = Worker(CAPTIONS, expected=software() | {"torch": "1.0"})(batch)
    assert all("has torch" in why and "not 1.0" in why for why in other["fatal"])
    gone = Worker(CAPTIONS, model=str(tmp_path / "gone"))(batch)
    assert all("gone" in why for why in gone["fatal"])
    nowhere = Worker(Memories(tmp_path / "nowhere", sampling=FEW))(batch)
    assert all("cannot be written" in why for why in nowhere["fatal"])
    tries = Tries()
    for _ in range(2):  # twice killed as it loaded
        tries.begin("load", ["worker 7"])
        tries.begin_alone("load", "worker 7")
    dying = Worker(CAPTIONS, tries=tries, place="7")(batch)
    assert all("dies as it loads the model" in why for why in dying["fatal"])
    assert not any(other["result"].tolist() + gone["error"].tolist())


def test_tables_of_other_jobs(assistant: SlowFast, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from slowfast_mllm.tasks.export import export

    records = [Record("a", str(CLIP))]
    for job, column in ((CLASSES, "labels"), (Memories(tmp_path / "m", sampling=FEW), "memory")):
        do_here(job, assistant, records, tmp_path / f"{column}.jsonl")
        export(tmp_path / f"{column}.jsonl", tmp_path / f"{column}.parquet")
        (row,) = parquet.read_table(tmp_path / f"{column}.parquet").to_pylist()
        assert row[column] == lines(tmp_path / f"{column}.jsonl")[0][column]
        assert set(row) == {"id", "video", "duration", "model", column, "warnings"}

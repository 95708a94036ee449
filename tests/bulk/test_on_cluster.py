"""Jobs on a Ray cluster of this machine; without Ray there is nothing to test."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.data")
import ray
from ray import cloudpickle

from slowfast_mllm import load
from slowfast_mllm.bulk.jobs import Captions, Spans, do_here
from slowfast_mllm.bulk.ray import Plan, _line, _outcomes, do_on_cluster
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.tasks.caption import Captioning
from slowfast_mllm.tasks.many import Outcomes, Progress
from slowfast_mllm.tasks.records import Record

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
HOW = Captioning(max_new_tokens=4, sampling={"num_frames": 2})
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests


class Deadly(Captions):
    """Some videos kill who reads them, or who looks at them."""

    def spans(self, reader: Reader, record: Record) -> Spans:
        if "kills readers" in record.id:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().spans(reader, record)

    def run(self, assistant: Any, records: Any) -> Outcomes:
        records = list(records)
        if any("kills workers" in record.id for record in records):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(assistant, records)


def clips(count: int) -> list[Record]:
    return [Record(f"clip {n}", str(CLIP)) for n in range(count)]


def rows(path: Path) -> list[dict[str, Any]]:
    """In an order of their own, without times."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in found:
        row.pop("timing", None)
    return sorted(found, key=lambda row: row["id"])


def test_a_cluster_gives_the_rows_that_one_machine_gives(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(CLIP.parent)  # a name that leads from here is one for workers, too
    records = [*clips(3), Record("gone", "gone.mp4"), Record("near", CLIP.name, 1.0, 3.0)]
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    do_here(Captions(HOW), load(device="cpu"), records, here)
    how: dict[str, Any] = {"how_loaded": {"device": "cpu"}, "plan": Plan(workers=1, readers=1)}
    progress = do_on_cluster("local", Captions(HOW), records, there, **how)
    assert not ray.is_initialized()
    assert (progress.done, progress.failed) == (4, 1)
    assert rows(here) == rows(there)
    errors = [path.with_suffix(".errors.jsonl").read_text() for path in (here, there)]
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "no cluster answers there"),
        ("127.0.0.1:99999999", "no cluster answers there"),
        ("ray://10.0.0.1:10001", "on one of its machines"),
        ("cluster", "give local, auto or the host:port"),
    ],
)
def test_an_address_without_a_cluster_is_told_in_a_line(
    address: str, said: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=said) as told:
        do_on_cluster(address, Captions(HOW), clips(1), output)
    assert "\n" not in str(told.value)
    assert not output.exists()


def test_another_server_than_a_cluster_is_told_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 No\r\n")).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match="no cluster answers there"):
            do_on_cluster(address, Captions(HOW), clips(1), tmp_path / "out.jsonl")


def test_rows_that_come_twice_or_not_are_there_once() -> None:
    """After a death Ray may cut what it does again into other blocks."""
    pyarrow = pytest.importorskip("pyarrow")
    asked: list[list[str]] = []

    def stages(records: list[Record]) -> Any:
        asked.append([record.id for record in records])
        came = [records[0], records[0], *records[2:]]
        told = [{"record": json.dumps(r.__dict__), "result": "{}", "error": "", "fatal": ""}
                for r in came if r.id != "clip 3"]  # fmt: skip
        table = pyarrow.Table.from_pylist(told)
        return SimpleNamespace(iter_batches=lambda **how: iter([table]))

    found = list(_outcomes(Captions(HOW), stages, clips(4)))
    assert sorted(record.id for record, _ in found) == [record.id for record in clips(4)]
    assert asked == [["clip 0", "clip 1", "clip 2", "clip 3"], ["clip 1", "clip 3"], ["clip 3"]]
    (lost,) = [outcome for _, outcome in found if isinstance(outcome, Exception)]
    assert "came back from no worker" in str(lost)


def test_a_worker_without_this_package_is_told() -> None:
    """As Ray wraps it: the last error that it names has no words."""
    error = RuntimeError("a stack\n  of lines\nModuleNotFoundError: No module named 'slowfast'")
    error.__cause__ = Exception()
    assert _line(error) == "ModuleNotFoundError: No module named 'slowfast'"


@pytest.mark.slow
def test_videos_that_kill_are_named_and_all_others_are_there(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    deadly = [Record("kills readers", str(CLIP)), Record("kills workers", str(CLIP))]
    records = [*clips(5), *deadly]
    how: dict[str, Any] = {"how_loaded": {"device": "cpu"}, "plan": Plan(workers=1, readers=1)}
    progress = do_on_cluster("local", Deadly(HOW), records, output, **how)
    assert (progress.done, progress.failed) == (5, 2)
    assert [row["id"] for row in rows(output)] == [record.id for record in clips(5)]
    told = rows(output.with_suffix(".errors.jsonl"))
    assert [row["id"] for row in told] == [record.id for record in deadly]
    assert all("2 processes died of it" in row["error"] for row in told)
    progress = do_on_cluster("local", Deadly(HOW), records, output, **how)  # nobody dies again
    assert (progress.done, progress.failed) == (0, 2)
    assert rows(output.with_suffix(".errors.jsonl")) == told


@dataclass(frozen=True)
class Telling(Captions):
    """Says which processes look at videos."""

    folder: Path = Path()

    def run(self, assistant: Any, records: Any) -> Outcomes:
        (self.folder / f"{os.getpid()}.pid").touch()
        return super().run(assistant, records)


@pytest.mark.slow
def test_killed_workers_cost_no_row(tmp_path: Path) -> None:
    output, killed = tmp_path / "out.jsonl", []

    def kill(progress: Progress) -> None:
        if progress.done in (3, 20) and progress.done not in killed:
            killed.append(progress.done)
            *_, newest = sorted(tmp_path.glob("*.pid"), key=lambda file: file.stat().st_mtime_ns)
            os.kill(int(newest.stem), signal.SIGKILL)
            newest.unlink()

    job = Telling(HOW, folder=tmp_path)
    how: dict[str, Any] = {"how_loaded": {"device": "cpu"}, "on_progress": kill}
    progress = do_on_cluster("local", job, clips(64), output, plan=Plan(workers=2), **how)
    assert killed == [3, 20]
    assert (progress.done, progress.failed) == (64, 0)
    assert [row["id"] for row in rows(output)] == sorted(record.id for record in clips(64))


@pytest.mark.slow
def test_a_killed_driver_begun_again_loses_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    program = f"""if True:
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_on_cluster import HOW, Captions, Plan, clips, do_on_cluster
        def show(progress):
            if progress.done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        how = dict(how_loaded={{"device": "cpu"}}, plan=Plan(workers=1, readers=0))
        do_on_cluster("local", Captions(HOW), clips(12), Path({str(output)!r}), None,
                      on_progress=show, **how)
    """
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300)
    assert killed.returncode == -9, killed.stderr
    before = output.read_bytes()
    assert before.count(b"\n") == 5
    output.write_bytes(before + before.splitlines()[0][:40])
    progress = do_on_cluster(
        "local", Captions(HOW), clips(12), output, how_loaded={"device": "cpu"}
    )
    assert (progress.done, progress.total) == (7, 7)
    assert output.read_bytes().startswith(before)
    assert [row["id"] for row in rows(output)] == sorted(record.id for record in clips(12))

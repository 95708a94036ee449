"""The command line as a client of a server: it says what it says with a model of its own."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from serving import CLIP, serving

from slowfast_cli.main import main

Run = Callable[..., tuple[int, str, str]]
_TIMES = re.compile(r"\d+\.\d+")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A red square that moves over a blue ground for two seconds."""
    path = tmp_path_factory.mktemp("clips") / "square.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", 12)
        stream.width = stream.height = 96
        for number in range(24):
            picture = np.full((96, 96, 3), (20, 40, 160), np.uint8)
            picture[30:60, 2 * number : 2 * number + 30] = (220, 20, 20)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode(None))
    return str(path)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, assistant) -> Run:
    """Run the command in this process, with a loaded model: (exit code, stdout, stderr)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SLOWFAST_SERVER", raising=False)
    for module in ("answering", "caption"):
        monkeypatch.setattr(f"slowfast_cli.{module}.load_model", lambda *_, **__: assistant)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", *arguments])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


FEW = ("--num-frames", "4")


@pytest.mark.parametrize(
    "line",
    [
        "ask CLIP What?",
        "ask CLIP What? --num-frames 4 --evidence --stop moves",
        "describe CLIP --start 0.5 --fit pad --max-new-tokens 3",
        'ask CLIP Where? --num-frames 4 --schema {"enum":["left","right"]}',
        "ask CLIP What? --times --facts --num-frames 4",
        "ask CLIP What? --num-frames 3 --look-twice --evidence",
        "describe CLIP --num-frames 3 --look-twice",
        "caption CLIP --num-frames 4 --max-words 3",
        "caption CLIP --dense --window 1 --num-frames 2",
        "choose CLIP Where? Left. Right. --num-frames 4",
        "classify CLIP --labels camera-motion --num-frames 4",
        "classify CLIP red blue --single --num-frames 4",
        "score CLIP red --num-frames 4",
        "score CLIP --question Red? --num-frames 4",
        "ground CLIP red --fps 4 --threshold 0.4",
        "events CLIP --fps 4 --window 0.5",
        "compare CLIP CLIP Where? --num-frames 4",
        "facts CLIP",
        "facts FRAMES --frames-fps 6",
        "ask FRAMES What?",
    ],
)
def test_a_server_and_a_loaded_model_say_the_same(
    run: Run, url: str, clip: str, tmp_path: Path, line: str
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(frames / f"{number}.png")
    words = [{"CLIP": clip, "FRAMES": str(frames)}.get(w, w) for w in line.split()]
    here, there = run(*words), run(*words, "--server", url)
    assert (here[0], here[2]) == (there[0], there[2]) == (0, here[2])
    assert there[1].strip()
    assert here[1] == there[1]
    facts, told = (json.loads(run(*words, "--json", *more)[1]) for more in ((), ("--server", url)))
    assert facts.pop("timing").keys() == told.pop("timing").keys()
    told.get("settings", {}).pop("max_frames", None)  # a ceiling of the server
    assert rounded(told) == rounded(facts)
    assert list(told) == list(facts)


def rounded(value: Any) -> Any:
    """Without the last digits of numbers, which depend on what else is computed beside them, and
    without how long it took."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items() if name != "timing"}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize(
    "line",
    [
        "ask gone.mp4 What?",
        "ask BROKEN What?",
        "facts BROKEN",
        "ask FOLDER What?",
        "ask /dev/zero What?",
        "ask CLIP What? --num-frames 0",
        "ask CLIP What? --start 5 --end 3",
        "ask CLIP What? --start 500",
        "ask CLIP What? --temperature -1",
        "ask CLIP What? --stop ''",
        "ask CLIP ' '",
        "ask CLIP \udcff",
        "ask CLIP What? --clip",
        "choose CLIP Which? Red. Red.",
        "choose CLIP Which? Red.",
        "classify CLIP red red",
        "classify CLIP --labels gone.txt",
        "caption CLIP --window 3",
        "caption CLIP --prompt ' '",
        "events CLIP --window 0",
    ],
)
def test_what_is_refused_ends_in_the_same_way(
    run: Run, url: str, clip: str, tmp_path: Path, line: str
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    names = {"CLIP": clip, "BROKEN": str(broken), "FOLDER": str(tmp_path)}
    words = [names.get(word, word).strip("'") for word in line.split(" ")]
    here, there = run(*words), run(*words, "--server", url)
    assert here[0] == there[0] > 0
    assert here[1] == there[1] == ""
    assert "Traceback" not in there[2]
    if here[0] == 1:
        assert there[2].startswith("Error: ")
        assert there[2].count("\n") == 1
    if any(name in line for name in ("BROKEN", "FOLDER", "/dev/zero")):
        assert there[2] == here[2]


def test_a_folder_is_searched_at_a_server(run: Run, url: str, clip: str, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "within").mkdir(parents=True)
    for name in ("one.mp4", "within/copy.mp4"):
        shutil.copy(clip, folder / name)
    shutil.copy(CLIP, folder / "it's ünother.mp4")
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    (folder / "empty.mp4").touch()
    line = ("search", str(folder), "a square", "--threshold", "0.01", "--num-frames", "4")
    here, there = run(*line), run(*line, "--server", url)
    assert (there[0], there[1]) == (here[0], here[1]) == (0, here[1])
    told, known = (json.loads(run(*line, "--json", *at)[1]) for at in (("--server", url), ()))
    assert list(told) == list(known)
    assert told["searched"] == known["searched"] == 3
    assert len(told["hits"]) >= 2  # of one content
    same = ("hits", "best", "question", "video", "frames", "folder")
    assert rounded({name: told[name] for name in same}) == rounded({n: known[n] for n in same})
    assert {u["path"] for u in told["unread"]} == {"broken.mp4", "empty.mp4"}
    assert "file-" not in json.dumps(told)
    for file in httpx.get(f"{url}/v1/files").json()["data"]:
        httpx.delete(f"{url}/v1/files/{file['id']}")
    assert run(*line, "--server", url)[:2] == there[:2]  # they are sent again


def test_a_conversation_goes_on_at_a_server(run: Run, url: str, clip: str, monkeypatch) -> None:
    import io

    told = []
    for more in ((), ("--server", url)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("What moves?\nWhere to?\n"))
        told.append(run("chat", clip, *FEW, "--stream", *more))
    assert told[0] == told[1]
    assert len(told[1][1].splitlines()) == 2


def test_a_file_is_sent_once(run: Run, url: str, clip: str, tmp_path: Path) -> None:
    def files() -> set[str]:
        return {file["id"] for file in httpx.get(f"{url}/v1/files").json()["data"]}

    def ask(path: Path) -> None:
        assert run("ask", str(path), "What?", *FEW, "--server", url)[0] == 0

    own = tmp_path / "own.mp4"
    own.write_bytes(Path(clip).read_bytes() + b"\0" * 8)
    before = files()
    ask(own)
    (name,) = files() - before
    ask(own)
    ask(shutil.copy(own, tmp_path / "copy.mp4"))
    assert files() - before == {name}  # known by path, and by content
    httpx.delete(f"{url}/v1/files/{name}")
    ask(own)  # it is sent again
    (name,) = files() - before
    own.write_bytes(CLIP.read_bytes() + b"\0" * 8)
    ask(own)  # another video by the same name
    assert len(files() - before) == 2


def test_a_question_to_a_server_imports_nothing_of_weight(
    url: str, clip: str, tmp_path: Path
) -> None:
    program = (
        f"import sys\nsys.argv = ['slowfast', 'ask', {clip!r}, 'What?']\n"
        "from slowfast_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(*sorted(names & {'torch', 'transformers', 'numpy', 'av', 'PIL', 'httpx'}))"
    )
    home = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **home, "SLOWFAST_SERVER": url},
    )
    assert done.returncode == 0, done.stderr
    answer, loaded = done.stdout.splitlines()
    assert answer
    assert loaded == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ask CLIP What? --device cpu", "about a model that is loaded here"),
        ("ask CLIP What? --no-cache", "--no-cache"),
        ("score CLIP red --quantize int8", "--quantize"),
        ("ask CLIP What? --evidence-image x.png", "--evidence"),
        ("ask CLIP What? --num-beams 2", "num_beams"),
        ("describe CLIP --look-twice --device cpu", "--device"),
        ("search FOLDER red --index x", "--index"),
        ("search FOLDER red --device cpu", "--device"),
        ("caption CLIP -o out.jsonl", "leave out --output"),
    ],
)
def test_what_a_server_cannot_be_told_is_refused_by_name(
    run: Run, url: str, clip: str, line: str, told: str
) -> None:
    names = {"CLIP": clip, "FOLDER": str(Path(clip).parent)}
    code, out, err = run(*[names.get(word, word) for word in line.split()], "--server", url)
    assert (code, out) == (2, "")
    assert told in " ".join(err.replace("│", " ").split())


class _Fake(http.server.BaseHTTPRequestHandler):
    """A server that says what it is told to, a reply for each request."""

    replies: list[tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, str | None]]

    def _reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.replies.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _reply  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[tuple[str, type[_Fake]]]:
    handler = type("Handler", (_Fake,), {"replies": [], "seen": []})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_a_busy_server_is_asked_again(run: Run, fake, clip: str, monkeypatch) -> None:
    url, handler = fake
    monkeypatch.setenv("SLOWFAST_API_KEY", "sk-mine")
    busy = {"error": {"message": "busy", "param": None, "code": "busy"}}
    answer = {
        "model": "m",
        "choices": [{"message": {"content": "Red."}}],
        "slowfast": {"video": {"path": "?"}, "warnings": []},
    }
    handler.replies += [
        (200, {}, b'{"data": [{"id": "file-1"}]}'),
        (429, {"Retry-After": "0"}, json.dumps(busy).encode()),
        (200, {}, json.dumps(answer).encode()),
    ]
    assert run("ask", clip, "What?", "--server", url) == (0, "Red.\n", "")
    assert [path.partition("?")[0] for path, _ in handler.seen] == [
        "/v1/files",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]
    assert {key for _, key in handler.seen} == {"Bearer sk-mine"}
    handler.replies += [(429, {"Retry-After": "3600"}, json.dumps(busy).encode())]
    assert run("ask", clip, "What?", "--server", url)[::2] == (1, "Error: busy\n")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((200, {}, b"<html>"), "what answers there is no `slowfast serve`"),
        ((200, {"Content-Length": "100"}, b"{"), "no answer from a server there"),
        ((500, {}, b"oh"), "HTTP status 500"),
        ((401, {}, b'{"error": {"message": "no such key"}}'), "SLOWFAST_API_KEY"),
    ],
)
def test_what_is_no_answer_is_told_in_a_line(run: Run, fake, clip, reply, told: str) -> None:
    url, handler = fake
    handler.replies.append(reply)
    code, out, err = run("ask", clip, "What?", "--server", url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err


def test_no_server_and_no_url_are_told(run: Run, clip: str) -> None:
    code, _, err = run("ask", clip, "What?", "--server", "127.0.0.1:9")
    assert code == 1
    assert "start one with `slowfast serve`" in err
    for wrong in ("ftp://x", "http://", "http://x:99999"):
        assert run("ask", clip, "What?", "--server", wrong)[0] == 2


def test_a_server_of_short_answers_is_asked_without_a_number(
    run: Run, assistant, clip: str, tmp_path: Path
) -> None:
    with serving(assistant, tmp_path / "short", max_tokens=3) as (url, _):
        code, out, err = run("ask", clip, "What happens?", *FEW, "--server", url)
        assert (code, bool(out)) == (0, True), err
        for number in ("4", "256"):
            code, _, err = run("ask", clip, "What?", "--max-new-tokens", number, "--server", url)
            assert (code, f"--max-new-tokens={number}: answers here" in err) == (2, True), err
        with open(clip, "rb") as file:
            sent = httpx.post(f"{url}/v1/files", files={"file": file}, data={"purpose": "vision"})
        events = {"video": sent.json()["id"], "num_frames": 4}
        job = f"{url}/v1/jobs/events"
        assert httpx.post(job, json=events, timeout=60).status_code == 200
        refused = httpx.post(job, json=events | {"max_new_tokens": 4}, timeout=60)
        assert refused.json()["error"]["param"] == "max_new_tokens"

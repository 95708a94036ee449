"""The page as people use it, in a headless Chromium; the server behind it is the real one, and what
would take long or go wrong is put in the way of its requests."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import CLIP, serving

from slowfast_mllm import SlowFast

PAGE = Path(__file__).parents[2] / "src" / "slowfast_mllm" / "serve" / "page"
AXE = "axe-core@4.14.1"
LETTER = "Which letter or digit is shown?"


def test_the_page_is_small_whole_and_without_inline_code() -> None:
    assert sum(file.stat().st_size for file in PAGE.glob("*.*")) <= 60_000
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "style=" not in html
    assert "//" not in html
    english, chinese = json.loads((PAGE / "texts.json").read_text(encoding="utf-8")).values()
    assert list(names(english)) == list(names(chinese))


def names(texts: dict[str, Any]) -> Iterator[str]:
    for name, text in texts.items():
        yield name
        if isinstance(text, dict):
            yield from names(text)


def test_examples_are_those_of_the_folder_and_for_holders_of_a_key(http, assistant, tmp_path):
    listed = http.get("/v1/examples").json()["data"]
    assert [one["name"] for one in listed] == ["photos.mp4", "shapes.mp4"]
    assert http.get(listed[1]["url"]).content == CLIP.read_bytes()
    for name in ("README.md", "..%2Fpyproject.toml", "%2e%2e"):
        assert http.get(f"/v1/examples/{name}").status_code in (404, 405)
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    with serving(assistant, tmp_path, keys=keys, examples=CLIP.parent) as (address, _):
        for url in ("/v1/examples", listed[0]["url"]):
            assert httpx.get(address + url).status_code == 401
        assert httpx.get(address).status_code == 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    known = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, known)), None)
    with playwright.sync_playwright() as started:
        try:
            made = started.chromium.launch(
                executable_path=path,
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
        except playwright.Error:
            pytest.skip("no Chromium on this machine")
        yield made
        made.close()


@pytest.fixture
def opened(browser: Any, url: str) -> Iterator[Callable[..., Any]]:
    """Opens the page. At the end nothing may have failed in it but requests that were to."""
    contexts, faults = [], []

    def open_page(**how: Any) -> Any:
        context = browser.new_context(**{"locale": "en-US"} | how)
        context.set_default_timeout(60_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: elsewhere(request.url))
        page.goto(url)
        page.wait_for_selector("#examples:not([hidden])")
        return page

    def elsewhere(address: str) -> None:
        if not address.startswith((url, "blob:")):
            faults.append(address)

    yield open_page
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []


def take(page: Any, clip: Path | dict[str, Any] = CLIP) -> None:
    page.set_input_files("#file", clip)
    page.wait_for_selector("#facts:has-text('·')")


def ask(page: Any, question: str) -> Any:
    """The last turn, once it is done or refused."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    return last_turn(page)


def last_turn(page: Any) -> Any:
    page.wait_for_selector(".turn:last-of-type :is(.meta, .refused)")
    return page.locator(".turn").last


def facts(**more: Any) -> dict[str, Any]:
    """What every result tells, of the clip."""
    return {
        "model": "slowfast-mini",
        "software": {},
        "video": {"path": "shapes.mp4", "duration": 6.6, "fps": 30.0, "frames": 198},
        "frames": {"indices": [0, 60], "timestamps": [0.0, 2.0]},
        "settings": {},
        "timing": {"read": 0.5, "tokens": 3},
        "warnings": [],
        **more,
    }


def say(page: Any, *pieces: str, then: str = "data: [DONE]\n\n") -> list[Any]:
    """Have questions answered with these words; returns the bodies of requests, as they come."""
    bodies: list[Any] = []
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    end = {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "model": "slowfast-mini",
    }
    lines = [json.dumps(chunk) for chunk in [*chunks, {**end, "slowfast": facts()}]]

    def answer(route: Any) -> None:
        bodies.append(route.request.post_data_json)
        text = "".join(f"data: {line}\n\n" for line in lines) + then
        route.fulfill(body=text, content_type="text/event-stream")

    page.route("**/v1/chat/completions", answer)
    return bodies


def giving(found: dict[str, Any]) -> Callable[[Any], None]:
    """Have a job answered with this."""
    return lambda route: route.fulfill(json=facts(**found))


def now(page: Any) -> float:
    while page.evaluate("document.querySelector('video').seeking"):
        page.wait_for_timeout(10)
    return float(page.evaluate("document.querySelector('video').currentTime"))


def test_a_question_is_answered_and_what_was_read_is_shown(opened, assistant: SlowFast) -> None:
    page = opened()
    take(page)
    alone = assistant.ask(CLIP, LETTER, evidence=True)
    turn = ask(page, LETTER)
    assert turn.locator(".answer").inner_text() == alone.text
    top = alone.evidence.top[0]
    marks = page.locator("[data-lane=evidence] .mark")
    assert marks.count() == len(alone.evidence.top)
    labels = marks.evaluate_all("(marks) => marks.map((mark) => mark.ariaLabel)")
    assert f"{top.timestamp:.2f} s: {top.weight * 100:.1f}\u00a0% of what was read" in labels
    turn.locator(".evidence a", has_text=f"{top.timestamp:.2f} s").first.click()
    assert now(page) == pytest.approx(top.timestamp, abs=0.01)
    page.wait_for_selector("#cells-told:not([hidden])")
    drawn = page.evaluate("""() => {
        const canvas = document.querySelector("#cells");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return data.some((value, at) => at % 4 === 3 && value > 100);
    }""")
    assert drawn
    page.evaluate("document.querySelector('video').play()")
    page.wait_for_selector("#cells-told", state="hidden")
    thumbnails = page.evaluate("""() => {
        const canvas = document.querySelector("#thumbs");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, 1).data.some((v) => v > 0);
    }""")
    assert thumbnails


def test_times_in_answers_are_links_that_seek_and_lengths_are_not(opened) -> None:
    page = opened()
    bodies = say(page, "From 2.1 to 3.5 s, ", "and 0:04, for 3 seconds; ", "at 90 seconds never.")
    take(page)
    turn = ask(page, "When?")
    links = turn.locator(".answer a")
    assert links.all_inner_texts() == ["2.1", "3.5", "0:04"]
    for link, seconds in ((0, 2.1), (2, 4.0)):
        links.nth(link).click()
        assert now(page) == pytest.approx(seconds, abs=0.01)
    ask(page, "And then?")
    roles = [(turn["role"], turn["content"]) for turn in bodies[1]["messages"]]
    assert roles[1:] == [
        ("assistant", "From 2.1 to 3.5 s, and 0:04, for 3 seconds; at 90 seconds never."),
        ("user", "And then?"),
    ]
    assert roles[0][1][0]["video_url"]["url"].startswith("file-")
    page.click("#clear")
    assert page.locator(".turn").count() == 0
    ask(page, "第幾秒？")
    assert len(bodies[2]["messages"]) == 1


JOBS: dict[str, tuple[dict[str, Any], str, int]] = {
    "events": (
        {"events": [{"start": 0, "end": 2, "text": "A <b>moon</b>."},
                    {"start": 2, "end": 6.6, "text": "A heart."}]},
        "2.00 s to 6.60 s A heart.", 2,
    ),
    "cuts": (
        {"cuts": [{"time": 4.12, "start": 4.12, "end": 4.12, "kind": "cut", "score": 0.9}],
         "shots": [{"start": 0, "end": 4.12}, {"start": 4.12, "end": 6.6}]},
        "4.12 s cut", 2,
    ),
    "ground": (
        {"question": "Does the video show a moon?", "found": True,
         "spans": [{"start": 2, "end": 6.6, "score": 0.99}],
         "curve": [{"start": 0, "end": 3, "score": 0.1}, {"start": 3, "end": 6.6, "score": 0.99}]},
        "2.00 s to 6.60 s 99.0\u00a0% sure", 1,
    ),
    "facts": (
        {"cuts": None, "brightness": 0.4, "sound": None, "black": [{"start": 0, "end": 0.2}],
         "fades": [{"start": 0.2, "end": 0.8, "kind": "from black"}], "freezes": [],
         "shots": [{"start": 0, "end": 6.6, "brightness": 0.4, "camera": [
             {"kind": "pan", "direction": "left", "start": 0, "end": 6.6, "amount": 0.6}]}]},
        "Shot 1: pan left", 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_results_of_jobs_lie_on_the_timeline(opened, job: str) -> None:
    found, words, marks = JOBS[job]
    page = opened()
    page.route(f"**/v1/jobs/{job}", giving(found))
    take(page)
    page.fill("#question", "a moon" if job == "ground" else "")
    page.click(f"[data-job={job}]")
    turn = last_turn(page)
    assert words in turn.locator(".answer").inner_text()
    assert page.locator(".mark").count() == marks
    page.locator(".mark").last.click()
    start = {"events": 2.0, "cuts": 4.12, "ground": 2.0, "facts": 0.2}[job]  # of the last mark
    assert now(page) == pytest.approx(start, abs=0.01)
    if job == "events":
        with page.expect_download() as download:
            turn.get_by_text("Subtitles").click()
        assert (
            Path(download.value.path())
            .read_text(encoding="utf-8")
            .startswith("WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nA &lt;b&gt;moon&lt;/b&gt;.\n")
        )
        with page.expect_download() as download:
            turn.get_by_text("JSON").click()
        assert json.loads(Path(download.value.path()).read_text()) == facts(**found)


def refusing(status: int, message: str, **headers: str) -> Callable[[Any], None]:
    body = {"error": {"message": message, "type": "x", "param": None, "code": "busy"}}
    body["error"]["code"] = "busy" if status == 429 else "invalid_value"
    return lambda route: route.fulfill(status=status, json=body, headers=headers)


def test_what_goes_wrong_is_told(opened) -> None:
    page = opened()
    say(page, "Yes.")
    page.fill("#question", "Is there a moon?")
    page.press("#question", "Enter")
    assert "Choose a video first" in page.inner_text("#turns")
    take(page)
    chat = "**/v1/chat/completions"
    page.route(chat, refusing(400, "max_tokens: too many"), times=1)
    assert ask(page, "A?").locator(".refused").inner_text() == "max_tokens: too many"
    page.route(chat, lambda route: route.abort(), times=1)
    assert "cannot be reached" in ask(page, "B?").locator(".refused").inner_text()
    page.route(chat, lambda route: route.fulfill(status=502, body="<html>"), times=1)
    assert "502" in ask(page, "C?").locator(".refused").inner_text()
    page.route(chat, lambda route: route.fulfill(body='data: {"choices":[]}\n\n'), times=1)
    assert "broke" in ask(page, "D?").locator(".refused").inner_text()
    page.route(chat, refusing(429, "full", **{"Retry-After": "1"}), times=1)
    page.fill("#question", "E?")
    page.press("#question", "Enter")
    page.wait_for_selector(".turn .state:has-text('busy')")
    assert last_turn(page).locator(".answer").inner_text() == "Yes."
    page.route("**/v1/jobs/cuts", lambda route: None, times=1)  # no answer ever comes
    page.click("[data-job=cuts]")
    page.click("#stop")
    page.wait_for_selector(".turn:last-of-type:has-text('Stopped')")
    assert ask(page, "F?").locator(".answer").inner_text() == "Yes."


def test_how_far_reading_is_is_told_as_the_server_says_it(opened) -> None:
    page = opened()
    take(page)
    shares = iter([0.427, 0.9])

    def looked(route: Any) -> None:
        if route.request.method == "POST":  # the look ahead of questions
            route.fulfill(json={})
        else:
            route.fulfill(json={"looking": True, "read": next(shares, None)})

    page.route("**/v1/videos/*/memory", looked)
    page.route("**/v1/jobs/events", lambda route: None, times=1)  # no answer ever comes
    page.click("[data-job=events]")
    for said in ("Reading the video, 42 %", "Reading the video, 90 %", "The server works, 3 s"):
        page.wait_for_selector(f".turn .state:has-text('{said}')")
    page.click("#stop")
    page.wait_for_selector(".turn:has-text('Stopped')")


def test_a_file_that_the_server_forgot_is_sent_again(opened) -> None:
    page = opened()
    bodies = say(page, "Yes.")
    take(page)
    gone = {"error": {"message": "no such file", "code": "file_not_found"}}
    page.route("**/v1/chat/completions", lambda r: r.fulfill(status=404, json=gone), times=1)
    assert ask(page, "A?").locator(".answer").inner_text() == "Yes."
    assert len(bodies) == 1


def test_a_server_with_keys_asks_for_one(opened) -> None:
    page = opened()
    page.route("**/v1/models", refusing(401, "no such API key"), times=1)
    page.reload()
    page.wait_for_selector("#settings[open]")
    page.fill("[name=key]", "secret")
    with page.expect_request("**/v1/models") as again:
        page.press("[name=key]", "Enter")
    assert again.value.headers["authorization"] == "Bearer secret"
    page.wait_for_selector("#model:has-text('slowfast')")
    say(page, "Yes.")
    take(page)
    ask(page, "A?").get_by_text("Copy as curl").click()
    assert "$SLOWFAST_KEY" in page.evaluate("navigator.clipboard.readText()")


def test_what_the_browser_cannot_play_can_still_be_asked_about(opened, tmp_path: Path) -> None:
    page = opened()
    say(page, "At 2 seconds.")
    page.route("**/v1/jobs/events", giving(JOBS["events"][0]))
    page.set_input_files("#file", {"name": "a.avi", "mimeType": "", "buffer": b"RIFF, nearly"})
    page.wait_for_selector("#unplayable:not([hidden])")
    page.wait_for_selector(".said:has-text('a.avi: not a readable video')")  # before any question
    assert ask(page, "When?").locator(".answer").inner_text() == "At 2 seconds."
    page.click("[data-job=events]")
    last_turn(page)
    assert page.locator(".mark").count() == 2


def test_it_speaks_two_languages(opened) -> None:
    page = opened(locale="zh-TW")
    assert page.get_attribute("html", "lang") == "zh-Hant"
    assert page.inner_text("#choose") == "選擇檔案"
    say(page, "貓在第 2 秒出現，在 4 秒到 5 秒之間。")
    take(page)
    links = ask(page, "貓什麼時候出現？").locator(".answer a")
    assert links.all_inner_texts() == ["第 2 秒", "4", "5"]
    page.select_option("#language", "en")
    assert page.inner_text("#send") == "Ask"
    assert "Copy as curl" in page.inner_text(".turn")
    page.reload()
    page.wait_for_selector("#choose:has-text('Choose a file')")  # once its texts are there


def test_it_is_used_with_the_keyboard_alone(opened) -> None:
    page = opened()
    say(page, "At 4 s.")
    page.route("**/v1/jobs/events", giving(JOBS["events"][0]))

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(what) => document.activeElement.matches(what)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab_to("#examples li:last-child button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#facts:has-text('·')")
    page.wait_for_selector("#question:focus")
    page.keyboard.type("When?")
    page.keyboard.press("Enter")
    last_turn(page)
    tab_to("[data-job=events]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mark")
    tab_to(".answer a")
    page.keyboard.press("Enter")
    assert now(page) == pytest.approx(4, abs=0.01)
    tab_to(".mark")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert now(page) == pytest.approx(2, abs=0.01)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checker's source, from its package; it is no part of the project."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("axe-core is loaded by npm, which is not here")
    packed = subprocess.run(
        ["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, timeout=120, check=False
    )
    if packed.returncode:
        pytest.skip("axe-core cannot be loaded")
    with tarfile.open(next(folder.glob("*.tgz"))) as package:
        source = package.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def test_a_checker_of_accessibility_finds_nothing_serious(opened, axe: str) -> None:
    page = opened(color_scheme="light", viewport={"width": 1280, "height": 800})

    def findings() -> list[str]:
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        return [
            f"{one['id']}: {node['html']} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    assert findings() == []
    say(page, "At 4 s.")
    for job, (found, *_) in JOBS.items():
        page.route(f"**/v1/jobs/{job}", giving(found))
    take(page)
    ask(page, "When?")
    for number, job in enumerate(JOBS, 2):
        page.fill("#question", "a moon")
        page.click(f"[data-job={job}]")
        page.wait_for_selector(f".turn:nth-of-type({number}) .meta")
    page.route("**/v1/chat/completions", refusing(400, "no"), times=1)
    ask(page, "A?")
    assert findings() == []
    page.emulate_media(color_scheme="dark")
    assert findings() == []
    page.click("#open-settings")
    assert findings() == []


def test_nothing_sticks_out_on_a_phone(opened) -> None:
    page = opened(viewport={"width": 360, "height": 740})
    say(page, "x" * 300 + " at 4 s.")
    take(page, {"name": "v" * 150 + ".mp4", "mimeType": "video/mp4", "buffer": CLIP.read_bytes()})
    ask(page, "?" * 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".answer a").click()
    box = page.locator("video").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 400  # in sight while answers are read


@pytest.mark.parametrize(("button", "program"), [("curl", "bash"), ("Python", "python")])
def test_what_is_copied_runs(opened, tmp_path: Path, button: str, program: str) -> None:
    import sys

    if program == "python":
        pytest.importorskip("openai")
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    name = 'it\'s "one".mp4' if program == "python" else "it's one.mp4"
    shutil.copy(CLIP, tmp_path / name)
    page = opened()
    take(page, tmp_path / name)
    turn = ask(page, f"{LETTER} It's $HOME `id`")
    said = turn.locator(".answer").inner_text()
    turn.get_by_text(f"Copy as {button}").click()
    page.wait_for_selector("#status:has-text('Copied')")
    code = page.evaluate("navigator.clipboard.readText()")
    command = [sys.executable] if program == "python" else ["bash"]
    ran = subprocess.run(
        command, input=code, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert said in ran.stdout

"""OpenAI's own client, unchanged; and every job over HTTP, with the results of the command line."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import CLIP, asking

from slowfast_mllm import SlowFast
from slowfast_mllm.tasks import JOBS, result_type
from slowfast_mllm.tasks.look_twice import ask_twice

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as made:
        yield made


QUESTION = "What happens in the video?"


@pytest.fixture(scope="module")
def alone(assistant: SlowFast) -> str:
    return assistant.ask(CLIP, QUESTION).text


def data_url() -> str:
    return "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()


def test_whole_and_streamed_answers_are_those_of_the_library(client, uploaded, alone) -> None:
    whole = client.chat.completions.create(**asking(QUESTION, uploaded))
    choice = whole.choices[0]
    assert (choice.message.content, choice.finish_reason) == (alone, "stop")
    usage = whole.usage
    assert usage.prompt_tokens > usage.prompt_tokens_details.video_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    asked = asking(QUESTION, uploaded, stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(**asked))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == alone
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices
    assert chunks[-1].usage == usage


@pytest.mark.parametrize(
    "part",
    [
        lambda file: {"type": "video_url", "video_url": {"url": data_url()}},
        lambda file: {"type": "video_url", "video_url": file},
        lambda file: {"type": "file", "file": {"file_id": file}},
        lambda file: {"type": "input_video", "video_url": file},
    ],
)
def test_a_video_is_named_in_the_common_ways(client, uploaded, alone, part) -> None:
    words = {"type": "text", "text": QUESTION}
    messages = [{"role": "user", "content": [words, part(uploaded)]}]
    answer = client.chat.completions.create(model="default", messages=messages)
    assert answer.choices[0].message.content == alone


def test_a_conversation_is_the_one_of_the_library(client, assistant, uploaded) -> None:
    chat = assistant.chat(CLIP)
    first, second = chat.ask("How many objects are there?"), chat.ask("How does the camera move?")
    asked = asking("How many objects are there?", uploaded)
    asked["messages"] += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "How does the camera move?"},
    ]
    assert client.chat.completions.create(**asked).choices[0].message.content == second.text


def test_files_are_kept_listed_given_back_and_deleted(client) -> None:
    file = client.files.create(file=CLIP, purpose="vision")
    assert (file.filename, file.bytes) == ("shapes.mp4", CLIP.stat().st_size)
    assert file.id in [known.id for known in client.files.list()]
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == CLIP.read_bytes()
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="no such file"):
        client.files.retrieve(file.id)


def test_models_are_listed(client) -> None:
    (model,) = client.models.list()
    assert client.models.retrieve(model.id) == model
    assert client.models.retrieve("slowfast-mini") == model  # its id says "(packaged)", too


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "gpt-9"}, "no such model"),
        ({"temperature": 7}, "temperature"),
        ({"max_tokens": 10**7}, "max_tokens"),
        ({"max_completion_tokens": 10**7}, "max_completion_tokens="),
        ({"unheard_of": 1}, "unheard_of: not known here"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "Hello?"}]}, "about one video or picture"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "smell"),
        ({"mm_processor_kwargs": {"num_frames": 10**6}}, "num_frames"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(http, uploaded, change, told) -> None:
    answer = http.post("/v1/chat/completions", json=asking("What?", uploaded) | change)
    error = answer.json()["error"]
    assert answer.status_code in (400, 404)
    assert told in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "content", "kind", "status", "told"),
    [
        ("POST", "/v1/chat/completions", '{"a": 1', "application/json", 400, "no JSON (Expecting"),
        ("POST", "/v1/jobs/ask", "{}", "application/x-www-form-urlencoded", 400, "Content-Type"),
        ("POST", "/v1/embeddings", "{}", "application/json", 404, "not known here"),
        ("POST", "/chat/completions", "{}", "application/json", 404, "not known here"),
        ("GET", "/v1/chat/completions", "", "text/plain", 405, "not with this method"),
        ("PUT", "/v1/files/file-1", "", "text/plain", 405, "not with this method"),
    ],
)
def test_what_was_sent_wrongly_is_told(http, method, path, content, kind, status, told) -> None:
    answer = http.request(method, path, content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] is None


@pytest.mark.parametrize(
    ("path", "change", "param", "code"),
    [
        ("chat/completions", {"tools": [{}]}, "tools", "unsupported_parameter"),
        ("chat/completions", {"top_k": 5}, "top_k", "unsupported_parameter"),
        ("chat/completions", {"logit_bias": {"1": 2}}, "logit_bias", "unsupported_parameter"),
        ("chat/completions", {"unheard_of": 1}, "unheard_of", "unknown_parameter"),
        ("chat/completions", {"temperature": "hot"}, "temperature", "invalid_value"),
        ("chat/completions", {"stop": 3}, "stop", "invalid_value"),
        ("chat/completions", asking(" ", "file-1"), "messages", "empty_question"),
        ("responses", {"tools": [{}]}, "tools", "unsupported_parameter"),
        ("responses", {"input": 7}, "input", "invalid_value"),
        ("responses", {"input": ""}, "input", "empty_question"),
        ("responses", {"input": []}, "input", "invalid_value"),
        ("responses", {"input": "What?"}, "input", "unsupported_media_count"),
        ("responses", {"input": [{"role": "x"}]}, "input[0].role", "invalid_value"),
        ("responses", {"max_output_tokens": 10**6}, "max_output_tokens", "invalid_value"),
        ("responses", {"text": {"format": {"type": "x"}}}, "text.format", "invalid_value"),
        ("jobs/ask", {"question": " "}, "question", "empty_question"),
        ("jobs/score", {"what": ""}, "what", "empty_question"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_the_client_sent_and_has_a_code(
    http, path: str, change: dict[str, Any], param: str, code: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "chat/completions": asking("What?", "file-gone"),  # refused before anything is read
        "responses": {
            "instructions": "Be brief.",
            "input": [{"role": "user", "content": ["What?", {"type": "video", "url": "file-1"}]}],
        },
    }  # fmt: skip
    body = bodies.get(path, {"video": "file-gone"}) | change
    answer = http.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["message"].startswith(param)


def test_what_asks_for_nothing_is_no_fault(client, http, uploaded: str, alone: str) -> None:
    neutral = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "auto",
        "modalities": ["text"],
    }
    answer = client.chat.completions.create(**asking(QUESTION, uploaded, **neutral))
    assert answer.choices[0].message.content == alone


JOB_ARGUMENTS: dict[str, dict[str, Any]] = {
    "ask": {"question": QUESTION, "evidence": True},
    "caption": {"dense": True, "window": 4.0, "num_frames": 4},
    "choose": {"question": "How does the camera move?", "options": ["Left.", "Right."]},
    "classify": {"labels": ["a red star", "a blue square"]},
    "describe": {"num_frames": "auto"},
    "events": {"num_frames": 8},
    "facts": {},
    "ground": {"words": "a star", "num_frames": 8},
    "score": {"what": "a star"},
}


@pytest.mark.parametrize("job", JOB_ARGUMENTS)
def test_a_job_gives_its_typed_result(http: httpx.Client, uploaded: str, job: str) -> None:
    answer = http.post(f"/v1/jobs/{job}", json={"video": uploaded, **JOB_ARGUMENTS[job]})
    told = answer.json()
    assert answer.status_code == 200, told
    assert told["video"]["path"] == "shapes.mp4"
    if job in JOBS:
        result_type(job).model_validate(told)
    else:
        assert told["answer"]
    if job == "ask":
        assert len(told["evidence"]["weights"]) == len(told["frames"]["indices"])


def test_two_videos_are_compared(http: httpx.Client, uploaded: str) -> None:
    body = {"video": uploaded, "other": uploaded, "num_frames": 4, "max_new_tokens": 3}
    answer = http.post("/v1/jobs/compare", json=body)
    told = answer.json()
    assert answer.status_code == 200, told
    result_type("compare").model_validate(told)
    assert told["said"][0] == told["said"][1]
    assert {told[name]["path"] for name in ("video", "other")} == {"shapes.mp4"}
    assert [facts["video"]["path"] for facts in told["facts"]] == ["shapes.mp4"] * 2
    gone = http.post("/v1/jobs/compare", json={**body, "other": "file-gone"})
    assert gone.status_code in (400, 404)


def test_videos_are_searched_and_named_as_the_client_names_them(http, uploaded: str) -> None:
    gone = http.post("/v1/jobs/search", json={"videos": ["file-gone"], "words": "a star"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "file_not_found")
    for named in ({}, {"videos": [uploaded], "folder": "file:///"}):
        answer = http.post("/v1/jobs/search", json={"words": "a star", **named})
        assert answer.json()["error"]["param"] == "videos"
    body = {"videos": [uploaded, data_url()], "words": "a moon", "num_frames": 4, "threshold": 0.01}
    answer = http.post("/v1/jobs/search", json=body)
    told = answer.json()
    assert answer.status_code == 200, told
    result_type("search").model_validate(told)
    assert uploaded in [hit["path"] for hit in told["hits"]]
    assert told["searched"] == len(told["hits"]) == 2
    again = http.post("/v1/jobs/search", json=body | {"words": "a car"}).json()
    assert (again["added"], again["unread"]) == ([], [])


def test_a_second_look_is_taken_over_http(http, assistant: SlowFast, uploaded: str) -> None:
    asked: dict[str, Any] = {"num_frames": 10, "max_new_tokens": 20}
    body = {"video": uploaded, "question": "Which letter or digit is shown?", "look_twice": True}
    whole = http.post("/v1/jobs/ask", json=body | asked).json()
    alone = ask_twice(assistant, CLIP, body["question"], **asked)
    assert (whole["answer"], whole["video"]["path"]) == (alone.text, "shapes.mp4")
    assert whole["looks"] == [look.to_dict() for look in alone.looks or []]
    earlier = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]
    refused = http.post("/v1/jobs/ask", json=body | {"messages": earlier})
    assert refused.json()["error"]["param"] == "look_twice"


def test_jobs_are_listed_with_their_schemas(http: httpx.Client) -> None:
    listed = {job["id"]: job for job in http.get("/v1/jobs").json()["data"]}
    assert {*JOB_ARGUMENTS, "compare", "cuts", "search"} == set(listed)
    assert listed["ground"]["arguments"]["properties"]["words"]
    assert listed["ground"]["result"]["properties"]["spans"]


def test_a_file_that_is_no_video_is_told_by_its_name(http: httpx.Client, url: str) -> None:
    sent = {"file": ("odd.mp4", b"no video at all", "video/mp4")}
    name = http.post("/v1/files", files=sent).json()["id"]
    answer = http.post("/v1/chat/completions", json=asking("What?", name))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("odd.mp4: ")
    streamed = http.post("/v1/chat/completions", json=asking("What?", name, stream=True))
    assert (streamed.status_code, streamed.json()) == (400, answer.json())


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_newer_api_says_the_same(client, uploaded, alone) -> None:
    parts = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_video", "video_url": uploaded},
    ]
    asked = {"model": "default", "input": [{"role": "user", "content": parts}]}
    whole = client.responses.create(**asked)
    assert (whole.status, whole.output_text) == ("completed", alone)
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == alone
    assert (events[-1].type, events[-1].response.usage) == ("response.completed", whole.usage)
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_file_comes_in_parts_and_what_is_missing_is_told(client, tmp_path) -> None:
    data = CLIP.read_bytes()
    about = {"filename": "parts.mp4", "bytes": len(data), "mime_type": "video/mp4"}
    upload = client.uploads.create(**about, purpose="vision")
    first, second = (
        client.uploads.parts.create(upload.id, data=part).id
        for part in (data[:100_000], data[100_000:])
    )
    with pytest.raises(openai.BadRequestError, match="send the rest"):
        client.uploads.complete(upload.id, part_ids=[first])
    file = client.uploads.complete(upload.id, part_ids=[first, second]).file
    assert client.files.content(file.id).read() == data


def test_a_video_is_looked_at_ahead(http: httpx.Client, uploaded: str) -> None:
    ahead = {"num_frames": 5, "start": 1.0}
    told = http.post(f"/v1/videos/{uploaded}/memory", json=ahead).json()
    assert len(told["frames"]["indices"]) == 5
    answer = http.post("/v1/jobs/ask", json={"video": uploaded, "question": QUESTION, **ahead})
    assert answer.json()["timing"]["encode"] == 0


def test_several_answers_are_drawn_and_a_seed_repeats_them(client, uploaded) -> None:
    asked = asking(QUESTION, uploaded, n=3, temperature=1.5, seed=3, max_tokens=12)
    first, second = (client.chat.completions.create(**asked).choices for _ in range(2))
    texts = [choice.message.content for choice in first]
    assert texts == [choice.message.content for choice in second]
    assert len(set(texts)) > 1
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert {c.choices[0].index for c in chunks if c.choices} == {0, 1, 2}


def test_answers_stop_where_they_are_told_to_and_say_how_likely_they_are(
    client, uploaded, alone
) -> None:
    word = alone.split()[2]
    asked = asking(QUESTION, uploaded, stop=word, logprobs=True, top_logprobs=3)
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.message.content == alone.split(word)[0].strip()
    for token in choice.logprobs.content:
        best, *others = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, token.logprob)
        assert len(others) == 2
        assert best.logprob >= others[0].logprob >= others[1].logprob
    short = client.chat.completions.create(**asking(QUESTION, uploaded, max_tokens=2)).choices[0]
    assert short.finish_reason == "length"


def test_a_job_streams_its_answer(http: httpx.Client, uploaded: str, alone: str) -> None:
    body = {"video": uploaded, "question": QUESTION, "stream": True}
    events = [
        json.loads(line.removeprefix("data: "))
        for line in http.post("/v1/jobs/ask", json=body).text.splitlines()
        if line.startswith("data: {")
    ]
    assert "".join(event.get("text", "") for event in events) == alone
    assert events[-1]["answer"]["answer"] == alone


def test_an_answer_fits_a_schema(client, http: httpx.Client, uploaded: str) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    named = {"type": "json_schema", "json_schema": {"name": "objects", "schema": schema}}
    for stream in (False, True):
        asked = asking("How many?", uploaded, response_format=named, stream=stream, max_tokens=40)
        answer = client.chat.completions.create(**asked)
        if stream:
            text = "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
        else:
            text = answer.choices[0].message.content
        assert isinstance(json.loads(text)["count"], int)
    body = {"video": uploaded, "question": "How many?", "schema": schema, "max_new_tokens": 40}
    assert isinstance(http.post("/v1/jobs/ask", json=body).json()["data"]["count"], int)
    named["json_schema"]["schema"] = {"type": "nonsense"}
    with pytest.raises(openai.BadRequestError, match="schema"):
        client.chat.completions.create(**asking("What?", uploaded, response_format=named))

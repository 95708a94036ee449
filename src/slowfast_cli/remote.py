"""A running `slowfast serve` in place of a model that is loaded here.

Only the standard library is imported: a question to a server costs no import of torch. A file is
sent once; uploads.py remembers under which name the server keeps it.
"""

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from slowfast_cli.answering import wrong_usage
from slowfast_cli.loading import local_path
from slowfast_cli.terminal import say
from slowfast_cli.uploads import Upload

_SECONDS_TO_CONNECT = 10
_SECONDS = 900  # that a server may be silent: it may be reading hours of video
_TRIES, _LONGEST_WAIT = 6, 30.0  # where it says that it is busy
_CHUNK = 1 << 20


class Told(dict[str, Any]):
    """An object of the server's JSON, read like the typed result that it was made of."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self) -> dict[str, Any]:
        """The object itself, in the server's order."""
        return self


class ToldAnswer(Told):
    """An answer, read like `slowfast_mllm.Answer`."""

    @property
    def text(self) -> str:
        """What was answered."""
        return str(self["answer"])

    @property
    def thought(self) -> str | None:
        """What the model thought before."""
        return self.get("thought")

    @property
    def problem(self) -> str | None:
        """Why there is no answer."""
        return self.get("problem")

    def __getattr__(self, name: str) -> Any:
        return self.get(name)  # what is not told, e.g. evidence, is None there, too

    def to_dict(self) -> dict[str, Any]:
        """The fields of `--json`."""
        return self


class RefusedError(ValueError):
    """What a server does not do, in its words; `param` is the argument that is wrong, if one is."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class _UnknownFileError(RefusedError):
    """No video is called like this there, or not any more."""


class Server:
    """A server by its URL.

    Args:
        url: with or without scheme and `/v1`.

    Raises:
        BadParameter: it is no URL of a server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise typer.BadParameter(f"--server {url}: give a URL, e.g. http://127.0.0.1:8000.")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = partial(kind, parts.hostname, port, timeout=_SECONDS_TO_CONNECT)
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.url = f"{parts.scheme}://{parts.netloc}{self._prefix}"
        self._headers = {"Connection": "close"}  # an idle one may be gone at the next question
        if key := os.environ.get("SLOWFAST_API_KEY"):
            self._headers["Authorization"] = f"Bearer {key}"

    def job(self, job: str, video: str, arguments: dict[str, Any]) -> Told:
        """What a job finds in a video.

        Args:
            arguments: of the job's function, and fields of `Sampling`; `other` is a second video.

        Raises:
            RefusedError: the server refuses; what is wrong with a video is among its reasons.
            OSError: it does not answer.
        """
        path = f"/v1/jobs/{job}"
        if (other := arguments.get("other")) is None:
            return self.about(
                video, lambda name: self.json("POST", path, {"video": name, **arguments})
            )

        def with_other(name: str) -> Told:
            both = {**arguments, "video": name}
            told = self.about(
                other, lambda second: self.json("POST", path, both | {"other": second})
            )
            told["other"]["path"] = told["video"]["path"]  # which `about` takes for the other's
            return told

        told = self.about(video, with_other)
        for facts, clip in zip(told["facts"] or [], (told["video"], told["other"]), strict=False):
            facts["video"]["path"] = clip["path"]
        return told

    def ask_twice(
        self,
        video: str,
        question: str,
        on_text: Callable[[str], None] | None = None,
        on_thought: Callable[[str], None] | None = None,
        **options: Any,
    ) -> ToldAnswer:
        """See `slowfast_mllm.tasks.look_twice.ask_twice`; it is done there.

        Raises:
            BadParameter: the server refuses one of the options.
        """
        asked = {name: value for name, value in options.items() if value is not None}
        try:
            told = self.job("ask", video, {"question": question, "look_twice": True, **asked})
        except RefusedError as refusal:
            if refusal.param not in asked:
                raise
            with wrong_usage():
                raise
        told["looks"] = list(map(ToldAnswer, told["looks"]))
        answer = ToldAnswer(told)
        if on_thought and answer.thought:
            on_thought(answer.thought)
        if on_text:
            on_text(answer.text)
        return answer

    def search(self, folder: Path, arguments: dict[str, Any]) -> Told:
        """Which videos of a folder here show something; see `slowfast_mllm.tasks.search`.

        Args:
            arguments: of `search_folder`, and fields of `Sampling`.

        Raises:
            ValueError: the folder holds no video, none can be read, or the server refuses.
        """
        from slowfast_mllm.tasks.records import read_records

        paths = [record.video for record in read_records([folder])]
        try:
            return self._searched(folder, paths, arguments, lambda upload: upload.known)
        except _UnknownFileError:  # one has expired, or the server has begun anew
            return self._searched(folder, paths, arguments, lambda upload: None)

    def _searched(
        self,
        folder: Path,
        paths: list[str],
        arguments: dict[str, Any],
        known: Callable[[Upload], str | None],
    ) -> Told:
        names, unread = self._names(folder, paths, known)
        told = self.json("POST", "/v1/jobs/search", arguments | {"videos": [*names]})
        text = json.dumps(told)
        for name, (path, *_) in names.items():
            text = text.replace(name, json.dumps(path)[1:-1])
        told = json.loads(text, object_hook=Told)
        for path, *copies in names.values():
            told["searched"] += len(copies) if path not in [u.path for u in told.unread] else 0
            same = [hit for hit in told.hits if hit.path == path]
            told["hits"] += [Told(hit, path=copy) for hit in same for copy in copies]
        told["hits"] = sorted(told.hits, key=lambda hit: -hit.score)[: arguments["top"]]
        told["video"]["path"] = str(folder / told["video"]["path"])
        told["folder"], told["unread"] = str(folder), [*told["unread"], *unread]
        return told

    def _names(
        self, folder: Path, paths: list[str], known: Callable[[Upload], str | None]
    ) -> tuple[dict[str, list[str]], list[Told]]:
        """The server's names of files -> paths within a folder of those with that content; and
        files that it does not take."""
        names: dict[str, list[str]] = {}
        unread = []
        for path in paths:
            within = os.path.relpath(path, folder)
            try:
                upload = Upload(path, self.url)
                names.setdefault(known(upload) or self._sent(upload), []).append(within)
            except ValueError as error:
                unread.append(Told(path=within, error=str(error)))
        if not names:
            raise ValueError(f"{folder}: no video can be sent; first: {unread[0].error}")
        return names, unread

    def about(self, video: str, ask: Callable[[str], Told]) -> Told:
        """Ask about a video, which is sent if the server does not have it.

        Args:
            video: a path or a URI; of files that are not here the server says what it does.
            ask: called with the server's name of it; what it returns tells of the `video`.
        """
        path = local_path(video)
        if not os.path.exists(path):
            return ask(video)
        if path.endswith(".sfmem"):
            raise ValueError(
                f"{path}: a memory is asked where its model is loaded; leave out --server, or name "
                "the video itself."
            )
        upload = Upload(path, self.url)
        try:
            told = self._known(upload, ask) or ask(self._sent(upload))
        except RefusedError as refused:  # which knows a file by its last name only
            message = str(refused)
            if message.startswith(os.path.basename(path)):
                refused.args = (path + message.removeprefix(os.path.basename(path)),)
            raise
        told["video"]["path"] = path
        return told

    def _known(self, upload: Upload, ask: Callable[[str], Told]) -> Told | None:
        """None where it has expired, or the server has begun anew."""
        with suppress(_UnknownFileError):
            return ask(upload.known) if upload.known else None
        return None

    def _sent(self, upload: Upload) -> str:
        """The server's name of a file: found by its content, or of one that is sent now."""
        with upload.file() as (path, digest):
            same = self.json("GET", f"/v1/files?sha256={digest}")["data"]
            name = str((same[0] if same else self._send(path))["id"])
        upload.remember(name)
        return name

    def _send(self, path: Path) -> Told:
        boundary = os.urandom(16).hex()
        name = re.sub(r'[\x00-\x1f"\\]', "_", path.name.encode(errors="replace").decode())
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            with path.open("rb") as file:
                while piece := file.read(_CHUNK):
                    yield piece
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
        }
        return self._read("POST", "/v1/files", body, headers)

    def json(self, method: str, path: str, content: Any = None) -> Told:
        """The JSON object that answers a request with JSON, or nothing, in it."""
        return self._read(method, path, *_as_json(content))

    def events(self, path: str, content: Any) -> Iterator[Told]:
        """The JSON objects of a stream of server-sent events."""
        with self._answered():
            for line in self._open("POST", path, *_as_json(content)):
                if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                    event = json.loads(line[5:], object_hook=Told)
                    if "error" in event:
                        raise _refused(0, event)
                    yield event

    def _read(self, *request: Any) -> Told:
        with self._answered():
            content = _content(self._open(*request).read())
        if not isinstance(content, Told):
            raise OSError(f"{self.url}: what answers there is no `slowfast serve`.")
        return content

    def _open(
        self, method: str, path: str, body: Callable[[], Any], headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        """Send until the server is not busy any more; `body` is called for each try."""
        for left in reversed(range(_TRIES)):
            connection = self._connection()
            connection.connect()
            connection.sock.settimeout(_SECONDS)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused: the answer says why
                connection.request(method, self._prefix + path, body(), self._headers | headers)
            reply = connection.getresponse()
            if reply.status < 400:
                return reply
            wait = reply.headers.get("Retry-After", "")
            refused = _refused(reply.status, _content(reply.read()))
            if not (left and wait.isdecimal() and float(wait) <= _LONGEST_WAIT):
                raise refused
            time.sleep(float(wait))
        raise AssertionError  # the last try returns or raises

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """That there is no answer, or half of one, is told in one line."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OSError(
                f"{self.url}: no answer from a server there ({cause}); start one with "
                "`slowfast serve`, or leave out --server."
            ) from error


class RemoteConversation:
    """Turns about one video at a server; see `slowfast_mllm.engine.protocol.Conversation`."""

    def __init__(
        self, server: Server, video: str, model: str | None, sampling: dict[str, Any], warn: bool
    ) -> None:
        """
        Args:
            sampling: fields of `Sampling` that were given.
            warn: tell once, on stderr, what is wrong with the video.
        """
        self._server, self._video, self._warn = server, video, warn
        self._asked = {"mm_processor_kwargs": sampling, **({"model": model} if model else {})}
        self._said: list[dict[str, str]] = []

    def ask(
        self,
        question: str,
        on_text: Callable[[str], None] | None = None,
        on_thought: Callable[[str], None] | None = None,
        **generation: Any,
    ) -> ToldAnswer:
        """The next turn; `generation` are fields of `Generation`.

        Raises:
            BadParameter: the server refuses one of them.
        """
        turns = [*self._said, {"role": "user", "content": question}]
        asked = self._asked | {k: v for k, v in generation.items() if v is not None}
        if (most := asked.pop("max_new_tokens", None)) is not None:
            asked["max_tokens"] = most
        if asked["num_beams"] == 1:  # which servers have no word for
            del asked["num_beams"]
        if schema := asked.pop("schema", None):
            held = {"name": "answer", "schema": schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": held}
        told = {"content": on_text, "reasoning_content": on_thought}
        try:
            answer = self._server.about(
                self._video, lambda name: self._answered(_about(name, turns), asked, told)
            )
        except RefusedError as refusal:
            if refusal.param not in asked.keys() - self._asked.keys():
                raise
            refusal.args = (str(refusal).replace("max_tokens=", "max_new_tokens=", 1),)
            with wrong_usage():
                raise
        if self._warn:
            self._warn = False
            for warning in answer["warnings"]:
                say(f"Warning: {warning}", err=True)
        if "problem" not in answer:
            self._said = [*turns, {"role": "assistant", "content": answer["answer"]}]
        return ToldAnswer(answer)

    def _answered(
        self,
        messages: list[Any],
        asked: dict[str, Any],
        told: dict[str, Callable[..., None] | None],
    ) -> Told:
        """The answer; each piece of what `told` names is passed on as it comes."""
        path, content = "/v1/chat/completions", {**asked, "messages": messages}
        if not any(told.values()):
            reply = self._server.json("POST", path, content)
            text = reply["choices"][0]["message"]["content"]
            return _answer(text, reply["model"], reply["slowfast"])
        text = ""
        for event in self._server.events(path, {**content, "stream": True}):
            last, delta = event, event["choices"][0]["delta"]
            text += delta.get("content") or ""
            for kind, tell in told.items():
                if tell is not None and delta.get(kind):
                    tell(delta[kind])
        return _answer(text.strip(), last["model"], last["slowfast"])


def _answer(text: str, model: str, beside: Told) -> Told:
    """As `Answer.to_dict` has it."""
    beside.pop("fit", None)
    return Told(answer=text, model=model, **beside)


def _about(video: str, turns: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The turns as OpenAI's messages, the first of them with the video."""
    shown = {"type": "video_url", "video_url": {"url": video}}
    content = [shown, {"type": "text", "text": turns[0]["content"]}]
    return [{"role": "user", "content": content}, *turns[1:]]


def _as_json(content: Any) -> tuple[Callable[[], bytes | None], dict[str, str]]:
    """What `Server._open` takes; labels that have questions of their own are objects."""
    if content is None:
        return lambda: None, {}
    text = json.dumps(content, default=vars).encode()
    return lambda: text, {"Content-Type": "application/json"}


def _content(data: bytes) -> Any:
    try:
        return json.loads(data, object_hook=Told)
    except ValueError:
        return None


def _refused(status: int, content: Any) -> RefusedError:
    error = content.get("error") if isinstance(content, Told) else None
    if not isinstance(error, Told):
        return RefusedError(f"the server answered with HTTP status {status}.")
    message = str(error.get("message"))
    if status == 401:
        message += " (the key is read from SLOWFAST_API_KEY)"
    kind = _UnknownFileError if error.get("code") == "file_not_found" else RefusedError
    return kind(message, error.get("param"))

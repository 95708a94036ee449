"""What the verbs that answer share: which options they have, and how they load and print."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from slowfast_cli.loading import (
    load_model,
    memories_folder,
    refuse_missing,
    take_note,
    working,
)
from slowfast_cli.options import (
    REPLY,
    Cache,
    Clip,
    Compile,
    Device,
    Dtype,
    End,
    Fit,
    Fps,
    FramesFps,
    Json,
    Model,
    NumFrames,
    Quantize,
    Schema,
    Server,
    Start,
    Yes,
)
from slowfast_cli.terminal import Thinking, say, say_json

if TYPE_CHECKING:
    from slowfast_cli.remote import RemoteConversation, ToldAnswer
    from slowfast_mllm.engine.answer import Answer
    from slowfast_mllm.engine.protocol import Assistant, Conversation
    from slowfast_mllm.engine.quick import QuickConversation
    from slowfast_mllm.tasks.results import Result


def tell_looks(answer: "Answer | ToldAnswer") -> None:
    """In words, what a second look took in."""
    looks = answer.looks or []
    if len(looks) < 2:
        say("Looked once: nothing comes and goes between the frames, and none was read most.")
        return
    if looks[0].text != answer.text:
        say(f"First answer: {looks[0].text}")
    told = ", ".join(f"{frame.timestamp:.2f} s ({frame.why})" for frame in looks[1].added)
    say(f"Looked again, also at: {told}")


@dataclass(frozen=True)
class _Sampling:
    """Which frames are looked at."""

    num_frames: NumFrames = None
    fps: Fps = None
    start: Start = None
    end: End = None
    frames_fps: FramesFps = None
    fit: Fit = None
    clip: Clip = False

    @property
    def sampling(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(_Sampling)}


@dataclass(frozen=True)
class Looking(_Sampling):
    """How a video is looked at: the options of every verb that compares what is given."""

    json: Json = False
    model: Model = None
    device: Device = None
    dtype: Dtype = None
    quantize: Quantize = None
    compile: Compile = False
    yes: Yes = False
    cache: Cache = True

    @property
    def how_loaded(self) -> dict[str, Any]:
        """Arguments of `load_model`."""
        return how_to_load(self)

    def load(self, *videos: str) -> "Assistant":
        """The model, after what is wrong with the videos' names or bounds is told."""
        for video in videos:
            refuse_wrong_bounds(video, **self.sampling)
            refuse_missing(video)
        return load_model(self.model, self.cache, one_video=True, **how_to_load(self))

    @property
    def given(self) -> dict[str, Any]:
        """Fields of `Sampling` that were given."""
        return {k: v for k, v in self.sampling.items() if v not in (None, False)}

    def tell(self, result: "Result", lines: Iterable[str]) -> None:
        """See `tell_result`."""
        tell_result(result, lines, self.json)


@dataclass(frozen=True)
class Finding(Looking):
    """How a job's result is found, here or at a server: the options of verbs about one video."""

    server: Server = None

    def find(self, job: str, video: str, **arguments: Any) -> Any:
        """What a job of `tasks` finds, with a model that is loaded here or at a server.

        Args:
            arguments: of the job's function; None where its default is meant. `other` is a second
                video.

        Returns:
            The job's typed result, or what reads like it.
        """
        given = _given(arguments) | self.given
        videos = [video, *([arguments["other"]] if "other" in arguments else [])]
        if self.server:
            for each in videos:
                refuse_wrong_bounds(each, **self.sampling)
                refuse_missing(each, self.server)
            refuse_local_options(how_to_load(self), self.cache)
            return find_at(self.server, job, video, {"model": self.model, **given})
        assistant = self.load(*videos)
        from slowfast_mllm.tasks import function_of

        with working("Watching the video"):
            return function_of(job)(assistant, video, **given)


@dataclass(frozen=True)
class Answering(_Sampling):
    """How a video is watched and an answer made: the options of every verb that answers."""

    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            help="Longest answer, in tokens. Default: 256, or what a server allows.",
            rich_help_panel=REPLY,
        ),
    ] = None
    temperature: Annotated[
        float,
        typer.Option(help="0: the likeliest answer; up to 100: draw.", rich_help_panel=REPLY),
    ] = 0.0
    top_p: Annotated[
        float, typer.Option(help="Draw from this much probability.", rich_help_panel=REPLY)
    ] = 1.0
    num_beams: Annotated[
        int, typer.Option(help="Beams of the search, 1 to 64.", rich_help_panel=REPLY)
    ] = 1
    seed: Annotated[
        int | None, typer.Option(help="Makes a drawn answer repeatable.", rich_help_panel=REPLY)
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="End the answer before this; several may be given.",
            rich_help_panel=REPLY,
        ),
    ] = None
    schema: Schema = None
    times: Annotated[
        bool,
        typer.Option(
            "--times",
            help="Tell the model in words when its frames are shown, if it was taught to read it.",
            rich_help_panel=REPLY,
        ),
    ] = False
    facts: Annotated[
        bool,
        typer.Option(
            "--facts",
            help="Measure cuts, camera, black and freezes, and tell the model in words.",
            rich_help_panel=REPLY,
        ),
    ] = False
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=REPLY)
    ] = False
    show_thinking: Annotated[
        bool,
        typer.Option(
            "--show-thinking",
            help="Of models that think before they answer: show it, on stderr.",
            rich_help_panel=REPLY,
        ),
    ] = False
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Show words as they come. Default: on a terminal.",
            rich_help_panel=REPLY,
        ),
    ] = None
    model: Model = None
    device: Device = None
    dtype: Dtype = None
    quantize: Quantize = None
    compile: Compile = False
    yes: Yes = False
    cache: Cache = True
    server: Server = None

    def told(self, video: str) -> dict[str, Any]:
        """What the model is told beside the question: fields of `Generation`."""
        told: dict[str, Any] = {"times": True} if self.times else {}
        if not self.facts:
            return told
        if video.endswith(".sfmem"):
            raise typer.BadParameter(
                f"{video}: a memory holds no pictures to measure; leave out --facts, or ask the "
                "video itself."
            )
        refuse_wrong_bounds(video, **self.sampling)
        from slowfast_mllm.tasks.facts_in_words import facts_in_words

        measure = measured("facts", video, self.server, self.frames_fps, self.clip)
        return told | {"facts": facts_in_words(measure)}

    def watch(
        self, video: str, quickly: bool = False
    ) -> "Conversation | RemoteConversation | QuickConversation":
        """Load the model and look at the video: a conversation that can begin.

        Args:
            quickly: it is of one plain question; about a video that was looked at before it needs
                no model to be loaded.
        """
        refuse_wrong_bounds(video, **self.sampling)
        refuse_missing(video, self.server)
        if self.server:
            refuse_local_options(how_to_load(self), self.cache)
            from slowfast_cli.remote import RemoteConversation, Server

            server, sampling = Server(self.server), _given(self.sampling)
            return RemoteConversation(server, video, self.model, sampling, warn=not self.json)
        folder = memories_folder() if quickly and self._is_plain else None
        conversation: Any = None
        if folder:
            from slowfast_mllm.engine.quick import recall

            conversation = recall(self.model, video, folder, **self.sampling)
        if conversation is None:
            assistant = self._load()
            with working("Watching the video"):
                conversation = assistant.chat(video, **self.sampling)
            if folder:
                take_note(assistant, self.model, folder)
        self._warn(conversation.video.info.warnings)
        return conversation

    def _load(self) -> "Assistant":
        from slowfast_mllm.engine.answers import Generation

        with wrong_usage():
            Generation(**self._generation)
        return load_model(self.model, self.cache, one_video=True, **how_to_load(self))

    @property
    def _is_plain(self) -> bool:
        """Whether the likeliest answer is wanted, of the model as it is."""
        sampled = self.temperature or self.num_beams != 1 or self.stop or self.schema
        placed = self.device or self.dtype or self.quantize or self.compile or not self.cache
        length = 1 if self.max_new_tokens is None else self.max_new_tokens
        right = 1 <= length <= 2**20 and 0 <= self.top_p <= 1
        return right and not (sampled or placed or self.show_thinking or self.seed is not None)

    def _warn(self, warnings: Iterable[str]) -> None:
        if not self.json:  # which has them in every answer
            for warning in warnings:
                say(f"Warning: {warning}", err=True)

    @property
    def _generation(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "num_beams", "seed", "schema")
        length = _given({"max_new_tokens": self.max_new_tokens})
        return {name: getattr(self, name) for name in names} | length | {"stop": self.stop or ()}

    def answer(
        self,
        conversation: "Conversation | RemoteConversation | QuickConversation",
        question: str,
        **more: Any,
    ) -> "Answer | ToldAnswer":
        """Ask, and print the answer on stdout; `more` are further fields of `Generation`.

        Raises:
            ValueError: there is none, and why.
        """
        return self._print(conversation.ask, question, more)

    def answer_twice(
        self, video: str, question: str, **more: Any
    ) -> "tuple[Answer | ToldAnswer, Assistant | None]":
        """As `watch` and `answer`, with a second look at what the first one may have missed.

        Returns:
            The answer, and the model that gave it; None: a server's.
        """
        if video.endswith(".sfmem"):
            raise typer.BadParameter(
                f"{video}: a memory holds no frames to look at a second time; name the video."
            )
        refuse_wrong_bounds(video, **self.sampling)
        refuse_missing(video, self.server)
        if self.server:
            refuse_local_options(how_to_load(self), self.cache)
            from slowfast_cli.remote import Server

            assistant = None
            ask_twice: Callable[..., Answer | ToldAnswer] = Server(self.server).ask_twice
            given = _given({"model": self.model, **self.sampling})
        else:
            assistant, given = self._load(), _given(self.sampling)
            from slowfast_mllm.tasks.look_twice import ask_twice as here

            ask_twice = partial(here, assistant)
        answer = self._print(partial(ask_twice, video, **given), question, more)
        self._warn(answer.warnings)
        return answer, assistant

    def _print(self, ask: Callable[..., Any], question: str, more: dict[str, Any]) -> Any:
        """What `ask` answers, after it stands on stdout.

        Raises:
            ValueError: there is no answer, and why.
        """
        on_terminal = self.stream
        if on_terminal is None:
            on_terminal = sys.stdout is not None and sys.stdout.isatty()
        streaming = on_terminal and not self.json and self.num_beams == 1
        thinking = Thinking() if self.show_thinking else None
        told: dict[str, Any] = {"on_text": _write if streaming else None}
        if thinking and streaming:
            told = {"on_text": thinking.before(_write), "on_thought": thinking.tell}
        answer = ask(question, **told, **self._generation, **more)
        if thinking:
            thinking.end(answer.thought)
        if self.json:
            say_json(answer.to_dict())
        elif answer.problem is None:
            say("" if streaming else answer.text)
        if answer.problem is not None:
            raise ValueError(answer.problem)
        return answer


def measured(job: str, video: str, server: str | None, frames_fps: float | None, clip: bool) -> Any:
    """What a job of `tasks` measures, here or at a server; its typed result, or what reads like
    it."""
    if frames_fps is not None:
        from slowfast_mllm.video.sampling import require_positive

        with wrong_usage():
            require_positive(frames_fps=frames_fps)
    if server:
        refuse_missing(video, server)
        return find_at(server, job, video, {"frames_fps": frames_fps, "clip": clip})
    from slowfast_mllm.tasks import function_of

    with working("Looking at every frame"):
        return function_of(job)(video, frames_fps, clip)


def tell_result(result: "Result", lines: Iterable[str], json: bool) -> None:
    """Print a result: as JSON, or its warnings on stderr and lines for people on stdout."""
    if json:
        say_json(result.model_dump())
        return
    for warning in result.warnings:
        say(f"Warning: {warning}", err=True)
    for line in lines:
        say(line)


@contextmanager
def wrong_usage() -> Iterator[None]:
    """What is wrong with an argument ends as wrong usage does, in the names of the options."""
    try:
        yield
    except ValueError as error:
        names = "|".join(field.name for field in fields(Answering))
        told = re.sub(rf"\b({names})(?==)", lambda m: _option(m[1]), str(error))
        raise typer.BadParameter(told) from error


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """What is not left to its default."""
    return {k: v for k, v in arguments.items() if v is not None and v is not False}


def refuse_local_options(how_loaded: dict[str, Any], cache: bool = True) -> None:
    """Tell which options a server does not take: its models are loaded."""
    local = _given(how_loaded) | _given({"no_cache": not cache})
    if local:
        raise typer.BadParameter(
            f"{_option(min(local))} is about a model that is loaded here; leave it out, or ask no "
            'server (--server "").'
        )


def find_at(server: str, job: str, video: str, arguments: dict[str, Any]) -> Any:
    """What a job finds at a server: what reads like its typed result.

    Args:
        arguments: of the job's function and its sampling; None where a default is meant.
    """
    from slowfast_cli.remote import Server

    with working("Asking the server"):
        return Server(server).job(job, video, _given(arguments))


def refuse_wrong_bounds(
    video: str, *, frames_fps: float | None, fit: str | None, clip: bool, **bounds: Any
) -> None:
    """`bounds` are fields of `SampleRequest`; `num_frames` may be "auto"."""
    if not (clip or any(value is not None for value in (*bounds.values(), frames_fps, fit))):
        return  # before anything is imported: at a server the answer is there in milliseconds
    from slowfast_mllm.video.sampling import SampleRequest, require_positive

    with wrong_usage():
        SampleRequest(**bounds | ({"num_frames": 1} if bounds["num_frames"] == "auto" else {}))
        require_positive(frames_fps=frames_fps)
    if video.endswith(".sfmem"):
        raise typer.BadParameter(
            f"{video}: its frames were chosen when it was indexed; leave out --num-frames, --fps, "
            "--start, --end, --frames-fps, --fit and --clip, or ask the video itself."
        )


def how_to_load(options: Looking | Answering) -> dict[str, Any]:
    """Arguments of `load_model`."""
    names = ("yes", "device", "dtype", "quantize", "compile")
    return {name: getattr(options, name) for name in names}


def _options_of(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the fields of a class as options; they come as `how`, its last argument."""
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]

    def with_options(verb: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(verb).parameters.values())[:-1]

        @functools.wraps(verb)
        def command(**arguments: Any) -> None:
            mine = {parameter.name: arguments.pop(parameter.name) for parameter in own}
            verb(**mine, how=kind(**arguments))

        parameters = [*own, *shared]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return with_options


answering, looking, finding = map(_options_of, (Answering, Looking, Finding))


def _write(text: str) -> None:
    """A piece of a streamed answer."""
    sys.stdout.write(text)
    sys.stdout.flush()

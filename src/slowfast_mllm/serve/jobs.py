"""`/v1/jobs/{job}`: every job of `tasks`, with its arguments and its typed result as JSON."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from slowfast_mllm.engine import Request
from slowfast_mllm.serve.arguments import Compared, Described, Looked, Searched
from slowfast_mllm.serve.chat import check_model
from slowfast_mllm.serve.desk import Desk, Thought
from slowfast_mllm.serve.errors import wrong
from slowfast_mllm.serve.helper import Helper
from slowfast_mllm.serve.parts import reference_of
from slowfast_mllm.serve.searching import search
from slowfast_mllm.serve.sources import Source
from slowfast_mllm.tasks import result_type
from slowfast_mllm.tasks.compare import Comparison, compare_videos
from slowfast_mllm.tasks.facts import Facts
from slowfast_mllm.tasks.look_twice import ask_twice
from slowfast_mllm.tasks.reading import DENSE_FPS, DENSE_FRAMES
from slowfast_mllm.tasks.results import Clip

_MEASURED = ("cuts", "facts")
_WORDS = {"question", "prompt", "what", "words"}
_TASKS = {
    "choose": ("choose_answer", ("question", "options")),
    "score": ("score_video", ("what", "question")),
    "ground": ("ground_video", ("words", "threshold")),
    "events": ("find_events", ("window", "prompt", "max_new_tokens")),
}


class Jobs:
    """Does jobs."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def done(self, job: str, body: Any, owner: str) -> dict[str, Any]:
        """The result of a job, as JSON.

        Args:
            body: of the job's type in `ARGUMENTS`.

        Raises:
            ApiError: it cannot be done.
        """
        body = self._checked(body)
        with self.desk.metrics.jobs.labels(job).time():
            if isinstance(body, Searched):
                async with self.desk.place():
                    return await search(self.desk, body, owner)
            reference = reference_of(body.video, "video")
            async with self.desk.place(), self.desk.source(reference, owner) as source:
                if isinstance(body, Described):
                    return await self._answered(body, source)
                if isinstance(body, Compared):
                    second = reference_of(body.other, "other")
                    async with self.desk.source(second, owner) as other:
                        return await self._compared(body, source, other)
                return await self._worked(job, body, source)

    async def events(self, body: Described, owner: str) -> AsyncIterator[dict[str, Any]]:
        """The result of asking or describing, piece by piece."""
        body = self._checked(body)
        reference = reference_of(body.video, "video")
        async with self.desk.place(), self.desk.source(reference, owner) as source:
            if body.look_twice:
                yield {"answer": await self._answered_twice(body, source)}
                return
            request = await self._request(body, source)
            async with aclosing(self.desk.written([request])) as pieces:  # type: ignore[type-var]
                async for _, piece in pieces:
                    if isinstance(piece, str):
                        yield {"thought" if isinstance(piece, Thought) else "text": str(piece)}
                    else:
                        yield {"answer": piece.to_dict()}

    def _checked(self, body: Any) -> Any:
        """The request, with no more tokens than an answer has here where it says no number."""
        check_model(body.model, self.desk.assistant.name)
        for name in _WORDS & body.model_fields_set:
            if getattr(body, name) is not None and not getattr(body, name).strip():
                raise wrong(f"{name}: it is empty; say it in words", name, "empty_question")
        words = [
            v
            for v in body.model_dump(exclude={"video", "other", "videos"}).values()
            if isinstance(v, str | list)
        ]
        length, most = len("".join(map(str, words))), self.desk.settings.max_question
        if length > most:
            told = f"{length} characters, and this server reads {most} at most; ask in fewer"
            raise wrong(told, code="question_too_long")
        if isinstance(body, Described):  # what is wrong with it is told before anything is read
            body.request(None, self.desk.settings.max_question)
        most = self.desk.settings.max_tokens
        if body.model_dump().get("max_new_tokens", 0) <= most:
            return body
        if "max_new_tokens" in body.model_fields_set:
            raise wrong(f"max_new_tokens: answers here have {most} at most", "max_new_tokens")
        return body.model_copy(update={"max_new_tokens": most})

    async def _answered(self, body: Described, source: Source) -> dict[str, Any]:
        if body.look_twice:
            return await self._answered_twice(body, source)
        request = await self._request(body, source)
        return (await self.desk.answers([request]))[0].to_dict()

    async def _answered_twice(self, body: Described, source: Source) -> dict[str, Any]:
        asked = body.request(source.path, self.desk.settings.max_question)
        if asked.earlier:
            raise wrong("look_twice: of one question, without messages before it", "look_twice")
        helper: Any = Helper(self.desk)
        await self.desk.in_thread(self.desk.decoders.examine, source.path, body.clip)
        options = asked.options | self.desk.sampling(body.looking())
        answer = await helper.carry_out(
            partial(ask_twice, helper, source.path, asked.question, **options)
        )
        told: dict[str, Any] = answer.to_dict()
        return told | {"video": told["video"] | {"path": source.name}}

    async def _request(self, body: Described, source: Source) -> Request:
        seen = await self.desk.memories.of(source, self.desk.sampling(body.looking()))
        return body.request(seen, self.desk.settings.max_question)

    async def _worked(self, job: str, body: Any, source: Source) -> dict[str, Any]:
        helper = Helper(self.desk)
        await self.desk.in_thread(self.desk.decoders.examine, source.path, body.clip)
        work = await self._work(job, body, source, helper)
        result = await helper.carry_out(work)
        video = result.video.model_copy(update={"path": source.name})
        settings = result.settings  # without what was looked at, where that was done before
        if isinstance(body, Looked):
            settings = settings | {k: v for k, v in body.looking().items() if v}
        update = {"video": video, "settings": settings}
        told: dict[str, Any] = result.model_copy(update=update).model_dump(mode="json")
        return told

    async def _compared(self, body: Compared, *sources: Source) -> dict[str, Any]:
        helper: Any = Helper(self.desk)
        decoders = self.desk.decoders
        for source in sources:
            await self.desk.in_thread(decoders.examine, source.path, body.clip)

        def measuring(video: str, **how: Any) -> Facts:
            return Facts.model_validate(decoders.measure("facts", video, **how))

        options: dict[str, Any] = self.desk.sampling(body.looking())
        options |= body.model_dump(include={"question", "words_only", "max_new_tokens"})
        one, other = (source.path for source in sources)

        def work() -> Comparison:
            return compare_videos(helper, one, other, measuring=measuring, **options)

        result = await helper.carry_out(work)
        return _renamed(result, {source.path: source.name for source in sources}).model_dump(
            mode="json"
        )

    async def _work(self, job: str, body: Any, source: Source, helper: Any) -> Callable[[], Any]:
        """What is to be done in a thread."""
        from slowfast_mllm import tasks

        decoders = self.desk.decoders
        if job in _MEASURED:
            how = {"frames_fps": body.frames_fps, "clip": body.clip}
            kind = result_type(job)
            return lambda: kind.model_validate(decoders.measure(job, source.path, **how))
        sampling = self.desk.sampling(body.looking())
        if job == "caption":
            fields = body.model_dump(
                include={"prompt", "max_words", "dense", "window", "max_new_tokens"}
            )
            captioning = tasks.Captioning(**fields, sampling=sampling)
            return lambda: tasks.caption_video(helper, source.path, captioning)
        if job == "classify":
            labels: Any = body.labels
            if isinstance(labels, str):
                if labels != "camera-motion":
                    raise wrong("labels: give a list, or camera-motion", "labels")
                labels = tasks.read_labels(labels)
            seen = await self.desk.memories.of(source, sampling)
            return lambda: tasks.classify_video(helper, seen, labels, body.single)
        function, names = _TASKS[job]
        task = getattr(tasks, function)
        arguments = {name: getattr(body, name) for name in names}
        if job in ("choose", "score"):
            seen = await self.desk.memories.of(source, sampling)
            return lambda: task(helper, seen, **arguments)
        most = self.desk.settings.max_frames
        if most < DENSE_FRAMES and not {"num_frames", "fps", "at"} & sampling.keys():
            sampling |= {"fps": DENSE_FPS, "max_frames": most}
        return lambda: task(helper, source.path, **arguments, **sampling)


def _renamed(result: Comparison, names: Mapping[str, str]) -> Comparison:
    """With the names that users gave to their files."""

    def clip(told: Clip) -> Clip:
        return told.model_copy(update={"path": names.get(told.path, told.path)})

    warnings = list(result.warnings)
    for path, name in names.items():
        warnings = [warning.replace(path, name) for warning in warnings]
    facts = result.facts and [f.model_copy(update={"video": clip(f.video)}) for f in result.facts]
    update = {"video": clip(result.video), "other": clip(result.other)}
    return result.model_copy(update={**update, "warnings": warnings, "facts": facts})

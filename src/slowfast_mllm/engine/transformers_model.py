"""Any video model of transformers whose family is known, with the same questions and answers.

Frames come from our reader, fitted as they are decoded, with their times; see `families`.
"""

import functools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast_mllm.engine.answer import (
    Answer,
    Likelihood,
    OnText,
    Sampling,
    checked_question,
    without_control_tokens,
)
from slowfast_mllm.engine.answers import Clock, Generation, RefuseNan, compose_answer, split_options
from slowfast_mllm.engine.batching import Request
from slowfast_mllm.engine.beside import with_words
from slowfast_mllm.engine.encoded_video import AT_HAND
from slowfast_mllm.engine.families import Family
from slowfast_mllm.engine.frame_choice import (
    AUTO,
    FrameChoice,
    Room,
    choose_num_frames,
    kept_source,
)
from slowfast_mllm.engine.protocol import Capabilities, one_at_a_time
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.engine.stopping import StopAtStrings
from slowfast_mllm.engine.transformers_likelihoods import likelihoods, padded
from slowfast_mllm.engine.turns import conversation
from slowfast_mllm.questions import DESCRIBE
from slowfast_mllm.video import VideoInfo
from slowfast_mllm.video.names import localized, short_name

_FEW = 8  # frames from which is seen what one of them takes
# Of a frame's pixels, and of the width of its tokens: what a tower and a layer hold at once, about.
_TOWER, _WIDTHS = 8, 16


@dataclass(frozen=True)
class EncodedClip:
    """A video, or several together, as a model of transformers takes it.

    Attributes:
        inputs: arguments of the model, without words.
        prompts: what stands for each video in a prompt.
        info: of the first video.
        frame_indices, timestamps: of all, one video after the other.
        timing: seconds spent on `read` and `preprocess`; encoding is part of each question.
        frame_choice: why so many frames were looked at, where that was left to the engine.
    """

    inputs: dict[str, Tensor]
    prompts: tuple[str, ...]
    info: VideoInfo
    frame_indices: list[int]
    timestamps: list[float]
    timing: dict[str, float]
    frame_choice: FrameChoice | None = None


@dataclass(frozen=True)
class _Prepared:
    """A request whose video and prompt are read."""

    clip: EncodedClip
    ids: list[int]
    generation: Generation
    on_text: OnText | None

    def __post_init__(self) -> None:
        if self.generation.evidence:
            raise ValueError(
                "evidence: this model does not tell what it read of a video; a Slow-Fast one does."
            )
        if self.generation.top_scores:
            raise ValueError("top_scores: of Slow-Fast models only; leave it out.")

    @property
    def joins(self) -> tuple[Any, ...] | None:
        """Requests with the same can share a pass; None: it runs alone, as what is drawn does."""
        alone = self.generation.temperature > 0 or self.generation.logits_processor
        shapes = sorted((name, tuple(t.shape[1:])) for name, t in self.clip.inputs.items())
        return None if alone else (repr(self.generation), *shapes)


class TransformersModel:
    """A loaded model that answers questions about videos. Safe to share between threads."""

    def __init__(self, model: Any, family: Family, name: str = "") -> None:
        self.model = model.eval()
        self.tokenizer = family.tokenizer
        self.family = family
        self.name = name
        # Held while the model runs: some families keep positions on their modules.
        self._running = threading.Lock()
        self.reader = Reader()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            questions=self.family.reads_questions,
            memory=False,
            evidence=False,
            several_videos=self.family.several_videos,
            streaming=True,
            likelihoods=True,
            batching=True,
        )

    # ---- videos --------------------------------------------------------------------------------

    def encode(self, video: Any, **sampling: Any) -> EncodedClip:
        """Read a video.

        Args:
            video: whatever `read_video` takes, or what this method returned.
            **sampling: fields of `Sampling`, but `fit`: pictures are fitted as the family's are.

        Raises:
            VideoError: it cannot be read.
            ValueError: `fit` is given, or `sampling` for a video that was read before.
        """
        choice = Sampling(**sampling)
        if isinstance(video, EncodedClip):
            if choice != Sampling():
                raise ValueError(
                    f"{short_name(video.info.path)}: its frames were chosen when it was read; "
                    "leave out num_frames, fps, start, end, frames_fps, fit and clip."
                )
            return replace(video, timing=AT_HAND)
        if choice.fit is not None:
            raise ValueError(
                f"fit={choice.fit}: {self.name} fits pictures as it was trained; leave it out."
            )
        video = localized(video)
        wanted = self._frames_wanted(choice)
        if choice.num_frames != AUTO or self.family.fixed_num_frames:
            return self._read(video, wanted)
        began = time.perf_counter()
        video = kept_source(video)
        found = self._choose(video, choice)
        chosen = {"choose": time.perf_counter() - began}
        clip = self._read(video, {**wanted, "num_frames": found.num_frames})
        return replace(clip, frame_choice=found, timing=chosen | clip.timing)

    def encode_together(self, videos: Sequence[Any], **sampling: Any) -> EncodedClip:
        """Read several videos that one question will be about.

        Args:
            videos, **sampling: each as `encode` takes it.

        Raises:
            VideoError: one cannot be read.
            ValueError: the model takes one video at a time.
        """
        if not self.family.several_videos:
            raise one_at_a_time(self.name)
        clips = [self.encode(video, **sampling) for video in videos]
        warnings = dict.fromkeys(warning for clip in clips for warning in clip.info.warnings)
        return EncodedClip(
            inputs=self.family.joined([clip.inputs for clip in clips]),
            prompts=tuple(prompt for clip in clips for prompt in clip.prompts),
            info=replace(clips[0].info, warnings=tuple(warnings)),
            frame_indices=[index for clip in clips for index in clip.frame_indices],
            timestamps=[time for clip in clips for time in clip.timestamps],
            timing={stage: sum(clip.timing[stage] for clip in clips) for stage in AT_HAND},
        )

    def keep(self, video: EncodedClip, path: Path) -> None:
        """Refused: such models encode with each question.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name}: only Slow-Fast models keep memories in files.")

    def _frames_wanted(self, choice: Sampling) -> dict[str, Any]:
        """Arguments of `read_video`."""
        most = self.family.num_frames
        count = most if choice.num_frames in (None, AUTO) else choice.num_frames
        if choice.at is not None:
            count = len(choice.at)
        if self.family.fixed_num_frames and (choice.fps or count != most):
            raise ValueError(
                f"num_frames, fps: {self.name} looks at {most} frames, no more and no fewer."
            )
        return choice.wanted(most)

    def _choose(self, video: Any, choice: Sampling) -> FrameChoice:
        """How many frames suit the video; what one takes is seen from a few."""
        usual = self.family.num_frames
        few = choice.settled(min(usual, _FEW))
        clip = self._read(video, few.wanted(usual))
        count = len(clip.timestamps)
        text = self.model.config.get_text_config(decoder=True)
        tokens = len(self._ids(clip.prompts[0])) / count
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        keys = 2 * text.num_hidden_layers * heads * size
        pixels = sum(tensor.nbytes for tensor in clip.inputs.values()) / count
        room = Room(
            least=usual,
            bytes_per_frame=_TOWER * pixels
            + tokens * (keys + _WIDTHS * text.hidden_size) * self.model.dtype.itemsize,
            tokens_per_frame=tokens,
            device=self.model.device,
            context=self._most,
        )
        return choose_num_frames(video, room, self.reader, **choice.part())

    def _read(self, video: Any, wanted: dict[str, Any]) -> EncodedClip:
        began = time.perf_counter()
        transform = self.family.transform(self._expected(video, wanted))
        sampled = self.reader.read_video(video, **wanted, transform=transform)
        read = time.perf_counter()
        rows = np.arange(len(sampled.frames))
        if not self.family.fixed_num_frames:  # what a short clip repeats
            rows = np.unique(sampled.frame_indices, return_index=True)[1]
        times = sampled.timestamps[rows].tolist()
        inputs = self.family.inputs(self.family.pixels(sampled.frames[rows]), times)
        return EncodedClip(
            inputs=inputs,
            prompts=(self.family.prompt(inputs, times, sampled.info.duration),),
            info=sampled.info,
            frame_indices=sampled.frame_indices[rows].tolist(),
            timestamps=times,
            timing={**AT_HAND, "read": read - began, "preprocess": time.perf_counter() - read},
        )

    def _expected(self, video: Any, wanted: dict[str, Any]) -> int:
        """About how many frames there will be: some families make pictures smaller where many
        come."""
        if wanted["at"] is not None:
            return len(wanted["at"])
        if wanted["fps"] is None:
            return int(wanted["num_frames"])
        if hasattr(video, "read"):  # can be read only once
            return int(wanted["max_frames"])
        info = self.reader.probe_video(video, frames_fps=wanted["frames_fps"], clip=wanted["clip"])
        end = info.duration if wanted["end"] is None else min(wanted["end"], info.duration)
        seconds = max(0.0, end - (wanted["start"] or 0))
        return max(1, min(wanted["max_frames"], int(seconds * wanted["fps"]) + 1))

    # ---- words ---------------------------------------------------------------------------------

    @functools.cached_property
    def control_tokens(self) -> list[str]:
        """What words must not become: ends of turns, placeholders, and whatever is special."""
        added = self.tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        return sorted(special.union(self.tokenizer.all_special_tokens, (self.family.marker,)))

    def user_message(self, question: str, first: bool, videos: int = 1) -> dict[str, Any]:
        """A turn of the user; the first brings so many videos, which are numbered from two on.

        Raises:
            ValueError: the question is empty or no text, or the model reads none.
        """
        question = checked_question(question, self.control_tokens)
        if not self.family.reads_questions and question != DESCRIBE:
            raise ValueError(
                f"{self.name}: only describes what it sees and reads no questions; use "
                "`slowfast describe`, or a model that is asked."
            )
        content: list[dict[str, str]] = [{"type": "text", "text": question}]
        if first:
            content[:0] = self.family.parts(videos)
        return {"role": "user", "content": content}

    def prompt(self, messages: list[dict[str, Any]], clip: EncodedClip) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        told = ""
        for prompt in clip.prompts:
            before, marker, text = text.partition(self.family.marker)
            told += before + (prompt if marker else "")
        return told + text

    def _ids(self, text: str) -> list[int]:
        """Of a prompt, with the token that begins texts.

        Raises:
            ValueError: there are more of them than the model can read.
        """
        start = self.tokenizer.bos_token
        begins = start is not None and text.startswith(start)
        ids: list[int] = self.tokenizer(text, add_special_tokens=not begins).input_ids
        if len(ids) >= self._most:
            raise ValueError(
                f"{len(ids)} tokens of question and video, and this model reads less than "
                f"{self._most}; "
                "ask in fewer words, look at fewer frames, or begin a new conversation."
            )
        return ids

    @property
    def _most(self) -> int:
        """Tokens that the language model can read and write."""
        return int(self.model.config.get_text_config(decoder=True).max_position_embeddings)

    def prompt_ids(self, messages: list[dict[str, Any]], clip: EncodedClip) -> list[int]:
        """Ids of a conversation up to the next answer."""
        if not self.family.reads_questions:
            return [self.family.token_id]
        return self._ids(self.prompt(messages, clip))

    @functools.cached_property
    def _end_ids(self) -> set[int]:
        ids = self.model.generation_config.eos_token_id
        if ids is None:
            ids = self.tokenizer.eos_token_id
        return set(ids) if isinstance(ids, list) else {ids}

    # ---- answers -------------------------------------------------------------------------------

    def ask(
        self, video: Any, question: str, on_text: OnText | None = None, **options: Any
    ) -> Answer:
        """Answer one question; as `SlowFast.ask`."""
        sampling, generation = split_options(options)
        return self.chat(video, **sampling).answer(question, generation, on_text)

    def describe(self, video: Any, on_text: OnText | None = None, **options: Any) -> Answer:
        """Say what the video shows; see `ask`."""
        return self.ask(video, DESCRIBE, on_text, **options)

    def chat(self, video: Any, **sampling: Any) -> "TransformersChat":
        """A conversation of several turns about one video, which is read once."""
        return TransformersChat(self, self.encode(video, **sampling))

    def answer(self, prepared: list[_Prepared]) -> list[Answer | ValueError]:
        """Answer prompts in one pass; they `join`, or it is one.

        Returns:
            For each the answer, or why there is none that fits its schema.
        """
        began = time.perf_counter()
        generation = prepared[0].generation
        length = max(len(p.ids) for p in prepared)
        alone = prepared[0].on_text if len(prepared) == 1 else None
        prompt = max((p.ids for p in prepared), key=len)  # all end as the template does
        clock = Clock(self.tokenizer, prompt, generation, alone)
        options = generation.arguments()
        options["max_new_tokens"] = min(generation.max_new_tokens, self._most - length)
        own = generation.own_processors(
            self.tokenizer, self._end_ids, prompt, options["max_new_tokens"]
        )
        if generation.stop:
            ending = (generation.stop, self._decode, length, clock.thinks)
            options["stopping_criteria"] = [StopAtStrings(*ending)]
        with self._running, torch.no_grad():
            if generation.seed is not None:
                torch.manual_seed(generation.seed)
            output = self.model.generate(
                **self.arguments([p.clip for p in prepared], [p.ids for p in prepared]),
                streamer=clock if len(prepared) == 1 and generation.num_beams == 1 else None,
                return_dict_in_generate=True,
                output_logits=generation.return_scores,
                logits_processor=[RefuseNan(), *own],
                pad_token_id=self.pad_id,
                **options,
            )
        scores: list[list[float]] = [[]] * len(prepared)
        if generation.return_scores:
            beams = output.beam_indices if generation.num_beams > 1 else None
            scores = self.model.compute_transition_scores(
                output.sequences, output.logits, beams, normalize_logits=True
            ).tolist()
        answers: list[Answer | ValueError] = []
        for one, row, likely in zip(prepared, output.sequences.tolist(), scores, strict=True):
            new_ids = self._up_to_end(row[length:])
            facts = (self.name, self.tokenizer, new_ids, one.clip, clock, began, one.generation)
            try:
                answer = compose_answer(*facts, likely[: len(new_ids)])
            except ValueError as error:
                answers.append(error.with_traceback(None))
                continue
            answers.append(replace(answer, prompt_tokens=len(one.ids)))
            if len(prepared) > 1:
                _tell(answer, one)
        return answers

    def _decode(self, new_ids: list[int]) -> str:
        words: str = self.tokenizer.decode(new_ids, skip_special_tokens=True)
        return words

    def _up_to_end(self, new_ids: list[int]) -> list[int]:
        """Without the padding of rows that end before others."""
        last = next((i for i, token in enumerate(new_ids) if token in self._end_ids), len(new_ids))
        return new_ids[: last + 1]

    @functools.cached_property
    def pad_id(self) -> int:
        for told in (self.model.generation_config.pad_token_id, self.tokenizer.pad_token_id):
            if told is not None:
                return int(told)
        return min(self._end_ids)

    def arguments(self, clips: list[EncodedClip], prompts: list[list[int]]) -> dict[str, Tensor]:
        """Of the model, for rows of prompts that are padded on the left."""
        device = self.model.device
        arguments = {
            name: torch.cat([clip.inputs[name] for clip in clips]).to(device)
            for name in clips[0].inputs
        }
        for name, tensor in arguments.items():
            if name.startswith("pixel_values"):
                arguments[name] = tensor.to(self.model.dtype)
        if not self.family.reads_questions:
            return arguments
        ids = padded(prompts, self.pad_id, "left").to(device)
        mask = padded([[1] * len(prompt) for prompt in prompts], 0, "left").to(device)
        arguments |= {"input_ids": ids, "attention_mask": mask}
        return arguments | self.family.token_types(ids)

    # ---- many ----------------------------------------------------------------------------------

    def generate(
        self, requests: Iterable[Request], max_batch: int = 8
    ) -> Iterator[Answer | Exception]:
        """Answer many questions; the next videos are read while the last ones are answered.

        Yields:
            In the order of `requests`: the answer, or the error that made this request fail.
        """
        source = iter(requests)
        ahead: deque[Future[_Prepared | Exception]] = deque()
        reader = ThreadPoolExecutor(1, thread_name_prefix="slowfast-reader")
        try:
            while True:
                now = [ahead.popleft() for _ in range(len(ahead))]
                ahead.extend(reader.submit(self._prepare, r) for r in islice(source, max_batch))
                if not now and not ahead:
                    return
                yield from self._answer_together([future.result() for future in now])
        finally:
            reader.shutdown(cancel_futures=True)

    def _prepare(self, request: Request) -> _Prepared | Exception:
        try:
            sampling, generation = split_options(request.options)
            clip = self.encode(request.video, **sampling)
            messages = conversation(
                functools.partial(self.user_message, videos=len(clip.prompts)),
                self._said,
                with_words(request.question, generation.told(clip)),
                request.earlier,
            )
            ids = self.prompt_ids(messages, clip)
            return _Prepared(clip, ids, generation, request.on_text)
        except Exception as error:
            return error.with_traceback(None)

    def _said(self, words: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": without_control_tokens(words, self.control_tokens)}]

    def _answer_together(self, prepared: list[_Prepared | Exception]) -> list[Answer | Exception]:
        outcomes: dict[int, Answer | Exception] = {}
        groups: dict[Any, list[int]] = {}
        for place, one in enumerate(prepared):
            if isinstance(one, Exception):
                outcomes[place] = one
            else:
                groups.setdefault(one.joins or place, []).append(place)
        for places in groups.values():
            rows: list[Any] = [prepared[place] for place in places]
            outcomes.update(zip(places, self._outcomes(rows), strict=True))
        return [outcomes[place] for place in range(len(prepared))]

    def _outcomes(self, prepared: list[_Prepared]) -> list[Answer | Exception]:
        """What fails together, e.g. for want of memory, is tried again one by one."""
        try:
            return list(self.answer(prepared))
        except Exception as error:
            if len(prepared) == 1:
                return [error.with_traceback(None)]
            return [self._outcomes([one])[0] for one in prepared]

    # ---- likelihoods ---------------------------------------------------------------------------

    def likelihoods(
        self, video: Any, question: str, answers: Sequence[str], **sampling: Any
    ) -> list[Likelihood]:
        """How likely each answer is after the question; the video is looked at once.

        Raises:
            VideoError: the video cannot be read.
            ValueError: the question or an answer is empty.
        """
        clip = self.encode(video, **sampling)
        with self._running, torch.no_grad():
            return likelihoods(self, clip, question, answers)

    def likelihoods_each(
        self, video: Any, questions: Sequence[str], answers: Sequence[str], **sampling: Any
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, of the same answers to each of several questions: a list for each."""
        clip = self.encode(video, **sampling)
        return [self.likelihoods(clip, question, answers) for question in questions]

    def likelihoods_about(
        self, videos: Sequence[EncodedClip], question: str, answers: Sequence[str]
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, about each of several videos: a list for each."""
        return [self.likelihoods(video, question, answers) for video in videos]


class TransformersChat:
    """Turns about one video; each reads the whole conversation again."""

    def __init__(self, assistant: TransformersModel, video: EncodedClip) -> None:
        self.assistant = assistant
        self.video = video
        self.messages: list[dict[str, Any]] = []
        self._told: set[str] = set()  # beside questions before

    def ask(self, question: str, on_text: OnText | None = None, **generation: Any) -> Answer:
        """The next turn; as `Chat.ask`."""
        sampling, how = split_options(generation)
        if sampling:
            raise ValueError(f"{min(sampling)}: the frames were chosen when this chat began.")
        return self.answer(question, how, on_text)

    def answer(self, question: str, generation: Generation, on_text: OnText | None) -> Answer:
        """The next turn; see `ask`."""
        assistant = self.assistant
        told = generation.told(self.video)
        fresh = {name: words for name, words in told.items() if words not in self._told}
        words = with_words(question, fresh)
        message = assistant.user_message(words, not self.messages, len(self.video.prompts))
        messages = [*self.messages, message]
        ids = assistant.prompt_ids(messages, self.video)
        (answer,) = assistant.answer([_Prepared(self.video, ids, generation, on_text)])
        if isinstance(answer, ValueError):
            raise answer
        if answer.problem is None:
            self._told |= {*told.values()}
            said = [{"type": "text", "text": answer.text}]
            self.messages = [*messages, {"role": "assistant", "content": said}]
        self.video = replace(self.video, timing=AT_HAND)  # paid for by the first answer
        return answer


def _tell(answer: Answer, asked: _Prepared) -> None:
    """What was not told word by word."""
    if asked.generation.on_thought is not None and answer.thought is not None:
        asked.generation.on_thought(answer.thought)
    if asked.on_text is not None:
        asked.on_text(answer.text)

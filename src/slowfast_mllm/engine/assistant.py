"""Ask videos questions: reads a clip, remembers it once, and answers in words.

The one place where video, processor and model meet; knows nothing of terminals or servers.
"""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TextStreamer
from transformers.cache_utils import Cache

from slowfast_mllm.engine.encoded_video import (
    SUFFIX,
    EncodedVideo,
    Precision,
    fingerprint,
    load_encoded,
    save_encoded,
    source_digest,
)
from slowfast_mllm.engine.loading import DEFAULT_MODEL_NAME, load_checkpoint
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.video import read_video

DESCRIBE = "What happens in the video?"
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """An answer and how it came about; `str(answer)` is the text.

    Attributes:
        timing: seconds for `read`, `preprocess`, `encode` (0 for a video that was encoded before),
            `prefill` (to the first token), `decode` (the rest), and `tokens`, a count.
    """

    text: str
    model: str
    video: EncodedVideo
    timing: dict[str, float]
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The fields of `--json`."""
        info = self.video.info
        return {
            "answer": self.text,
            "model": self.model,
            "video": {
                "path": info.path,
                "duration": info.duration,
                "fps": info.fps,
                "frames": info.num_frames,
            },
            "frames": {
                "indices": self.video.frame_indices,
                "timestamps": [round(t, 4) for t in self.video.timestamps],
            },
            "timing": {name: round(value, 4) for name, value in self.timing.items()},
            "warnings": self.warnings,
        }


class _Clock(TextStreamer):
    """Passes text on as it comes and notes when the first token came."""

    def __init__(self, tokenizer: Any, on_text: OnText | None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text = on_text
        self.tokens = 0
        self.first: float | None = None

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.tokens += value.numel()
            self.first = self.first or time.perf_counter()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self.on_text is not None and text:
            self.on_text(text)


@dataclass(frozen=True)
class Sampling:
    """Which frames are looked at.

    Attributes:
        num_frames: uniformly spread frames; None: what the model was made for.
        fps: frames a second instead, at most `max_frames`.
        start, end: bounds of the clip in seconds.
    """

    num_frames: int | None = None
    fps: float | None = None
    max_frames: int = 512
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Generation:
    """How an answer is made.

    Attributes:
        max_new_tokens: the longest answer.
        temperature: 0 takes the likeliest token each time; above that, tokens are drawn.
        top_p: draw among the likeliest tokens that hold this much probability.
        num_beams: search width.
        seed: makes a drawn answer repeatable.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    num_beams: int = 1
    seed: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `generate`."""
        arguments: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            arguments |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return arguments


class SlowFast:
    """A loaded model that answers questions about videos. Safe to share between threads."""

    def __init__(
        self,
        model: SlowFastForConditionalGeneration,
        processor: SlowFastProcessor,
        name: str = "",
        cache: MemoryCache | None = None,
    ) -> None:
        """`cache`: where memories of files are kept between calls and programs; None: nowhere."""
        self.model = model
        self.processor = processor
        self.name = name
        self.cache = cache

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells memories of this model from those of others."""
        return fingerprint(self.model, self.processor)

    def encode(self, video: Any, **sampling: Any) -> EncodedVideo:
        """Read a video and remember it, or recall it from a `.sfmem` file or the cache.

        Args:
            video: path, bytes, folder of frames, list of images, or array (T, H, W, 3) uint8; or
                the path of a `.sfmem` file that `index` wrote.
            **sampling: fields of `Sampling`.

        Raises:
            VideoError: it cannot be read.
            MemoryFileError: the `.sfmem` file cannot be used.
            ValueError: `sampling` is given for a `.sfmem` file, whose frames are already chosen.
        """
        choice = Sampling(**sampling)
        began = time.perf_counter()
        if isinstance(video, (str, os.PathLike)) and os.fspath(video).endswith(SUFFIX):
            if choice != Sampling():
                raise ValueError(
                    f"{video}: its frames were chosen when it was indexed; leave out "
                    "num_frames, fps, start and end, or ask the video itself."
                )
            encoded = load_encoded(Path(video), self.fingerprint, self.model)
            return _recalled(encoded, began)
        if self.cache is None:
            return self._encode(video, choice)
        wanted = self._frames_wanted(choice)
        key = self.cache.key(video, wanted, self.fingerprint)
        if key is None:
            return self._encode(video, choice)
        kept = self.cache.get(key, self.fingerprint, self.model)
        if kept is not None:
            info = replace(kept.info, path=os.fspath(video))
            return _recalled(replace(kept, info=info), began)
        encoded = self._encode(video, choice)
        self.cache.put(key, encoded, self.fingerprint)
        return encoded

    def index(
        self, video: Any, path: str | Path, precision: Precision = "bfloat16", **sampling: Any
    ) -> EncodedVideo:
        """Encode a video and write its memory into a `.sfmem` file, to be asked without the video.

        Args:
            video: as for `encode`.
            path: of the new file; its name must end in `.sfmem`.
            precision: "exact", "bfloat16" or "int8" (with a scale per token and head).
            **sampling: fields of `Sampling`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: `path` has another suffix.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise ValueError(f"{path}: a memory's file name ends in {SUFFIX}.")
        source = None
        if isinstance(video, (str, os.PathLike)) and Path(video).exists():
            source = {"path": os.path.abspath(video), "sha256": source_digest(video)}
        encoded = self.encode(video, **sampling)
        save_encoded(encoded, path, self.fingerprint, source, precision)
        return encoded

    def _encode(self, video: Any, choice: Sampling) -> EncodedVideo:
        began = time.perf_counter()
        sampled = read_video(video, **self._frames_wanted(choice))
        read = time.perf_counter()
        pixels = self.processor.video_processor(sampled.frames, do_sample_frames=False)
        preprocessed = time.perf_counter()
        times = torch.from_numpy(sampled.timestamps)
        with torch.no_grad():
            frames = pixels["pixel_values_videos"][0].to(self.model.dtype)
            memory = self.model.encode_video(frames, times)
        encoded = time.perf_counter()
        prompt = self.processor.replace_video_token(
            {**pixels, "video_timestamps": times[None]}, video_idx=0
        )
        return EncodedVideo(
            memory=memory,
            prompt=prompt,
            info=sampled.info,
            frame_indices=sampled.frame_indices.tolist(),
            timestamps=sampled.timestamps.tolist(),
            timing={
                "read": read - began,
                "preprocess": preprocessed - read,
                "encode": encoded - preprocessed,
            },
        )

    def _frames_wanted(self, sampling: Sampling) -> dict[str, Any]:
        """Arguments of `read_video`."""
        choice = asdict(sampling)
        if sampling.fps is None and sampling.num_frames is None:
            choice["num_frames"] = self.processor.video_processor.num_frames
        return choice

    def ask(
        self, video: Any, question: str, on_text: OnText | None = None, **options: Any
    ) -> Answer:
        """Answer one question.

        Args:
            video: anything that `encode` takes, or what it returned.
            on_text: called with each piece of the answer as it is made.
            **options: fields of `Sampling` and `Generation`, e.g. `num_frames=64, temperature=0.2`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: the question is empty, or an option is unknown.
        """
        names = {f.name for f in fields(Sampling)}
        sampling = {name: value for name, value in options.items() if name in names}
        generation = _generation({n: v for n, v in options.items() if n not in names})
        return self.chat(video, **sampling)._ask(question, generation, on_text)

    def describe(self, video: Any, on_text: OnText | None = None, **options: Any) -> Answer:
        """Say in a sentence or more what the video shows; see `ask`."""
        return self.ask(video, DESCRIBE, on_text, **options)

    def chat(self, video: Any, **sampling: Any) -> "Chat":
        """A conversation of several turns about one video, which is encoded once."""
        fresh = not isinstance(video, EncodedVideo)
        return Chat(self, self.encode(video, **sampling) if fresh else video, fresh)


class Chat:
    """Turns about one video. Keeps the messages and the key/value cache of what was said."""

    def __init__(self, assistant: SlowFast, video: EncodedVideo, count_encoding: bool) -> None:
        self.assistant = assistant
        self.video = video
        self.messages: list[dict[str, Any]] = []
        self._sequence: list[int] = []
        self._cache: Cache | None = None
        self._encoding = video.timing if count_encoding else dict.fromkeys(video.timing, 0.0)

    def ask(self, question: str, on_text: OnText | None = None, **generation: Any) -> Answer:
        """The next turn.

        Args:
            on_text: called with each piece of the answer as it is made.
            **generation: fields of `Generation`.

        Raises:
            ValueError: the question is empty, or an option is unknown.
        """
        return self._ask(question, _generation(generation), on_text)

    def _ask(self, question: str, generation: Generation, on_text: OnText | None) -> Answer:
        question = self._plain(question)
        if not question:
            raise ValueError("The question is empty; ask something like 'What happens?'.")
        content = [{"type": "text", "text": question}]
        if not self.messages:
            content.insert(0, {"type": "video"})
        messages = [*self.messages, {"role": "user", "content": content}]
        began = time.perf_counter()
        clock, new_ids = self._generate(messages, generation, on_text)
        ended = time.perf_counter()
        text = self.assistant.processor.decode(new_ids, skip_special_tokens=True).strip()
        self.messages = [*messages, {"role": "assistant", "content": text}]
        first = clock.first or ended
        timing = {**self._encoding, "prefill": first - began, "decode": ended - first}
        self._encoding = dict.fromkeys(self._encoding, 0.0)
        return Answer(
            text=text,
            model=self.assistant.name,
            video=self.video,
            timing={**timing, "tokens": len(new_ids)},
            warnings=list(self.video.info.warnings),
        )

    def _plain(self, text: str) -> str:
        """What the user typed without the tokens that steer the model."""
        for token in self.assistant.processor.tokenizer.all_special_tokens:
            text = text.replace(token, " ")
        return text.strip()

    def _generate(
        self, messages: list[dict[str, Any]], generation: Generation, on_text: OnText | None
    ) -> tuple[_Clock, list[int]]:
        processor, model = self.assistant.processor, self.assistant.model
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text = text.replace(processor.video_token, self.video.prompt)
        ids = processor.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        ids = ids.to(model.device)
        if self._sequence != ids[0, : len(self._sequence)].tolist():
            self._cache = None  # e.g. the answer was cut off in the middle of a character
        clock = _Clock(processor.tokenizer, on_text)
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            video_memory=self.video.memory,
            past_key_values=self._cache,
            streamer=clock if generation.num_beams == 1 else None,
            return_dict_in_generate=True,
            **generation.arguments(),
        )
        # Beams reorder the cache as a whole; only a single path can be gone on with.
        self._cache = output.past_key_values if generation.num_beams == 1 else None
        self._sequence = output.sequences[0].tolist()
        return clock, self._sequence[ids.shape[1] :]


def _recalled(encoded: EncodedVideo, began: float) -> EncodedVideo:
    """With the time it took to read the memory's file."""
    timing = {"read": time.perf_counter() - began, "preprocess": 0.0, "encode": 0.0}
    return replace(encoded, timing=timing)


def _generation(options: dict[str, Any]) -> Generation:
    known = [f.name for f in fields(Generation)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        sampling = ", ".join(f.name for f in fields(Sampling))
        raise ValueError(
            f"Unknown option {unknown[0]!r}; known are {sampling} for the frames and "
            f"{', '.join(known)} for the answer."
        )
    return Generation(**options)


def load(
    model: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    cache: MemoryCache | None = None,
) -> SlowFast:
    """Load a model that answers questions about videos.

    Args:
        model: folder or hub id of a checkpoint, native or official; None: the packaged one.
        device, dtype: None picks what fits the machine.
        cache: keeps memories of files on disk, e.g. `MemoryCache(Path("memories"))`.

    Raises:
        ModelError: the checkpoint cannot be loaded; the message says why.
    """
    network, processor = load_checkpoint(model, device, dtype)
    return SlowFast(network, processor, str(model) if model else DEFAULT_MODEL_NAME, cache)

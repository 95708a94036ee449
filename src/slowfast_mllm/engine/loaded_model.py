"""A loaded model with its processor: encodes videos, makes prompts, and turns ids into answers.

What single questions, conversations and batches share.
"""

import functools
import os
import reprlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from slowfast_mllm.engine.answer import Answer, Sampling, checked_question, without_control_tokens
from slowfast_mllm.engine.answers import Clock, Generation, compose_answer
from slowfast_mllm.engine.beginnings import Beginnings
from slowfast_mllm.engine.encoded_video import (
    AT_HAND,
    EncodedVideo,
    Precision,
    check_target,
    describe_source,
    fingerprint,
    load_encoded,
    reads_narrow,
    save_encoded,
)
from slowfast_mllm.engine.frame_choice import (
    AUTO,
    choose_num_frames,
    kept_source,
    slow_fast_room,
)
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.engine.memory_names import SUFFIX
from slowfast_mllm.engine.reader import Reader
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.model.adapters import without_wrapper
from slowfast_mllm.model.sharding import from_first, is_first, is_split, whole
from slowfast_mllm.model.video_memory import TEXT, pack_memories
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.video.fitting import Fit
from slowfast_mllm.video.names import is_named, localized, printable, short_name

_MASKED = ("sdpa", "eager")  # attention that takes a mask of any form


class LoadedModel:
    """Reads videos and remembers them. Safe to share between threads.

    It remembers what the model has made of videos: after weights or adapters have changed, make
    another of the same model and processor, and encode anew.
    """

    def __init__(
        self,
        model: SlowFastForConditionalGeneration,
        processor: SlowFastProcessor,
        name: str = "",
        cache: MemoryCache | None = None,
        compile: bool = False,
    ) -> None:
        """
        Args:
            model: as loaded, or a `PeftModel` of one; it stops training (`eval`).
            cache: where memories of files are kept between calls and programs; None: nowhere, and
                so where the model is split over processes, which may not see the same files.
            compile: run the decode steps of questions and conversations as compiled graphs.
        """
        self.model: SlowFastForConditionalGeneration = without_wrapper(model).eval()
        self.processor = processor
        self.name = name
        self.cache = None if is_split(self.model) else cache
        self.compile = compile
        # Whether slow keys and values of long videos are made int8, which some CPUs read sooner.
        self.narrows_memories = False
        self.beginnings = Beginnings(self.model.config.text_config)
        self.reader = Reader()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells memories of this model from those of others."""
        return fingerprint(self.model, self.processor)

    @functools.cached_property
    def _exact_fingerprint(self) -> str:
        """Tells a model from one that was trained a step longer, too."""
        return fingerprint(self.model, self.processor, torch.float32)

    def encode(self, video: Any, **sampling: Any) -> EncodedVideo:
        """Read a video and remember it, or recall it from a `.sfmem` file or the cache.

        Args:
            video: path, bytes, folder of frames, list of images, or array (T, H, W, 3) uint8; or
                the path of a `.sfmem` file that `index` wrote, or what this method returned.
            **sampling: fields of `Sampling`.

        Raises:
            VideoError: it cannot be read.
            MemoryFileError: the `.sfmem` file cannot be used.
            ValueError: `sampling` is given for a memory, whose frames are already chosen.
        """
        choice = Sampling(**sampling)
        began = time.perf_counter()
        video = localized(video)
        encoded_before = isinstance(video, EncodedVideo)
        if choice != Sampling() and (encoded_before or _is_memory_file(video)):
            name = video.info.path if encoded_before else os.fspath(video)
            raise ValueError(
                f"{short_name(name)}: its frames were chosen when it was encoded; leave out "
                "num_frames, fps, start, end, at, frames_fps, fit and clip, or ask the video "
                "itself."
            )
        if encoded_before:
            return replace(video, timing=AT_HAND)
        if _is_memory_file(video):
            encoded = load_encoded(Path(video), self.fingerprint, self.model)
            return _recalled(encoded, began)
        if choice.num_frames == AUTO:
            return self._encode_chosen(kept_source(video), choice)
        if self.cache is None:
            return self._encode(video, choice)
        settings = (
            *(choice.wanted(self._usual), self._fit(choice)),
            *(self._exact_fingerprint, str(self.model.dtype)),
        )
        key = self.cache.key(video, *settings)
        if key is None:
            return self._encode(video, choice)
        kept = self.cache.get(key, self.fingerprint, self.model)
        if kept is not None:
            info = replace(kept.info, path=printable(os.fspath(video)))
            return _recalled(replace(kept, info=info), began)
        encoded = self._encode(video, choice)
        if self.cache.key(video, *settings) == key:  # not replaced while it was read
            self.cache.put(key, encoded, self.fingerprint)
        return encoded

    def _encode_chosen(self, video: Any, choice: Sampling) -> EncodedVideo:
        """With as many frames as suit the video."""
        began = time.perf_counter()
        room = slow_fast_room(self.model, self.processor.token_layout, self._usual)
        found = choose_num_frames(video, room, self.reader, **choice.part())
        found = from_first(self.model, found)  # each process may find other memory free
        timing = {"choose": time.perf_counter() - began}
        encoded = self.encode(video, **asdict(choice.settled(found.num_frames)))
        return replace(encoded, frame_choice=found, timing=timing | encoded.timing)

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
            ValueError: `path` has another suffix, its folder is not there, or an argument is wrong.
        """
        path, video = Path(path), localized(video)
        check_target(path)
        if precision not in get_args(Precision):
            given = reprlib.repr(precision)
            raise ValueError(f"precision {given}: choose one of {get_args(Precision)}.")
        if _is_memory_file(video):
            raise ValueError(
                f"{short_name(str(video))}: already a memory; index the video it was made from."
            )
        source = None
        if is_named(video) and os.path.exists(video):
            source = describe_source(video)
        encoded = self.encode(video, **sampling)
        self._save(encoded, path, source, precision)
        return encoded

    def pictures(self, video: Any, edge: int, **sampling: Any) -> NDArray[np.uint8]:
        """The part of each frame that `encode` looks at with the same sampling, in another size.

        Args:
            video: as for `encode`, but no memory.
            edge: rows of the result.

        Returns:
            (T, edge, columns, 3) RGB.

        Raises:
            VideoError: it cannot be read.
        """
        choice, processor = Sampling(**sampling), self.processor.video_processor
        rows = processor.crop_size["height"]

        def scaled(size: Any) -> dict[str, int]:
            return {name: round(n * edge / rows) for name, n in dict(size).items() if n}

        transform = processor.frame_transform(
            fit=self._fit(choice),
            size=scaled(processor.size),
            crop_size=scaled(processor.crop_size),
        )
        return self.reader.read_video(
            video, **choice.wanted(self._usual), transform=transform
        ).frames

    def keep(self, video: EncodedVideo, path: Path) -> None:
        """Write the memory of a video into a new `.sfmem` file, in bfloat16; `encode` takes it,
        whatever has become of the video.

        Raises:
            OSError: it cannot be written.
        """
        self._save(video, path, source=None)

    def _save(
        self,
        video: EncodedVideo,
        path: Path,
        source: dict[str, Any] | None,
        precision: Precision = "bfloat16",
    ) -> None:
        """As `save_encoded`; of a model that is split over processes the first writes all heads."""
        model, all_heads = self.fingerprint, whole(video.memory, self.model)
        if is_first(self.model):
            save_encoded(replace(video, memory=all_heads), path, model, source, precision)
        from_first(self.model, path)  # which is there for all of them now

    def _encode(self, video: Any, choice: Sampling) -> EncodedVideo:
        """Pictures shrink as they are decoded and become pixels a chunk at a time: what is held at
        once grows with the number of frames looked at, not with the clip's length or size."""
        processor = self.processor.video_processor
        began = time.perf_counter()
        fit = self._fit(choice)
        sampled = self.reader.read_video(
            video, **choice.wanted(self._usual), transform=processor.frame_transform(fit=fit)
        )
        hidden = processor.crop_warnings(sampled.info.height, sampled.info.width, fit=fit)
        self._refuse_too_many(*sampled.frames.shape[:3])
        read = time.perf_counter()
        normalising = 0.0

        def chunks() -> Iterator[torch.Tensor]:
            nonlocal normalising
            size = self.model.model.frames_at_once
            for first in range(0, len(sampled.frames), size):
                start = time.perf_counter()
                chunk = processor.normalise(sampled.frames[first : first + size])
                normalising += time.perf_counter() - start
                yield chunk

        times = torch.from_numpy(sampled.timestamps)
        with torch.no_grad():  # with all threads: frames are many
            memory = self.model.encode_video(chunks(), times)
        if self.narrows_memories and reads_narrow(memory, self.model):
            memory = memory.narrowed()
        encoded = time.perf_counter()
        return EncodedVideo(
            memory=memory,
            prompt=self.processor.token_layout.video_text(
                self.processor.video_token,
                times if self.processor.write_timestamps else None,
                *sampled.frames.shape[:3],
            ),
            info=replace(sampled.info, warnings=(*sampled.warnings, *hidden)),
            fit=fit,
            frame_indices=sampled.frame_indices.tolist(),
            timestamps=sampled.timestamps.tolist(),
            timing={
                "read": read - began,
                "preprocess": normalising,
                "encode": encoded - read - normalising,
            },
        )

    def _refuse_too_many(self, num_frames: int, height: int, width: int) -> None:
        """Before the tower looks at frames that no question could be asked about."""
        count = self.processor.token_layout.video_tokens(num_frames, height, width)
        if self._most is not None and count >= self._most:
            raise ValueError(
                f"{num_frames} frames are {count} tokens, and this model reads less than "
                f"{self._most}; look at fewer frames."
            )

    @property
    def _usual(self) -> int:
        """Frames that are looked at where nobody says how many."""
        return int(self.processor.video_processor.num_frames)

    @property
    def _most(self) -> int | None:
        """Tokens that the language model can read, and one."""
        return getattr(self.model.config.text_config, "max_position_embeddings", None)

    def _fit(self, sampling: Sampling) -> Fit:
        return sampling.fit or self.processor.video_processor.fit

    def user_message(self, question: str, first: bool) -> dict[str, Any]:
        """A turn of the user; the first brings the video.

        Raises:
            ValueError: the question is empty, or no text that UTF-8 can write.
        """
        question = checked_question(question, self.processor.control_tokens)
        content = [{"type": "text", "text": question}]
        if first:
            content.insert(0, {"type": "video"})
        return {"role": "user", "content": content}

    def without_control_tokens(self, words: str) -> str:
        """Words that end no turn and stand for no video."""
        return without_control_tokens(words, self.processor.control_tokens)

    def prompt_ids(
        self, messages: list[dict[str, Any]], video: EncodedVideo, room: int = 1
    ) -> torch.Tensor:
        """(1, L) ids of a conversation up to the next answer, which has at least `room` tokens.

        Raises:
            ValueError: there are more of them than the language model can read.
        """
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        text = text.replace(self.processor.video_token, video.prompt)
        encoded = self.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        count, most = encoded.input_ids.shape[1], self._most
        if most is not None and count + room > most:
            raise ValueError(
                f"{count} tokens of question and video, and this model reads less than {most}; ask "
                "in fewer words, look at fewer frames, or begin a new conversation."
            )
        return encoded.input_ids.to(self.model.device)

    def read_prompt(
        self, video: EncodedVideo, ids: torch.Tensor
    ) -> tuple[torch.Tensor, DynamicCache]:
        """Logits (1, V) of what follows a prompt's ids (1, L), and the cache that holds them."""
        types = self.model.model.token_types(ids)
        cache = self.beginnings.cache(video, ids) or DynamicCache()
        known = cache.get_seq_length()
        logits = self.model(
            input_ids=ids[:, known:],
            cache=cache,
            video_memory=pack_memories(types, [video.memory]),
            mm_token_type_ids=types[:, known:],
            fast_token_offset=(types[:, :known] != TEXT).sum(1),
            logits_to_keep=1,
        ).logits[:, -1]
        self.beginnings.keep(video, ids, types, cache)
        return logits, cache

    @property
    def takes_any_mask(self) -> bool:
        """Whether each token can be told what it sees, as branches of a tree must be."""
        text = self.model.config.text_config
        layers = DynamicCache(config=text).layers
        return text._attn_implementation in _MASKED and all(type(x) is DynamicLayer for x in layers)

    def mask_of(self, sight: torch.Tensor) -> torch.Tensor:
        """(1, 1, L, S) for the model, from (L, S) bool: True where a token sees another."""
        dtype = self.model.dtype
        blocked = torch.zeros(sight.shape, dtype=dtype).masked_fill_(~sight, torch.finfo(dtype).min)
        return blocked[None, None].to(self.model.device)

    @functools.cached_property
    def end_ids(self) -> set[int]:
        """Tokens that end an answer."""
        ids = self.model.generation_config.eos_token_id
        return set(ids) if isinstance(ids, list) else {ids}

    def decode(self, new_ids: list[int]) -> str:
        """The words of ids, without control tokens."""
        return self.processor.decode(new_ids, skip_special_tokens=True)

    def answer(
        self,
        new_ids: list[int],
        video: EncodedVideo,
        clock: Clock,
        began: float,
        generation: Generation,
        log_probabilities: list[float],
        likeliest: Sequence[list[tuple[int, float]]] = (),
    ) -> Answer:
        """Ids to words, and how long it took from `began` to now."""
        tokenizer = self.processor.tokenizer
        facts = (self.name, tokenizer, new_ids, video, clock, began, generation)
        return compose_answer(*facts, log_probabilities, likeliest)


def _is_memory_file(video: Any) -> bool:
    return is_named(video) and os.fspath(video).endswith(SUFFIX)


def _recalled(encoded: EncodedVideo, began: float) -> EncodedVideo:
    """With the time it took to read the memory's file."""
    return replace(encoded, timing={**AT_HAND, "read": time.perf_counter() - began})

"""Ask videos questions: reads a clip, remembers it once, and answers in words.

The one place where video, processor and model meet; knows nothing of terminals or servers.
"""

import functools
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import CompileConfig, StaticCache
from transformers.cache_utils import Cache

from slowfast_mllm.engine.answers import Answer, Clock, Generation, OnText, RefuseNan, Sampling
from slowfast_mllm.engine.batching import Batcher, Request, Ticket
from slowfast_mllm.engine.beginnings import Beginnings
from slowfast_mllm.engine.encoded_video import (
    AT_HAND,
    SUFFIX,
    EncodedVideo,
    Precision,
    check_target,
    describe_source,
    fingerprint,
    load_encoded,
    save_encoded,
)
from slowfast_mllm.engine.loading import DEFAULT_MODEL_NAME, Quantization, load_checkpoint
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.video import read_video
from slowfast_mllm.video.sources import is_utf8, printable

_ROOM = 512  # tokens
DESCRIBE = "What happens in the video?"


class SlowFast:
    """A loaded model that answers questions about videos. Safe to share between threads.

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
            cache: where memories of files are kept between calls and programs; None: nowhere.
            compile: run the decode steps of questions and conversations as compiled graphs.
        """
        self.model = model
        self.processor = processor
        self.name = name
        self.cache = cache
        self.compile = compile
        self.beginnings = Beginnings(model.config.text_config)

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
        encoded_before = isinstance(video, EncodedVideo)
        if choice != Sampling() and (encoded_before or _is_memory_file(video)):
            raise ValueError(
                f"{video.info.path if encoded_before else video}: its frames were chosen when it "
                "was encoded; leave out num_frames, fps, start, end and frames_fps, or ask the "
                "video itself."
            )
        if encoded_before:
            return replace(video, timing=AT_HAND)
        if _is_memory_file(video):
            encoded = load_encoded(Path(video), self.fingerprint, self.model)
            return _recalled(encoded, began)
        if self.cache is None:
            return self._encode(video, choice)
        settings = (self._frames_wanted(choice), self._exact_fingerprint, str(self.model.dtype))
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
        path = Path(path)
        check_target(path)
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r}: choose one of {get_args(Precision)}.")
        if _is_memory_file(video):
            raise ValueError(f"{video}: already a memory; index the video that it was made from.")
        source = None
        if isinstance(video, (str, os.PathLike)) and Path(video).exists():
            source = describe_source(video)
        encoded = self.encode(video, **sampling)
        save_encoded(encoded, path, self.fingerprint, source, precision)
        return encoded

    def _encode(self, video: Any, choice: Sampling) -> EncodedVideo:
        """Pictures shrink as they are decoded and become pixels a chunk at a time: what is held at
        once grows with the number of frames looked at, not with the clip's length or size."""
        processor = self.processor.video_processor
        began = time.perf_counter()
        sampled = read_video(
            video, **self._frames_wanted(choice), transform=processor.frame_transform()
        )
        self._refuse_too_many(*sampled.frames.shape[:3])
        read = time.perf_counter()
        normalising = 0.0

        def chunks() -> Iterator[torch.Tensor]:
            nonlocal normalising
            size = self.model.config.vision_chunk_frames
            for first in range(0, len(sampled.frames), size):
                start = time.perf_counter()
                chunk = processor.normalise(sampled.frames[first : first + size])
                normalising += time.perf_counter() - start
                yield chunk

        times = torch.from_numpy(sampled.timestamps)
        with torch.no_grad():
            memory = self.model.encode_video(chunks(), times)
        encoded = time.perf_counter()
        return EncodedVideo(
            memory=memory,
            prompt=self.processor.token_layout.video_text(
                self.processor.video_token,
                times if self.processor.write_timestamps else None,
                *sampled.frames.shape[:3],
            ),
            info=sampled.info,
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
    def _most(self) -> int | None:
        """Tokens that the language model can read, and one."""
        return getattr(self.model.config.text_config, "max_position_embeddings", None)

    def _frames_wanted(self, sampling: Sampling) -> dict[str, Any]:
        """Arguments of `read_video`."""
        choice = asdict(sampling)
        if sampling.fps is None:
            if sampling.num_frames is None:
                choice["num_frames"] = self.processor.video_processor.num_frames
            choice["max_frames"] = None  # limits what a rate would give
        return choice

    def ask(
        self, video: Any, question: str, on_text: OnText | None = None, **options: Any
    ) -> Answer:
        """Answer one question.

        Args:
            video: anything that `encode` takes.
            on_text: called with each piece of the answer as it is made.
            **options: fields of `Sampling` and `Generation`, e.g. `num_frames=64, temperature=0.2`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: the question is empty, or an option is unknown.
        """
        sampling, generation = self.split_options(options)
        return self.chat(video, **sampling)._ask(question, generation, on_text)

    def generate(
        self, requests: Iterable[Request], max_batch: int = 8
    ) -> Iterator[Answer | Exception]:
        """Answer many questions about many videos together.

        Requests are taken as they are needed and answers forgotten as they are given, so there may
        be millions.

        Yields:
            In the order of `requests`: the answer, or the error that made this request fail.
        """
        with Batcher(self, max_batch) as batcher:
            handed_in: deque[Ticket] = deque()
            for request in requests:
                handed_in.append(batcher.submit(request))
                while handed_in and (handed_in[0].done() or len(handed_in) > 4 * max_batch):
                    yield handed_in.popleft().outcome()
            while handed_in:
                yield handed_in.popleft().outcome()

    def describe(self, video: Any, on_text: OnText | None = None, **options: Any) -> Answer:
        """Say in a sentence or more what the video shows; see `ask`."""
        return self.ask(video, DESCRIBE, on_text, **options)

    def chat(self, video: Any, **sampling: Any) -> "Chat":
        """A conversation of several turns about one video, which is encoded once."""
        return Chat(self, self.encode(video, **sampling))

    # ---- what single questions, conversations and batches share ---------------------------------

    def split_options(self, options: dict[str, Any]) -> tuple[dict[str, Any], Generation]:
        """Fields of `Sampling`, and the rest as a `Generation`.

        Raises:
            ValueError: an option is unknown.
        """
        names = {f.name for f in fields(Sampling)}
        sampling = {name: value for name, value in options.items() if name in names}
        return sampling, _generation({n: v for n, v in options.items() if n not in names})

    def user_message(self, question: str, first: bool) -> dict[str, Any]:
        """A turn of the user; the first brings the video.

        Raises:
            ValueError: the question is empty, or no text that UTF-8 can write.
        """
        if not isinstance(question, str):
            raise ValueError(f"question: give words, not {type(question).__name__}.")
        if not is_utf8(question):
            raise ValueError(
                "The question is not valid UTF-8 text; check how it was typed or piped."
            )
        question = self.without_control_tokens(question)
        if not question.strip():
            raise ValueError("The question is empty; ask something like 'What happens?'.")
        content = [{"type": "text", "text": question.strip()}]
        if first:
            content.insert(0, {"type": "video"})
        return {"role": "user", "content": content}

    def without_control_tokens(self, words: str) -> str:
        """Words that end no turn and stand for no video."""
        for token in self.processor.control_tokens:
            words = words.replace(token, " ")
        return words

    def prompt_ids(self, messages: list[dict[str, Any]], video: EncodedVideo) -> torch.Tensor:
        """(1, L) ids of a conversation up to the next answer.

        Raises:
            ValueError: there are more of them than the language model can read.
        """
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        text = text.replace(self.processor.video_token, video.prompt)
        encoded = self.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        count, most = encoded.input_ids.shape[1], self._most
        if most is not None and count >= most:
            raise ValueError(
                f"{count} tokens of question and video, and this model reads less than {most}; ask "
                "in fewer words, look at fewer frames, or begin a new conversation."
            )
        return encoded.input_ids.to(self.model.device)

    @functools.cached_property
    def end_ids(self) -> set[int]:
        """Tokens that end an answer."""
        ids = self.model.generation_config.eos_token_id
        return set(ids) if isinstance(ids, list) else {ids}

    def answer(self, new_ids: list[int], video: EncodedVideo, clock: Clock, began: float) -> Answer:
        """Ids to words, and how long it took from `began` to now."""
        ended = time.perf_counter()
        first = clock.first or ended
        return Answer(
            text=self.processor.decode(new_ids, skip_special_tokens=True).strip(),
            model=self.name,
            info=video.info,
            frame_indices=video.frame_indices,
            timestamps=video.timestamps,
            timing={
                **video.timing,
                "prefill": first - began,
                "decode": ended - first,
                "tokens": len(new_ids),
            },
            warnings=list(video.info.warnings),
        )


class Chat:
    """Turns about one video. Keeps the messages and the key/value cache of what was said."""

    def __init__(self, assistant: SlowFast, video: EncodedVideo) -> None:
        self.assistant = assistant
        self.video = video
        self.messages: list[dict[str, Any]] = []
        self._sequence: list[int] = []
        self._cache: Cache | None = None
        self._room = 0  # tokens that a static cache has room for

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
        message = self.assistant.user_message(question, first=not self.messages)
        messages = [*self.messages, message]
        began = time.perf_counter()
        clock, new_ids = self._generate(messages, generation, on_text)
        answer = self.assistant.answer(new_ids, self.video, clock, began)
        said = self.assistant.without_control_tokens(answer.text)
        self.messages = [*messages, {"role": "assistant", "content": said}]
        self.video = replace(self.video, timing=AT_HAND)  # paid for by the first answer
        return answer

    def _generate(
        self, messages: list[dict[str, Any]], generation: Generation, on_text: OnText | None
    ) -> tuple[Clock, list[int]]:
        model = self.assistant.model
        ids = self.assistant.prompt_ids(messages, self.video)
        if self._sequence != ids[0, : len(self._sequence)].tolist():
            self._cache = None  # e.g. the answer was cut off in the middle of a character
        arguments = generation.arguments()
        compiled = self.assistant.compile and generation.num_beams == 1
        if compiled:
            self._make_room(ids.shape[1] + generation.max_new_tokens)
            arguments["compile_config"] = _compilation()
        # An answer that is interrupted leaves a cache that fits nothing.
        cache, self._cache = self._cache if generation.num_beams == 1 else None, None
        if cache is None and generation.num_beams == 1:
            cache = self.assistant.beginnings.cache(self.video, ids)
        clock = Clock(self.assistant.processor.tokenizer, on_text)
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            video_memory=self.video.memory,
            cache=cache,
            streamer=clock if generation.num_beams == 1 else None,
            return_dict_in_generate=True,
            logits_processor=[RefuseNan()],
            **arguments,
        )
        # Beams reorder the cache as a whole; only a single path can be gone on with.
        self._cache = output.cache if generation.num_beams == 1 else None
        types = model.model.token_types(ids)
        self.assistant.beginnings.keep(self.video, ids, types, self._cache)
        self._sequence = output.sequences[0].tolist()
        return clock, self._sequence[ids.shape[1] :]

    def _make_room(self, length: int) -> None:
        """A static cache for so many tokens, unless there is one: compiled graphs need its shape.

        Room is counted in steps, so that few shapes occur and each is compiled once.
        """
        if self._cache is None or self._room < length:
            self._room = -(-length // _ROOM) * _ROOM
            text = self.assistant.model.config.text_config
            self._cache = StaticCache(config=text, max_cache_len=self._room)


def _compilation() -> CompileConfig:
    """Let `generate` compile its decode steps, on CPUs too, which it does only when told so."""
    config = CompileConfig()
    config._compile_all_devices = True
    return config


def _is_memory_file(video: Any) -> bool:
    return isinstance(video, (str, os.PathLike)) and os.fspath(video).endswith(SUFFIX)


def _recalled(encoded: EncodedVideo, began: float) -> EncodedVideo:
    """With the time it took to read the memory's file."""
    return replace(encoded, timing={**AT_HAND, "read": time.perf_counter() - began})


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
    compile: bool = False,
    quantize: Quantization | None = None,
) -> SlowFast:
    """Load a model that answers questions about videos.

    Args:
        model: folder or hub id of a checkpoint, native or official; None: the packaged one.
        device, dtype: None picks what fits the machine.
        cache: keeps memories of files on disk, e.g. `MemoryCache(Path("memories"))`.
        compile: compile tower and decode steps: the first answer takes longer; on CPUs the others
            were no faster at half a billion weights.
        quantize: "int8" or "nf4" weights of the language model; needs bitsandbytes.

    Raises:
        ModelError: the checkpoint cannot be loaded; the message says why.
    """
    network, processor = load_checkpoint(model, device, dtype, compile, quantize)
    name = DEFAULT_MODEL_NAME if model is None else str(model)
    return SlowFast(network, processor, name, cache, compile)

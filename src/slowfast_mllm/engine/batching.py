"""Answers many requests together: sequences join and leave a running batch between decode steps.

A short answer never waits for a long one, and a request that fails or is cancelled harms no other;
only what fails in a step that all share (memory runs out) fails for all of them, and for nobody
who comes later. The next videos and prompts are read in other threads while answers are written;
a GPU takes turns.
"""

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList

from slowfast_mllm.engine.answer import Answer, OnText
from slowfast_mllm.engine.answers import Clock, Generation, RefuseNan, split_options
from slowfast_mllm.engine.beside import with_words
from slowfast_mllm.engine.encoded_video import AT_HAND, EncodedVideo
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.engine.memory_names import source_stamp
from slowfast_mllm.engine.reading import with_evidence
from slowfast_mllm.engine.stopping import StopAtStrings
from slowfast_mllm.engine.turns import conversation
from slowfast_mllm.model.hardware import threads_for
from slowfast_mllm.model.sharding import answers_in_turn
from slowfast_mllm.model.video_memory import TEXT, MemoryBatch, pad_rows
from slowfast_mllm.video.names import is_named, localized

_IDLE = 0.5  # seconds after which a batch without work looks whether the program goes on
_READERS = 2  # one decodes a clip while the other's frames go through the tower


@dataclass(frozen=True)
class Request:
    """One question about one video.

    Attributes:
        video: anything that `SlowFast.encode` takes.
        on_text: called with each piece of the answer as it is made, from threads of the batch.
        options: fields of `Sampling` and `Generation`; `num_beams` must be 1.
        earlier: messages before the question; see `conversation`.
    """

    video: Any
    question: str
    on_text: OnText | None = None
    options: dict[str, Any] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, str]] = ()


class Ticket:
    """A request that was handed in."""

    def __init__(self) -> None:
        self._future: Future[Answer] = Future()

    def result(self, timeout: float | None = None) -> Answer:
        """Wait for the answer.

        Raises:
            CancelledError: it was cancelled.
            TimeoutError: it took longer than `timeout` seconds.
            Exception: whatever made the request fail, e.g. `VideoError`.
        """
        return self._future.result(timeout)

    def outcome(self) -> Answer | Exception:
        """Wait for the answer, or for the error in its place."""
        return self._future.exception() or self._future.result()  # type: ignore[return-value]

    def done(self) -> bool:
        return self._future.done()

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then` as soon as it is, from whichever thread that is noticed in."""
        self._future.add_done_callback(lambda _: then())

    def cancel(self) -> None:
        """Give it up; a sequence that is being answered leaves the batch before the next token."""
        self.fail(CancelledError())

    def succeed(self, answer: Answer) -> None:
        with suppress(InvalidStateError):  # another thread gave it up first
            self._future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Without its traceback, whose frames would keep tensors alive with the error."""
        error.__context__ = None
        with suppress(InvalidStateError):
            self._future.set_exception(error.with_traceback(None))


@dataclass(eq=False)
class _Encoding:
    """A video that is being encoded, or was; there as long as a sequence asks about it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    video: EncodedVideo | None = None


@dataclass
class _Sequence:
    """One request on its way through the batch."""

    ticket: Ticket
    video: EncodedVideo
    shared: _Encoding | None
    prompt: list[int]
    generation: Generation
    processors: LogitsProcessorList
    stop: StopAtStrings
    clock: Clock
    generator: torch.Generator | None
    began: float
    new_ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    likeliest: list[list[tuple[int, float]]] = field(default_factory=list)
    error: BaseException | None = None
    left: bool = False

    def take(self, logits: Tensor) -> None:
        """The next token, from logits (V,)."""
        self.new_ids.append(self.next_id(logits))
        if self.generation.return_scores:
            likely = logits.float().log_softmax(-1)
            self.log_probabilities.append(float(likely[self.new_ids[-1]]))
            if count := self.generation.top_scores:
                values, ids = likely.topk(min(count, len(likely)))
                self.likeliest.append(list(zip(ids.tolist(), values.tolist(), strict=True)))
        self.clock.put(torch.tensor(self.new_ids[-1:]))

    def next_id(self, logits: Tensor) -> int:
        """Choose a token from logits (V,)."""
        if self.processors:
            so_far = torch.tensor([self.prompt + self.new_ids], device=logits.device)
            logits = self.processors(so_far, logits[None].float())[0]
        if self.generation.temperature == 0:
            return int(logits.argmax())
        return int(torch.multinomial(logits.softmax(-1), 1, generator=self.generator))


@dataclass
class _Batch:
    """Sequences that are decoded together, their prompts padded on the left.

    Attributes:
        mask: (B, L), 0 at padding.
        memory: of all sequences, for decode steps; None: to be made.
    """

    sequences: list[_Sequence]
    cache: DynamicCache
    mask: Tensor
    memory: MemoryBatch | None = None

    def join(self, other: "_Batch") -> None:
        """Take in another batch."""
        length = max(self.mask.shape[1], other.mask.shape[1])

        def padded(tensor: Tensor) -> Tensor:  # (B, K, L, d)
            return F.pad(tensor, (0, 0, length - tensor.shape[2], 0))

        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([padded(mine.keys), padded(theirs.keys)])
            mine.values = torch.cat([padded(mine.values), padded(theirs.values)])
        masks = [F.pad(m, (length - m.shape[1], 0)) for m in (self.mask, other.mask)]
        self.mask = torch.cat(masks)
        self.sequences += other.sequences
        self.memory = None

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows, and columns that then hold padding alone."""
        index = torch.tensor(rows, device=self.mask.device)
        self.mask = self.mask[index]
        first = int(self.mask.any(0).int().argmax())
        self.mask = self.mask[:, first:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[index, :, first:]
            layer.values = layer.values[index, :, first:]
        self.sequences = [self.sequences[row] for row in rows]
        self.memory = None


class Batcher:
    """A running batch. Use it as a context manager; leaving waits for what was handed in."""

    def __init__(
        self,
        assistant: LoadedModel,
        max_batch: int = 8,
        on_step: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`on_step` is called with how many answers get their next token."""
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}.")
        if answers_in_turn(assistant.model):
            raise ValueError(
                f"{assistant.name}: over processes, or with weights that come and go, there is no "
                "running batch; load it whole, or ask one question after the other."
            )
        self.assistant = assistant
        self.max_batch = max_batch
        self._on_step = on_step
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="slowfast-reader")
        # No more videos and prompts are held ready than the batch can take next.
        self._room = threading.Semaphore(2 * max_batch)
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._tickets_lock = threading.Lock()
        self._broken: BaseException | None = None
        self._encodings: weakref.WeakValueDictionary[Any, _Encoding] = weakref.WeakValueDictionary()
        self._encodings_lock = threading.Lock()
        self._ready: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        # Readers share torch's CPU threads, and what is small takes one.
        threads = torch.get_num_threads()
        suitable = threads_for(sum(p.numel() for p in assistant.model.parameters()))
        self._started = threading.Barrier(_READERS + 2)
        for _ in range(_READERS):
            self._readers.submit(self._start, max(1, min(suitable, threads // _READERS)))
        # No daemon: a program that ends with work open must not be torn down in the middle of it.
        self._thread = threading.Thread(target=self._run, args=(suitable,), name="slowfast-batch")
        self._thread.start()
        self._started.wait()
        torch.set_num_threads(threads)  # the last call also decides for threads yet to come

    def __enter__(self) -> "Batcher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """After an error (or Ctrl-C, while waiting too) what was handed in is given up."""
        try:
            if kind is None:
                self._finish()
        finally:
            for ticket in self._open_tickets():
                ticket.cancel()
            self._finish()

    def _finish(self) -> None:
        self._readers.shutdown(wait=True)
        self._ready.put(None)
        self._thread.join()

    def _open_tickets(self) -> list[Ticket]:
        with self._tickets_lock:
            return [ticket for ticket in self._tickets if not ticket.done()]

    def submit(self, request: Request) -> Ticket:
        """Hand in a request; returns at once."""
        ticket = Ticket()
        with self._tickets_lock:
            self._tickets.add(ticket)
        self._readers.submit(self._prepare, request, ticket)
        return ticket

    def _start(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        torch.get_num_threads()  # else the thread's first operation would take the latest setting
        self._started.wait()

    # ---- readers' threads ----------------------------------------------------------------------

    def _prepare(self, request: Request, ticket: Ticket) -> None:
        while not self._room.acquire(timeout=0.1):
            if ticket.done() or self._broken:
                ticket.fail(self._broken or CancelledError())
                return
        try:
            with torch.no_grad():
                batch = self._prefill(request, ticket)
            if not self._left(batch.sequences[0]):
                self._ready.put(batch)
        except BaseException as error:
            self._room.release()
            ticket.fail(error)

    def _prefill(self, request: Request, ticket: Ticket) -> _Batch:
        """Read the video and the prompt, and choose the first token."""
        self._check(ticket)
        assistant = self.assistant
        sampling, generation = split_options(request.options)
        if generation.num_beams != 1:
            raise ValueError("num_beams: beams cannot share a batch; use `ask` for them.")
        video, shared = self._encode(request.video, sampling)
        self._check(ticket)
        messages = conversation(
            assistant.user_message,
            assistant.without_control_tokens,
            with_words(request.question, generation.told(video)),
            request.earlier,
        )
        generator = None
        if generation.temperature > 0:
            generator = torch.Generator(assistant.model.device)
            if generation.seed is None:
                generator.seed()
            else:
                generator.manual_seed(generation.seed)
        ids = assistant.prompt_ids(messages, video)
        prompt, tokenizer = ids[0].tolist(), assistant.processor.tokenizer
        clock = Clock(tokenizer, prompt, generation, request.on_text)
        own = generation.own_processors(
            tokenizer, assistant.end_ids, prompt, generation.max_new_tokens
        )
        sequence = _Sequence(
            ticket=ticket,
            video=video,
            shared=shared,
            prompt=prompt,
            generation=generation,
            processors=generation.processors(assistant.model, own),
            stop=StopAtStrings(generation.stop, assistant.decode, len(prompt), clock.thinks),
            clock=clock,
            generator=generator,
            began=time.perf_counter(),
        )
        logits, cache = assistant.read_prompt(video, ids)
        batch = _Batch([sequence], cache, torch.ones_like(ids))
        sequence.clock.put(ids)
        _choose(batch.sequences, logits)
        return batch

    def _encode(
        self, video: Any, sampling: dict[str, Any]
    ) -> tuple[EncodedVideo, _Encoding | None]:
        """A path once for all who ask about it meanwhile."""
        video = localized(video)
        if not is_named(video):
            return self.assistant.encode(video, **sampling), None
        try:
            key = (os.fspath(video), source_stamp(video), repr(sorted(sampling.items())))
        except (OSError, ValueError):  # to be told by reading it
            return self.assistant.encode(video, **sampling), None
        with self._encodings_lock:
            shared = self._encodings.setdefault(key, _Encoding())
        with shared.lock:
            if shared.video is None:
                shared.video = self.assistant.encode(video, **sampling)
                return shared.video, shared
        return replace(shared.video, timing=AT_HAND), shared

    def _check(self, ticket: Ticket) -> None:
        if ticket.done() or self._broken:
            raise self._broken or CancelledError

    # ---- the batch's thread --------------------------------------------------------------------

    def _run(self, num_threads: int) -> None:
        self._start(num_threads)
        try:
            with torch.no_grad():
                self._answer_all()
        except BaseException as error:  # whatever it was, nobody may wait for ever
            self._broken = error
            for ticket in self._open_tickets():
                ticket.fail(error)

    def _answer_all(self) -> None:
        batch: _Batch | None = None
        open_for_more = True
        while open_for_more or batch is not None:
            if not threading.main_thread().is_alive():
                raise CancelledError  # the program has ended: what is open is given up
            batch, open_for_more = self._round(batch, open_for_more)

    def _round(self, batch: _Batch | None, open_for_more: bool) -> tuple[_Batch | None, bool]:
        """One more token for all, and for what can join now."""
        arrived, open_for_more = self._arrivals(batch, open_for_more)
        batches = arrived if batch is None else [batch, *arrived]
        sequences = [sequence for part in batches for sequence in part.sequences]
        del arrived  # what has joined is not held twice
        try:
            while len(batches) > 1:
                batches[0].join(batches.pop(1))
            batch = self._without_finished(batches.pop()) if batches else None
            if batch is not None:
                self._step(batch)
                batch = self._without_finished(batch)
        except Exception as error:
            for sequence in sequences:
                if not sequence.left:
                    self._leave(sequence, error)
            batch = None
        return batch, open_for_more

    def _arrivals(self, batch: _Batch | None, open_for_more: bool) -> tuple[list[_Batch], bool]:
        """What can join now; waits only where nothing else is to be done."""
        arrived: list[_Batch] = []
        active = 0 if batch is None else len(batch.sequences)
        while open_for_more and active + len(arrived) < self.max_batch:
            try:
                fresh = self._ready.get(block=not active and not arrived, timeout=_IDLE)
            except queue.Empty:
                break
            if fresh is None:
                open_for_more = False
            else:
                arrived.append(fresh)
        return arrived, open_for_more

    def _step(self, batch: _Batch) -> None:
        """One more token for each sequence."""
        self._on_step(len(batch.sequences))
        model = self.assistant.model
        if batch.memory is None and model.config.slow_attention_for_generated_tokens:
            batch.memory = self._memory_of(batch.sequences).without_fast_tokens()
        batch.mask = F.pad(batch.mask, (0, 1), value=1)
        last = torch.tensor([[s.new_ids[-1]] for s in batch.sequences], device=model.device)
        logits = model(
            input_ids=last,
            attention_mask=batch.mask,
            cache=batch.cache,
            video_memory=batch.memory,
            # As in `generate`, a placeholder that the model says stands for nothing.
            mm_token_type_ids=torch.full_like(last, TEXT),
            # How many placeholders came before does not matter here, only that some did.
            fast_token_offset=batch.mask.new_ones(len(last)),
        ).logits[:, -1]
        _choose(batch.sequences, logits)

    def _memory_of(self, sequences: list[_Sequence]) -> MemoryBatch:
        """Of all rows. Where all ask about one video, which is usual, it is not copied for each:
        that took longer than the step. Kernels for other numbers than float32 would copy it in
        every step."""
        memories = [s.video.memory for s in sequences]
        first = memories[0]
        plain = first.fast_tokens.dtype == torch.float32 and first.fast_tokens.device.type == "cpu"
        one = plain and not first.narrow and all(memory is first for memory in memories)
        if one and self.assistant.model.model.reads_views:
            return first.seen_by(len(memories))
        return pad_rows([[memory] for memory in memories], first)

    def _without_finished(self, batch: _Batch) -> _Batch | None:
        stay = [row for row, s in enumerate(batch.sequences) if not self._left(s)]
        if 0 < len(stay) < len(batch.sequences):
            batch.keep(stay)
        return batch if stay else None

    def _left(self, sequence: _Sequence) -> bool:
        """Whether a sequence is at its end; if so it is handed over."""
        if sequence.ticket.done():  # cancelled
            sequence.error = CancelledError()
        ended = sequence.new_ids[-1:] and sequence.new_ids[-1] in self.assistant.end_ids
        full = len(sequence.new_ids) >= sequence.generation.max_new_tokens
        stopped = sequence.generation.stop and sequence.stop.ends(sequence.new_ids)
        if not (ended or full or stopped or sequence.error):
            return False
        self._leave(sequence, sequence.error)
        return True

    def _leave(self, sequence: _Sequence, error: BaseException | None) -> None:
        sequence.left = True
        self._room.release()
        if error is not None:
            sequence.ticket.fail(error)
            return
        try:
            sequence.clock.end()
            answer = self.assistant.answer(
                sequence.new_ids,
                sequence.video,
                sequence.clock,
                sequence.began,
                sequence.generation,
                sequence.log_probabilities,
                sequence.likeliest,
            )
            answer = replace(answer, prompt_tokens=len(sequence.prompt))
            if sequence.generation.evidence:
                ids = sequence.prompt + sequence.new_ids
                count = len(sequence.new_ids)
                answer = with_evidence(answer, self.assistant, sequence.video, ids, count)
        except BaseException as failure:
            sequence.ticket.fail(failure)
        else:
            sequence.ticket.succeed(answer)


def _choose(sequences: list[_Sequence], logits: Tensor) -> None:
    """The next token of each sequence, from logits (B, V); a listener that fails fails alone."""
    broken = logits.amax(-1).isnan().tolist()
    for sequence, row, is_nan in zip(sequences, logits, broken, strict=True):
        try:
            if is_nan:
                RefuseNan()(logits, scores=row)
            sequence.take(row)
        except BaseException as error:
            sequence.error = error

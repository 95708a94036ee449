"""Ask videos questions: the one class that applications hold, and how it is loaded.

The one place where video, processor and model meet; knows nothing of terminals or servers.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowfast_mllm.engine.answer import Answer, Likelihood, OnText
from slowfast_mllm.engine.answers import split_options
from slowfast_mllm.engine.batching import Batcher, Request, Ticket
from slowfast_mllm.engine.catalog import checkpoint_of
from slowfast_mllm.engine.chat import Chat
from slowfast_mllm.engine.encoded_video import EncodedVideo
from slowfast_mllm.engine.exported_model import is_exported, load_exported
from slowfast_mllm.engine.likelihoods import likelihoods_about, likelihoods_each
from slowfast_mllm.engine.loaded_model import LoadedModel
from slowfast_mllm.engine.loading import (
    DEFAULT_MODEL_NAME,
    ModelError,
    Quantization,
    load_checkpoint,
    narrows_memories,
    narrows_tower,
)
from slowfast_mllm.engine.memory_cache import MemoryCache
from slowfast_mllm.engine.protocol import Capabilities, one_at_a_time
from slowfast_mllm.engine.transformers_loading import is_of_transformers, load_transformers
from slowfast_mllm.engine.transformers_model import TransformersModel
from slowfast_mllm.engine.turns import conversation
from slowfast_mllm.model.convnext import narrow_mlps
from slowfast_mllm.model.hardware import suitable_threads
from slowfast_mllm.model.sharding import answers_in_turn
from slowfast_mllm.questions import DESCRIBE


class SlowFast(LoadedModel):
    """A loaded model that answers questions about videos. Safe to share between threads."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            questions=True,
            memory=True,
            evidence=True,
            several_videos=False,
            streaming=True,
            likelihoods=True,
            batching=True,
        )

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
        sampling, generation = split_options(options)
        return self.chat(video, **sampling).answer(question, generation, on_text)

    def encode_together(self, videos: Sequence[Any], **sampling: Any) -> EncodedVideo:
        """Refused: Slow-Fast models were trained on one video in a prompt.

        Raises:
            ValueError: always.
        """
        raise one_at_a_time(self.name)

    def generate(
        self, requests: Iterable[Request], max_batch: int = 8
    ) -> Iterator[Answer | Exception]:
        """Answer many questions about many videos together.

        Requests are taken as they are needed and answers forgotten as they are given, so there may
        be millions. A model that threads must not share (`answers_in_turn`) answers in turn.

        Yields:
            In the order of `requests`: the answer, or the error that made this request fail.
        """
        if answers_in_turn(self.model):
            yield from map(self._in_turn, requests)
            return
        with Batcher(self, max_batch) as batcher:
            handed_in: deque[Ticket] = deque()
            for request in requests:
                handed_in.append(batcher.submit(request))
                while handed_in and (handed_in[0].done() or len(handed_in) > 4 * max_batch):
                    yield handed_in.popleft().outcome()
            while handed_in:
                yield handed_in.popleft().outcome()

    def _in_turn(self, request: Request) -> Answer | Exception:
        try:
            sampling, generation = split_options(request.options)
            chat = self.chat(request.video, **sampling)
            turns = (self.user_message, self.without_control_tokens)
            chat.messages = conversation(*turns, request.question, request.earlier)[:-1]
            return chat.answer(request.question, generation, request.on_text)
        except Exception as error:
            return error.with_traceback(None)

    def likelihoods(
        self, video: Any, question: str, answers: Sequence[str], **sampling: Any
    ) -> list[Likelihood]:
        """How likely the model finds each of several answers to one question.

        Args:
            video: anything that `encode` takes.
            answers: in words; hundreds cost little more than one.
            **sampling: fields of `Sampling`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: the question or an answer is empty.
        """
        return self.likelihoods_each(video, [question], answers, **sampling)[0]

    def likelihoods_each(
        self, video: Any, questions: Sequence[str], answers: Sequence[str], **sampling: Any
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, of the same answers to each of several questions: a list for each.

        What questions share at their beginning is read once.
        """
        seen = self.encode(video, **sampling)
        with suitable_threads(self.model.model.language_model):
            return likelihoods_each(self, seen, questions, answers)

    def likelihoods_about(
        self, videos: Sequence[EncodedVideo], question: str, answers: Sequence[str]
    ) -> list[list[Likelihood]]:
        """As `likelihoods`, about each of several videos, in one pass: a list for each."""
        with suitable_threads(self.model.model.language_model):
            return likelihoods_about(self, videos, question, answers)

    def describe(self, video: Any, on_text: OnText | None = None, **options: Any) -> Answer:
        """Say in a sentence or more what the video shows; see `ask`."""
        return self.ask(video, DESCRIBE, on_text, **options)

    def chat(self, video: Any, **sampling: Any) -> Chat:
        """A conversation of several turns about one video, which is encoded once."""
        return Chat(self, self.encode(video, **sampling))


class ExportedSlowFast(SlowFast):
    """The same, run by onnxruntime from what `slowfast export` wrote; what was read is not told."""

    def __init__(self, path: str, cache: MemoryCache | None) -> None:
        network, processor, fingerprints = load_exported(path)
        super().__init__(network, processor, path, cache)
        # Its memories are those of the checkpoint, whose weights are not here.
        self.fingerprint, self._exact_fingerprint = fingerprints

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, evidence=False)


def load(
    model: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    cache: MemoryCache | None = None,
    compile: bool = False,
    quantize: Quantization | None = None,
) -> SlowFast | TransformersModel:
    """Load a model that answers questions about videos.

    Args:
        model: folder, hub id or alias (`catalog`) of a checkpoint, Slow-Fast (native or official)
            or of another family (`families`), which its config tells; None or "slowfast-mini": the
            packaged one.
        device, dtype: None picks what fits the machine. "auto" spreads a model over all devices and
            the disk; "tp" splits the heads of a Slow-Fast model over the processes that `torchrun`
            started, each of which must then ask the same, in the same order.
        cache: keeps memories of files on disk, e.g. `MemoryCache(Path("memories"))`; of Slow-Fast
            models only.
        compile: compile tower and decode steps: the first answer takes longer; on CPUs the others
            were no faster at half a billion weights.
        quantize: "int8", "int4" (CPUs) or "nf4" weights of the language model; needs ONNX Runtime
            on CPUs (nf4: bitsandbytes), bitsandbytes on GPUs. On CPUs a large ConvNeXt tower is
            computed in int8, too, and slow keys and values of long videos are kept in int8, where
            that is fast.

    Raises:
        ModelError: the checkpoint cannot be loaded; the message says why.
    """
    model = None if model is None else checkpoint_of(str(model))
    if model is not None:
        if is_exported(model):
            if compile or any(x is not None for x in (device, dtype, quantize)):
                raise ModelError(
                    f"{model}: an exported model runs in float32 on the CPU; leave out --device, "
                    "--dtype, --compile and --quantize."
                )
            return ExportedSlowFast(model, cache)
        if is_of_transformers(model):
            if compile:
                raise ModelError(f"--compile: for Slow-Fast models only, and {model} is none.")
            return load_transformers(model, device, dtype, quantize)
    network, processor = load_checkpoint(model, device, dtype, compile, quantize)
    name = DEFAULT_MODEL_NAME if model is None else str(model)
    assistant = SlowFast(network, processor, name, cache, compile)
    if narrows_memories(network):
        # Files of memories serve narrow models and wide ones, by the weights as the checkpoint has
        # them; what a cache holds is never another's.
        _ = assistant.fingerprint
        assistant._exact_fingerprint += " slow tokens in int8"
        assistant.narrows_memories = True
    if narrows_tower(network):
        assistant._exact_fingerprint += " tower in int8"
        narrow_mlps(network.model.vision_tower)
    return assistant

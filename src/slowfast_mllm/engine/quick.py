"""The plain question about a video that was looked at before, answered without torch.

Importing torch and transformers costs seconds, reading a kept memory and answering with a small
language model next to nothing. So the first time a model answers from the shell, `take_note` writes
down what is to be known of it beside its weights (fingerprints, the words around a question), and
`recall` answers later questions by that note; where it cannot, it gives None, and the whole engine
is loaded as ever.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slowfast_mllm
from slowfast_mini import WEIGHTS
from slowfast_mllm.engine.answer import Answer, Sampling, checked_question
from slowfast_mllm.engine.frame_choice import AUTO
from slowfast_mllm.engine.memory_names import SUFFIX, digest, memory_key
from slowfast_mllm.engine.thoughts import ToldApart, opens_thought, split_thought
from slowfast_mllm.video import VideoInfo
from slowfast_mllm.video.names import printable

if TYPE_CHECKING:
    from slowfast_mllm.engine.assistant import SlowFast

_HERE = "\ue000"  # stands for the question in a note's prompt; nobody's template knows it
_EXPORT = "export.json"
# What a generation config may say that changes no likeliest answer.
_PLAIN = {"_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache",
          "output_attentions", "output_hidden_states", "transformers_version", "do_sample",
          "temperature", "top_k", "top_p"}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What is to be known of a model beside its weights.

    Attributes:
        fingerprint, exact: by which its memories are told from others'.
        num_frames, fit: how it looks at a video where nobody says.
        prompt: what it reads about a video, with the video's placeholder and `_HERE`.
        most: tokens that it can read, and one; None: any number.
    """

    name: str
    fingerprint: str
    exact: str
    num_frames: int
    fit: str
    prompt: str
    video_token: str
    video_token_id: int
    control_tokens: list[str]
    end_ids: list[int]
    special_ids: list[int]
    most: int | None


def take_note(assistant: "SlowFast", model: str | None, folder: Path) -> None:
    """Write down what `recall` needs of a model that has answered.

    Nothing where it could not answer quickly: only the packaged model and exported ones do.

    Args:
        model: as it was named to `load`; without any other of its arguments.
        folder: of the cache of memories.
    """
    from slowfast_mllm.model.modeling_slowfast import logit_rules

    path, network, processor = _path_of(model, folder), assistant.model, assistant.processor
    if path is None or path.exists() or str(network.device) != "cpu":
        return
    message = assistant.user_message(_HERE, first=True)
    prompt = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    tokenizer = processor.tokenizer
    if (
        str(network.dtype) != "torch.float32"
        or logit_rules(network.config.text_config) != (1.0, None)
        or not {k for k, v in network.generation_config.to_diff_dict().items() if v} <= _PLAIN
        or prompt.count(_HERE) != 1
        or prompt.count(processor.video_token) != 1
        or opens_thought(tokenizer, tokenizer(prompt, add_special_tokens=False).input_ids)
    ):
        return
    note = Note(
        name=assistant.name,
        fingerprint=assistant.fingerprint,
        exact=assistant._exact_fingerprint,
        num_frames=assistant._usual,
        fit=processor.video_processor.fit,
        prompt=prompt,
        video_token=processor.video_token,
        video_token_id=processor.video_token_id,
        control_tokens=processor.control_tokens,
        end_ids=sorted(assistant.end_ids),
        special_ids=tokenizer.all_special_ids,
        most=assistant._most,
    )
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(exist_ok=True)
        partial.write_text(json.dumps(asdict(note)), encoding="utf-8")
        partial.replace(path)
    except OSError:  # a full disk, or others' folder: the next answer is no quicker
        partial.unlink(missing_ok=True)


def _path_of(model: str | None, folder: Path) -> Path | None:
    """Where the note of a model lies, beside the folder of memories, by what can be seen of the
    model's files; None: it has none."""
    source = _folder_of(model)
    if source is None:
        return None
    stats = [(file.name, os.stat(file)) for file in sorted(source.glob("*.*"))]
    seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    facts = [os.path.realpath(source), seen, slowfast_mllm.__version__]
    return folder.with_name("models") / f"{digest([json.dumps(facts).encode()])}.note"


def _folder_of(model: str | None) -> Path | None:
    if model is None:
        return WEIGHTS
    return Path(model) if os.path.isfile(os.path.join(model, _EXPORT)) else None


def recall(
    model: str | None, video: str, folder: Path, **sampling: Any
) -> "QuickConversation | None":
    """A question's worth of a conversation about a video that a model has a memory of.

    Args:
        model: None (packaged) or the folder of an exported model.
        video: path of a video, or of a `.sfmem` file.
        folder: of the cache of memories.
        **sampling: fields of `Sampling`.

    Returns:
        None: the whole engine is needed.
    """
    began, is_memory = time.perf_counter(), video.endswith(SUFFIX)
    try:
        choice = Sampling(**sampling)
        if choice.num_frames == AUTO or (is_memory and choice != Sampling()):
            return None
        path = _path_of(model, folder)
        if path is None or not path.exists() or not os.path.exists(video):
            return None
        note = Note(**json.loads(path.read_text(encoding="utf-8")))
        if is_memory:
            return QuickConversation(note, model, Path(video), None, began)
        settings = (choice.wanted(note.num_frames), choice.fit or note.fit, note.exact)
        kept = folder / f"{memory_key(video, *settings, 'torch.float32')}{SUFFIX}"
        found = QuickConversation(note, model, kept, video, began)
        os.utime(kept, ns=(time.time_ns(), time.time_ns()))
        return found
    except Exception:  # of whatever kind: the engine says what is wrong, and mends what can be
        return None


@dataclass(frozen=True)
class Recalled:
    """What was kept of a video, as far as an answer tells of it."""

    info: VideoInfo
    frame_indices: list[int]
    timestamps: list[float]


class QuickConversation:
    """About one video, of one question."""

    def __init__(
        self, note: Note, model: str | None, memory: Path, video: str | None, began: float
    ) -> None:
        """
        Args:
            memory: the `.sfmem` file.
            video: what it is called, where that is not in the file.
        """
        from tokenizers import Tokenizer

        from slowfast_mllm.engine.quick_files import read_memory

        self._note = note
        self._folder = WEIGHTS if model is None else Path(model)
        facts, self._tensors = read_memory(memory, note.fingerprint)
        info = VideoInfo.from_dict(facts["info"])
        self._placeholders = facts["prompt"]
        if video is not None:
            info = replace(info, path=printable(video))
        self.video = Recalled(info, facts["frame_indices"], facts["timestamps"])
        self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._step, self._row, self._fast = self._read()
        if self._placeholders.count(note.video_token) != len(self._fast):
            raise ValueError("tokens of another number")
        self._took = time.perf_counter() - began

    def _read(self) -> tuple[Any, Any, Any]:
        """The language model, what it attends, and fast tokens."""
        from slowfast_mllm.engine.quick_files import Safetensors
        from slowfast_mllm.engine.quick_language import (
            GraphStep,
            NumpyStep,
            Sequence,
            fits_numpy,
        )

        config = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        step: Any
        if (self._folder / _EXPORT).exists():
            step = GraphStep(config, self._folder)
        elif fits_numpy(config):
            step = NumpyStep(config, Safetensors(self._folder / "model.safetensors"))
        else:
            raise ValueError("needs the whole engine")
        slow = {
            index: (
                self._tensors.floats(f"slow_keys.{index}"),
                self._tensors.floats(f"slow_values.{index}"),
            )
            for index in config["hybrid_layers"]
        }
        self._who = config["cross_attending_tokens"]
        self._also_generated = config["slow_attention_for_generated_tokens"]
        return step, Sequence([], slow), self._tensors.floats("fast_tokens")

    def ask(
        self,
        question: str,
        on_text: Callable[[str], None] | None = None,
        max_new_tokens: int = 256,
        **_: Any,
    ) -> Answer:
        """The likeliest answer; see `SlowFast.ask`. Of further fields, none but defaults are taken.

        Raises:
            ValueError: the question is empty, or too long.
        """
        note, began = self._note, time.perf_counter()
        words = checked_question(question, note.control_tokens)
        before, after = note.prompt.split(_HERE)
        before = before.replace(note.video_token, self._placeholders)
        ids = self._tokenizer.encode(before + words + after, add_special_tokens=False).ids
        if note.most is not None and len(ids) + 1 > note.most:
            raise ValueError(
                f"{len(ids)} tokens of question and video, and this model reads less than "
                f"{note.most}; ask in fewer words, or look at fewer frames."
            )
        apart = ToldApart(False, _nobody, on_text or _nobody)
        new_ids: list[int] = []
        told, first = "", began
        for token in self._tokens(ids):
            first = first if new_ids else time.perf_counter()
            new_ids.append(token)
            whole = self._tokenizer.decode(new_ids)
            if on_text and (said := whole[: whole.rfind(" ") + 1])[len(told) :]:
                apart.put(said[len(told) :], last=False)
                told = said
            if token in note.end_ids or len(new_ids) >= max_new_tokens:
                break
        text = self._tokenizer.decode(new_ids)
        apart.put(text[len(told) :], last=True)
        timing = {
            "read": self._took,
            "preprocess": 0.0,
            "encode": 0.0,
            "prefill": first - began,
            "decode": time.perf_counter() - first,
            "tokens": len(new_ids),
        }
        return self._answer(text, timing, new_ids[-1] not in note.special_ids)

    def _answer(self, text: str, timing: dict[str, float], cut: bool) -> Answer:
        """As `compose_answer` makes it."""
        spoken, warnings, problem = split_thought(text, False), [*self.video.info.warnings], None
        if not spoken.is_over:
            problem = (
                f"no answer: after {timing['tokens']} tokens the model was still thinking; allow "
                "more (max_new_tokens)."
            )
            warnings.append(problem)
        return Answer(
            text="" if problem else spoken.answer.strip(),
            model=self._note.name,
            info=self.video.info,
            frame_indices=self.video.frame_indices,
            timestamps=self.video.timestamps,
            timing=timing,
            warnings=warnings,
            truncated=cut,
            thought=None if spoken.thought is None else spoken.thought.strip(),
            problem=problem,
        )

    def _tokens(self, ids: list[int]) -> Any:
        """Greedily, without end."""
        import numpy as np

        prompt = np.array(ids)
        is_video = prompt == self._note.video_token_id
        embeds = self._step.embedding[np.where(is_video, 0, prompt)]
        embeds[is_video] = self._fast
        attends = ~is_video
        if self._who == "all":
            attends = np.ones_like(is_video)
        elif self._who == "text_after_video":
            attends &= is_video.cumsum() > 0
        while True:
            hidden = self._step(embeds, attends, self._row)[-1]
            logits = self._step.head @ hidden
            if np.isnan(logits).any():
                raise RuntimeError("The model computes no numbers (NaN): its weights are damaged.")
            token = int(logits.argmax())
            yield token
            embeds, attends = self._step.embedding[[token]], np.array([self._also_generated])


def _nobody(text: str) -> None:
    pass

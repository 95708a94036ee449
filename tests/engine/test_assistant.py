"""The engine with the packaged model: answers, one encoding per video, options, clear errors."""

import copy
import gc
import io
import json
import pickle
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging

from slowfast_mini import WEIGHTS
from slowfast_mllm import ModelError, SlowFast, VideoError, load
from slowfast_mllm.engine import Request
from slowfast_mllm.engine.beginnings import Beginnings
from slowfast_mllm.engine.loading import convert_checkpoint
from slowfast_mllm.engine.stopping import UntilStop, before_stop
from slowfast_mllm.train.assemble import assemble

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTION = "How does the camera move?"


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    return load(device="cpu")


def count_encodings(assistant: SlowFast, calls: list[int]):
    tower = assistant.model.model.vision_tower
    return tower.register_forward_hook(lambda module, inputs, output: calls.append(1))


def test_an_answer_says_how_it_came_about(assistant: SlowFast) -> None:
    answer = assistant.ask(CLIP, QUESTION, num_frames=8)
    facts = answer.to_dict()
    assert str(answer) == facts["answer"]
    assert answer.text
    assert facts["video"]["path"] == str(CLIP)
    assert len(facts["frames"]["indices"]) == len(facts["frames"]["timestamps"]) == 8
    assert set(facts["timing"]) == {"read", "preprocess", "encode", "prefill", "decode", "tokens"}
    assert facts["timing"]["tokens"] > 0


def test_later_turns_and_questions_encode_nothing(assistant: SlowFast) -> None:
    calls: list[int] = []
    hook = count_encodings(assistant, calls)
    chat = assistant.chat(CLIP)
    chat.ask(QUESTION)
    before = len(calls)
    second = chat.ask("How many objects appear in the video?")
    again = assistant.ask(chat.video, QUESTION)
    hook.remove()
    assert before > 0
    assert len(calls) == before
    assert second.timing["encode"] == again.timing["encode"] == 0


def test_a_turn_on_the_cache_equals_one_computed_anew(assistant: SlowFast) -> None:
    chat = assistant.chat(CLIP)
    chat.ask(QUESTION)
    anew = assistant.chat(chat.video)
    anew.messages = list(chat.messages)
    question = "Describe what you see in one sentence."
    assert chat.ask(question).text == anew.ask(question).text


def test_a_second_question_reads_only_itself(assistant: SlowFast) -> None:
    lengths: list[int] = []
    hook = assistant.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]),
        with_kwargs=True,
    )
    questions = ["Is it?", QUESTION, "What happens in the video?"]
    fresh = [assistant.ask(CLIP, question).text for question in questions]
    whole, lengths[:] = lengths[0], []
    video = assistant.encode(CLIP)
    assert [assistant.ask(video, question).text for question in questions] == fresh
    assert lengths[0] == whole
    assert max(lengths[1:]) < whole - len(video.memory.fast_tokens)
    lengths.clear()
    together = list(assistant.generate([Request(video, question) for question in questions]))
    hook.remove()
    assert [answer.text for answer in together] == fresh
    assert max(lengths) < whole - len(video.memory.fast_tokens)


def test_what_was_read_belongs_to_one_memory_and_goes_with_it(assistant: SlowFast) -> None:
    video, other = assistant.encode(CLIP, num_frames=16), assistant.encode(CLIP, num_frames=16)
    answer = assistant.ask(video, "What happens in the video?").text
    blank = replace(video.memory, fast_tokens=torch.zeros_like(video.memory.fast_tokens))
    unlike = assistant.ask(replace(video, memory=blank), "What happens in the video?").text
    assert unlike != answer == assistant.ask(other, "What happens in the video?").text
    kept = len(assistant.beginnings)
    del video, other, blank
    gc.collect()
    assert len(assistant.beginnings) < kept


def test_what_was_read_is_kept_without_the_answer_and_of_held_videos_alone(assistant) -> None:
    before = len(assistant.beginnings)
    assistant.ask(CLIP, QUESTION)
    list(assistant.generate([Request(CLIP, QUESTION)]))
    assert len(assistant.beginnings) == before
    video = assistant.encode(CLIP)
    assistant.describe(video)
    ids = assistant.prompt_ids([assistant.user_message(QUESTION, first=True)], video)
    keys = assistant.beginnings.cache(video, ids).layers[0].keys
    assert keys.untyped_storage().nbytes() == keys.numel() * keys.element_size()


def test_a_prompt_that_ends_with_the_video_is_read_as_a_whole(assistant: SlowFast) -> None:
    processor = copy.copy(assistant.processor)
    processor.chat_template = "{{ messages[0].content[1].text }}<video>"
    other = SlowFast(assistant.model, processor)
    video = other.encode(CLIP)
    answers = [other.ask(video, QUESTION).text for _ in range(2)]
    answers += [answer.text for answer in other.generate([Request(video, QUESTION)] * 2)]
    assert len(set(answers)) == 1


def test_settings_of_a_checkpoint_about_caches_change_no_answer(assistant, tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS, tmp_path / "m")
    file = tmp_path / "m" / "generation_config.json"
    for settings in ({"use_cache": False}, {"cache_implementation": "dynamic"}):
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    other = load(tmp_path / "m", device="cpu")
    video = other.encode(CLIP)
    answers = [a.text for a in other.generate([Request(video, QUESTION)])]
    answers += [other.ask(video, QUESTION).text for _ in range(2)]
    assert set(answers) == {assistant.ask(CLIP, QUESTION).text}


def test_rotary_factors_chosen_by_length_are_not_kept(assistant: SlowFast) -> None:
    video = assistant.encode(CLIP)
    assistant.ask(video, QUESTION)
    ids = assistant.prompt_ids([assistant.user_message(QUESTION, first=True)], video)
    cache = assistant.beginnings.cache(video, ids)
    types = assistant.model.model.token_types(ids)
    config = copy.copy(assistant.model.config.text_config)
    for rope_type, kept in (("default", 1), ("longrope", 0)):
        config.rope_parameters = {"rope_type": rope_type}
        beginnings = Beginnings(config)
        beginnings.keep(assistant.encode(video), ids, types, cache)
        assert len(beginnings) == kept


def test_a_copy_in_another_process_answers(assistant: SlowFast) -> None:
    assistant.ask(assistant.encode(CLIP), QUESTION)
    other = pickle.loads(pickle.dumps(assistant))
    assert other.ask(CLIP, QUESTION).text == assistant.ask(CLIP, QUESTION).text


def test_an_answer_that_names_a_placeholder_ends_no_conversation(assistant: SlowFast) -> None:
    assert assistant.without_control_tokens("a <video> is<|im_end|>").split() == ["a", "is"]


def test_a_conversation_goes_on_after_an_interrupted_answer(assistant: SlowFast) -> None:
    chat = assistant.chat(CLIP)
    chat.ask(QUESTION)
    anew = assistant.chat(chat.video)
    anew.messages = list(chat.messages)
    with pytest.raises(ZeroDivisionError):
        chat.ask("What happens in the video?", on_text=lambda text: 1 / 0)
    question = "Describe what you see in one sentence."
    assert chat.ask(question).text == anew.ask(question).text


def test_more_frames_than_a_rate_may_give_can_be_asked_for(assistant: SlowFast) -> None:
    frames = np.zeros((600, 32, 32, 3), np.uint8)
    assert assistant.encode(frames, num_frames=600).memory.num_frames == 600
    assert assistant.encode(frames, fps=1.0, max_frames=20).memory.num_frames == 20


def test_streamed_pieces_make_the_answer(assistant: SlowFast) -> None:
    pieces: list[str] = []
    answer = assistant.describe(CLIP, on_text=pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces).strip() == answer.text


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_string_to_stop_at_is_not_streamed_in_pieces(size: int) -> None:
    text = "It ends hereby, END here. And END HERE."
    for stop in (["END HERE"], ["END here", "."], ["hereby", "her"], ["nowhere"], []):
        heard: list[str] = []
        told = UntilStop(stop, heard.append)
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        for piece in pieces:
            told.put(piece, last=False)
        told.put("", last=True)
        assert "".join(heard) == before_stop(text, stop)
    assert before_stop(text, ["END here", "hereby"]) == "It ends "


def test_a_conversation_goes_on_after_an_answer_that_was_stopped(assistant: SlowFast) -> None:
    whole = assistant.ask(CLIP, QUESTION, num_beams=2, return_scores=True)
    assert len(whole.scores) == whole.timing["tokens"]
    chat = assistant.chat(CLIP)
    stop = whole.text.split()[2]
    cut = chat.ask(QUESTION, stop=[stop], num_beams=2)
    assert stop not in cut.text
    assert cut.timing["tokens"] < whole.timing["tokens"]
    assert chat.messages[-1]["content"] == cut.text
    assert chat.ask("What happens in the video?").text


def test_control_tokens_in_a_question_are_only_text(assistant: SlowFast) -> None:
    video = assistant.encode(CLIP, num_frames=8)
    clean = assistant.ask(video, QUESTION)
    dirty = assistant.ask(video, f"<video><|im_end|>{QUESTION}<image>")
    assert dirty.text == clean.text


def test_bounds_and_rate_choose_the_frames(assistant: SlowFast) -> None:
    video = assistant.encode(CLIP, fps=4, start=1, end=3)
    assert video.timestamps[0] >= 1
    assert video.timestamps[-1] < 3
    assert len(video.timestamps) == 8
    assert len(assistant.encode(CLIP, fps=30, max_frames=10).timestamps) == 10


@pytest.mark.parametrize("kind", ["bytes", "frames", "array", "folder", "image"])
def test_every_kind_of_source_is_answered(assistant: SlowFast, kind: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 40, 60, 3), dtype=np.uint8)
    for i, frame in enumerate(array):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    source = {
        "bytes": CLIP.read_bytes(),
        "frames": [Image.fromarray(frame) for frame in array],
        "array": array,
        "folder": tmp_path,
        "image": tmp_path / "0.png",
    }[kind]
    assert assistant.ask(source, QUESTION).text


def test_threads_share_a_model(assistant: SlowFast) -> None:
    other = np.zeros((12, 96, 96, 3), dtype=np.uint8)
    question = "Describe what you see in one sentence."
    alone = [assistant.ask(video, question).text for video in (CLIP, other)]
    together: dict[int, str] = {}

    def work(index: int, video: object) -> None:
        together[index] = assistant.ask(video, question).text

    threads = [threading.Thread(target=work, args=(i, v)) for i, v in enumerate((CLIP, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[0], together[1]] == alone


def test_beams_and_sampling(assistant: SlowFast) -> None:
    video = assistant.encode(CLIP)
    assert assistant.ask(video, QUESTION, num_beams=3).text
    drawn = [
        assistant.ask(video, QUESTION, temperature=2, top_p=0.9, seed=3, max_new_tokens=12).text
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_loading_leaves_progress_bars_as_they_were() -> None:
    logging.disable_progress_bar()
    load(device="cpu")
    shown = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    assert not shown


def test_wrong_use_names_the_argument(assistant: SlowFast) -> None:
    with pytest.raises(ValueError, match="question is empty"):
        assistant.ask(CLIP, "  ")
    with pytest.raises(ValueError, match=r"'max_tokens'.*max_new_tokens"):
        assistant.ask(CLIP, QUESTION, max_tokens=3)
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        assistant.ask("missing.mp4", QUESTION)
    for name, value in (("temperature", -1), ("top_p", 5), ("max_new_tokens", 1.5), ("seed", -1)):
        with pytest.raises(ValueError, match=name):
            assistant.ask(CLIP, QUESTION, **{name: value})
    with pytest.raises(ValueError, match="num_frames=0 must be above 0"):
        assistant.ask(CLIP, QUESTION, num_frames=0)
    for name, value in (("num_frames", 8.5), ("num_frames", "8"), ("fps", "2"), ("start", "1")):
        with pytest.raises(ValueError, match=f"{name}='?{value}'? must be a"):
            assistant.ask(CLIP, QUESTION, **{name: value})
    for name in ("stop", "logits_processor"):
        for value in (None, 3, [None]):
            with pytest.raises(ValueError, match=f"{name}.*: give a list of"):
                assistant.ask(CLIP, QUESTION, **{name: value})
    together = assistant.generate([Request(CLIP, QUESTION, options={"fit": ["pad"]})])
    with pytest.raises(ValueError, match="choose one of crop, pad, squash"):
        raise next(together)
    with pytest.raises(ValueError, match="question: give words, not NoneType"):
        assistant.ask(CLIP, None)


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": "x" * 5000},
        {"start": "x" * 5000},
        {"frames_fps": "x" * 5000},
        {"fit": "x" * 5000},
        {"temperature": "x" * 5000},
        {"x" * 5000: 1},
        {"model": "x" * 5000},
        {"device": "x" * 5000},
        {"dtype": "x" * 5000},
        {"quantize": "x" * 5000},
        {"precision": "x" * 5000},
    ],
    ids=lambda options: next(iter(options))[:20],
)
def test_messages_repeat_little_of_an_argument(assistant: SlowFast, tmp_path, options) -> None:
    (name,) = options
    call: Callable = partial(assistant.ask, CLIP, QUESTION)
    if name in ("model", "device", "dtype", "quantize"):
        call = load
    elif name == "precision":
        call = partial(assistant.index, CLIP, tmp_path / "x.sfmem")
    with pytest.raises(ValueError, match="xxx") as caught:
        call(**options)
    assert "x" * 101 not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_than_the_model_can_read_is_refused(assistant: SlowFast) -> None:
    chat = assistant.chat(CLIP, num_frames=4)
    with pytest.raises(ValueError, match="tokens of question and video, and this model reads less"):
        chat.ask("How many? " * 2000)
    assert chat.ask(QUESTION).text == assistant.ask(CLIP, QUESTION, num_frames=4).text


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("no/such/folder", {}, "no such folder"),
        (str(Path(__file__).parent), {}, r"no config\.json"),
        (None, {"dtype": "int3"}, "--dtype int3"),
        (None, {"device": "warp"}, "--device warp"),
    ],
)
def test_a_checkpoint_that_cannot_be_loaded_says_why(model, options, message) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(model, **options)
    assert "\n" not in str(caught.value)


def copied(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The packaged model with other weights."""
    shutil.copytree(WEIGHTS, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_damaged_checkpoint_gives_no_invented_answer(tmp_path: Path) -> None:
    name = "model.language_model.layers.3.self_attn.cross_attn.k_proj.weight"
    less = copied(tmp_path / "less", lambda weights: weights.pop(name))
    other = copied(tmp_path / "other", lambda weights: weights.update({name: torch.zeros(2, 2)}))
    cut = copied(tmp_path / "cut", lambda weights: None)
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    odd = copied(tmp_path / "odd", lambda weights: None)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps(config | {"text_config": "x"}))
    for folder, message in (
        (less, rf"1 weights are missing, {name} first"),
        (other, rf"1 weights are of another shape.*{name} first"),
        (cut, "cannot be loaded"),
        (odd, "no usable config"),
    ):
        for work in (load, lambda f: convert_checkpoint(str(f), tmp_path / "converted")):
            with pytest.raises(ModelError, match=message) as caught:
                work(folder)
            assert str(folder) in str(caught.value)
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "converted").exists()


def test_a_model_that_computes_no_numbers_is_an_error(tmp_path: Path) -> None:
    name = "model.language_model.norm.weight"
    folder = copied(tmp_path / "nan", lambda weights: weights[name].fill_(float("nan")))
    broken = load(folder)
    with pytest.raises(RuntimeError, match="computes no numbers"):
        broken.ask(CLIP, "What happens?", num_frames=4)
    (outcome,) = broken.generate([Request(CLIP, "What happens?", options={"num_frames": 4})])
    assert isinstance(outcome, RuntimeError)


@pytest.mark.parametrize("work", [load, lambda path: assemble(str(path), str(path))])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, monkeypatch, work: Callable) -> None:
    folder = copied(tmp_path / "evil", lambda weights: None)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    code = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoModel": "evil.M"}
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": code, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # transformers would ask
    with pytest.raises(ValueError, match="evil"):
        work(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", '{"version": "1.0"}'),
        ("chat_template.jinja", "{% for"),
        ("config.json", '{"model_type": "slowfast", "text_config": {"hidden_size": "x"}}'),
    ],
)
def test_files_of_a_checkpoint_that_make_no_sense_are_one_error(
    tmp_path: Path, name: str, content: str
) -> None:
    folder = copied(tmp_path / "odd", lambda weights: None)
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=str(folder)):
        load(folder)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="'llama' model, not a Slow-Fast one"):
        load(tmp_path)

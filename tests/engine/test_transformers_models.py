"""Models of transformers: the same questions, answers and times as ours, by the same calls."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import tiny_checkpoints
import torch

from slowfast_cli.main import main
from slowfast_mllm import ModelError, load
from slowfast_mllm.engine import (
    DESCRIBE,
    Request,
    TransformersModel,
    catalog,
    families,
    frame_choice,
    transformers_loading,
)
from slowfast_mllm.engine.families import number_words
from slowfast_mllm.model.cpu_linear import NarrowLinear

ASKED = [*tiny_checkpoints.FAMILIES]
ALL = [*ASKED, "captioner"]
FRAMES = {"num_frames": 4}  # as many as the tiny captioner looks at
LONG = {"max_new_tokens": 5}
EVIDENCE = {"evidence": True}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("checkpoints")
    return {name: tiny_checkpoints.write(name, place / name) for name in ALL}


@pytest.fixture(scope="module")
def assistants(folders: dict[str, Path]) -> dict[str, TransformersModel]:
    return {name: load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clips of 40x56 and 48x48 pixels, the first with frames at uneven times."""
    place = tmp_path_factory.mktemp("clips")
    uneven = [0, 100, 300, 700, 900, 1000, 1600, 3000]
    return [
        write_clip(place / "uneven.mp4", 56, 40, uneven),
        write_clip(place / "even.mp4", 48, 48, range(0, 2000, 250)),
    ]


def write_clip(path: Path, width: int, height: int, milliseconds: list[int] | range) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i, at in enumerate(milliseconds):
            levels = np.random.default_rng(i).integers(0, 255, (height // 8, width // 8, 3))
            picture = np.kron(levels, np.ones((8, 8, 1))).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("family", ALL)
def test_an_answer_comes_in_pieces_and_says_what_was_looked_at(assistants, clips, family):
    assistant = assistants[family]
    told: list[str] = []
    answer = assistant.ask(clips[0], DESCRIBE, told.append, **FRAMES, **LONG, return_scores=True)
    assert "".join(told).strip() == answer.text
    assert answer.model == assistant.name
    assert answer.frame_indices == [0, 2, 4, 7]
    assert answer.timestamps == pytest.approx([0.0, 0.3, 0.9, 3.0])
    assert answer.info.num_frames == 8
    assert len(answer.scores) == answer.timing["tokens"] <= 5
    assert all(score.log_probability < 0 for score in answer.scores)
    assert assistant.describe(clips[0], **FRAMES, **LONG).text == answer.text


@pytest.mark.parametrize("family", ALL)
def test_likelihoods_are_those_of_a_forward_pass_over_the_whole(assistants, clips, family):
    assistant = assistants[family]
    clip = assistant.encode(clips[0], **FRAMES)
    answers = ["no", "something rather longer", "yes"] * 6  # more than go through in one pass
    found = assistant.likelihoods(clip, DESCRIBE, answers)
    message = assistant.user_message(DESCRIBE, first=True)
    prompt = assistant.prompt_ids([message], clip)
    for answer, likelihood in list(zip(answers, found, strict=True))[:3]:
        asked_with_colon = family in ("llava_next_video", "llava_onevision", "smolvlm")
        text = " " * asked_with_colon + answer
        ids = assistant.tokenizer(text, add_special_tokens=False).input_ids
        with torch.no_grad():
            if family == "captioner":
                logits = assistant.model(
                    pixel_values=clip.inputs["pixel_values"],
                    decoder_input_ids=torch.tensor([[*prompt, *ids]]),
                ).logits
            else:
                whole = torch.tensor([[*prompt, *ids]])
                types = assistant.family.token_types(whole)
                logits = assistant.model(input_ids=whole, **clip.inputs, **types).logits
        likely = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = likely.gather(1, torch.tensor(ids)[:, None]).sum()
        assert likelihood.num_tokens == len(ids)
        assert likelihood.log_probability == pytest.approx(float(expected), abs=1e-3)
        assert likelihood.per_token == pytest.approx(float(expected) / len(ids), abs=1e-3)
    for one, other in zip(found, found[3:], strict=False):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)


@pytest.mark.parametrize("family", ALL)
def test_many_requests_give_what_each_gives_alone(assistants, clips, family, tmp_path):
    assistant = assistants[family]
    questions = [DESCRIBE] * 3 if family == "captioner" else ["What?", DESCRIBE, "How many?"]
    requests = [
        Request(clip, question, options={**FRAMES, **LONG})
        for question in questions
        for clip in clips
    ]
    told: list[str] = []
    drawn = {**FRAMES, **LONG, "temperature": 1.0, "seed": 3}
    requests[2:2] = [
        Request(tmp_path / "missing.mp4", DESCRIBE, options=FRAMES),
        Request(clips[0], " ", options=FRAMES),
        Request(clips[0], DESCRIBE, told.append, options=drawn),
    ]
    together = list(assistant.generate(iter(requests), max_batch=4))
    assert len(together) == len(requests)
    assert "missing.mp4" in str(together[2])
    assert "empty" in str(together[3])
    for request, answer in zip(requests, together, strict=True):
        if answer not in together[2:4]:
            alone = assistant.ask(request.video, request.question, **request.options)
            assert (answer.text, answer.timestamps) == (alone.text, alone.timestamps)
    assert "".join(told).strip() == together[4].text


@pytest.mark.parametrize("family", ALL)
def test_a_question_about_two_videos_reads_both(assistants, clips, family):
    """Whichever of them is another changes what is answered."""
    assistant, few = assistants[family], {"num_frames": 4}
    if not assistant.capabilities.several_videos:
        with pytest.raises(ValueError, match="one video at a time"):
            assistant.encode_together(clips, **few)
        return
    pairs = [(a, b) for a in clips for b in clips]
    seen = [assistant.encode_together(pair, **few) for pair in pairs]
    found = {assistant.likelihoods(two, "Which?", ["yes"])[0].log_probability for two in seen}
    assert len(found) == 4 or family == "gemma3"  # whose window of 16 tokens is over before
    message = assistant.user_message("Which?", True, 2)
    text = assistant.prompt([message], seen[1])
    single = [assistant.encode(clip, **few) for clip in clips]
    assert text.index("Video 1:") < text.index("Video 2:") < text.index("Which?")
    assert text.count(assistant.family.token) == sum(
        clip.prompts[0].count(assistant.family.token) for clip in single
    )
    requests = [Request(two, "Which?", options=LONG) for two in seen]
    alone = [assistant.ask(two, "Which?", **LONG).text for two in seen]
    assert [answer.text for answer in assistant.generate(requests)] == alone


def test_times_reach_each_family_as_it_wants_them(assistants, clips):
    """The uneven clip's frames are at 0, 0.3, 0.9 and 3 s, of 3.02 s or so."""

    def encoded(family):
        return assistants[family].encode(clips[0], **FRAMES)

    assert encoded("qwen2_5_vl").inputs["second_per_grid_ts"].tolist() == pytest.approx([2.0])
    words = encoded("qwen3_vl").prompts[0]
    assert [words.index(f"<{time} seconds>") for time in ("0.1", "1.9")] == [
        0,
        words.rindex("<1.9"),
    ]
    words = encoded("gemma3").prompts[0]
    for time in ("0.00", "0.30", "0.90", "3.00"):
        assert f"Frame at {time} seconds:" in words
    words = encoded("smolvlm").prompts[0]
    assert words.startswith("You are provided the following series of four frames from a 0:00:0")
    assert words.count("\nFrame from 00:00:") == 3
    assert words.count("\nFrame from 00:03:") == 1


def test_a_short_clip_is_not_repeated_but_for_models_of_so_many_frames(assistants, clips):
    assert len(assistants["internvl"].encode(clips[0], num_frames=20).timestamps) == 8
    assert assistants["smolvlm"].encode(clips[0]).inputs["pixel_values"].shape[1] == 8
    one = assistants["captioner"].encode(np.zeros((1, 32, 32, 3), np.uint8))
    assert one.inputs["pixel_values"].shape == (1, 4, 3, 28, 28)
    for asked in ({"num_frames": 5}, {"fps": 2.0}):
        with pytest.raises(ValueError, match="4 frames, no more and no fewer"):
            assistants["captioner"].encode(clips[0], **asked)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "captioner"])
def test_how_many_frames_can_be_left_to_the_engine(assistants, clips, family, monkeypatch):
    assistant = assistants[family]
    long = np.random.default_rng(0).integers(0, 255, (60, 24, 24, 3)).astype(np.uint8)
    clip = assistant.encode(long, num_frames="auto", frames_fps=2.0)
    if family == "captioner":  # which cannot be left so
        assert len(clip.timestamps) == 4
        assert clip.frame_choice is None
        return
    assert len(clip.timestamps) == clip.frame_choice.num_frames > assistant.family.num_frames
    monkeypatch.setattr(frame_choice, "free_memory", lambda device: 1 << 20)
    clip = assistant.encode(long, num_frames="auto", frames_fps=2.0)
    assert clip.frame_choice.limited_by == "memory"
    assert len(clip.timestamps) == clip.frame_choice.most < 40


def test_times_and_facts_are_told_in_words(assistants, clips):
    chat = assistants["qwen2_vl"].chat(clips[1], num_frames=4)
    how = {"times": True, "facts": "Nothing is black."}
    answer = chat.ask("Why?", **how, **LONG)
    said = chat.messages[0]["content"][-1]["text"]
    times = "0.00s,0.50s,1.00s,1.75s"
    assert f"4 frames are uniformly sampled from it. These frames are located at {times}. " in said
    assert said.endswith("Nothing is black.\nWhy?")
    assert said.startswith(answer.told["times"])
    chat.ask("And?", **how, **LONG)
    assert chat.messages[2]["content"][-1]["text"] == "And?"
    (again,) = assistants["qwen2_vl"].generate(
        [Request(clips[1], "Why?", options={**how, **LONG, "num_frames": 4})]
    )
    assert (again.text, again.told) == (answer.text, answer.told)
    with pytest.raises(ValueError, match="reads no questions"):
        assistants["captioner"].ask(clips[1], DESCRIBE, times=True)
    both = assistants["qwen2_vl"].encode_together(clips)
    with pytest.raises(ValueError, match="told of one video"):
        assistants["qwen2_vl"].ask(both, "Why?", times=True)


def test_instants_can_be_looked_at(assistants, clips):
    answer = assistants["qwen2_vl"].ask(clips[0], "Why?", at=[0.95, 0.1, 0.3], **LONG)
    assert answer.frame_indices == [1, 2, 4]
    with pytest.raises(ValueError, match="no more and no fewer"):
        assistants["captioner"].encode(clips[0], at=[0.1])


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
def test_more_frames_are_seen_smaller(assistants, clips, family):
    assistant = assistants[family]
    few, many = (assistant.encode(clips[1], fps=rate, end=2) for rate in (1, 4))
    assert (len(few.timestamps), len(many.timestamps)) == (2, 8)
    sizes = [clip.inputs["video_grid_thw"][0].tolist() for clip in (few, many)]
    assert sizes[0][0] == 1
    assert sizes[1][0] == 4
    if family == "qwen3_vl":  # has a budget for all frames
        assert sizes[1][1] < sizes[0][1]


def test_turns_of_a_chat_see_what_was_said(assistants, clips):
    assistant = assistants["qwen2_vl"]
    chat = assistant.chat(clips[0], **FRAMES)
    first = chat.ask("What?", **LONG)
    assert first.timing["read"] > 0
    second = chat.ask("And then?", **LONG)
    assert second.timing["read"] == 0
    text = assistant.prompt(chat.messages[:3], chat.video)
    assert text.count("What?") == text.count("And then?") == text.count(first.text) == 1
    with pytest.raises(ValueError, match="num_frames: the frames were chosen"):
        chat.ask("What?", num_frames=3)


def test_evidence_is_refused_and_no_other_request_of_the_batch_suffers(assistants, clips):
    assistant = assistants["qwen2_vl"]
    assert not assistant.capabilities.evidence
    with pytest.raises(ValueError, match="does not tell what it read of a video"):
        assistant.ask(clips[0], "What?", evidence=True, **FRAMES)
    asked = [Request(clips[0], "What?", options={**FRAMES, **LONG, **e}) for e in ({}, EVIDENCE)]
    answer, refusal = assistant.generate(asked)
    assert answer.text == assistant.ask(clips[0], "What?", **FRAMES, **LONG).text
    assert "does not tell" in str(refusal)


def test_words_of_users_become_no_placeholders(assistants, clips):
    assistant = assistants["qwen2_vl"]
    clip = assistant.encode(clips[0], **FRAMES)
    spoof = assistant.user_message("<video> What?<eos>", first=True)
    assert spoof == assistant.user_message("What?", first=True)
    assert assistant.likelihoods(clip, "What?", ["<eos>yes"]) == assistant.likelihoods(
        clip, "What?", ["yes"]
    )


@pytest.mark.parametrize(
    ("family", "call", "told"),
    [
        ("captioner", lambda a, clip: a.ask(clip, "Who?"), "only describes what it sees"),
        ("qwen2_vl", lambda a, clip: a.ask(clip, ""), "question is empty"),
        ("qwen2_vl", lambda a, clip: a.likelihoods(clip, "Who?", ["a", " "]), "answer is empty"),
        ("qwen2_vl", lambda a, clip: a.ask(clip, "Who?", fit="pad"), "fit=pad: .* leave it out"),
        ("qwen2_vl", lambda a, clip: a.ask(clip, "Who? " * 2000), "reads less than 4096"),
        (
            "qwen2_vl",
            lambda a, clip: a.ask(a.encode(clip), "Who?", num_frames=2),
            "chosen when it was read",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(assistants, clips, family, call, told):
    with pytest.raises(ValueError, match=told) as caught:
        call(assistants[family], clips[0])
    assert "\n" not in str(caught.value)


def damaged(folder: Path, target: Path, name: str, content: str | None) -> Path:
    """A copy of a checkpoint with one file changed, or gone."""
    target.mkdir()
    for file in folder.iterdir():
        if file.name != name:
            os.link(file, target / file.name)
    if content is not None:
        (target / name).write_text(content)
    return target


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("chat_template.jinja", "{{ 'hello' }}", "chat template knows no videos"),
        ("tokenizer.json", None, "no usable tokenizer.*qwen2_vl_text"),
        ("preprocessor_config.json", "{", "cannot be loaded"),
        ("model.safetensors", "x" * 100, "cannot be loaded"),
    ],
)
def test_a_damaged_checkpoint_is_refused_before_it_invents_answers(
    folders, tmp_path, name, content, told
):
    folder = damaged(folders["qwen2_vl"], tmp_path / "copy", name, content)
    with pytest.raises(ModelError, match=told) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "instead"),
    [
        ({"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}, "-hf"),
        ({"architectures": ["CogVLMVideoForCausalLM"]}, "captions.*Qwen2.5-VL"),
        ({"model_type": "live_llama"}, "as events happen.*Qwen3-VL"),
        ({"model_type": "something_new"}, "SmolVLM2"),
    ],
)
def test_code_of_a_checkpoint_never_runs_and_the_refusal_names_another(tmp_path, config, instead):
    trace = tmp_path / "it ran"
    code = f"open({str(trace)!r}, 'w')\nclass C: pass\n"
    (tmp_path / "configuration_own.py").write_text(code)
    auto = {"AutoConfig": "configuration_own.C", "AutoModel": "configuration_own.C"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    with pytest.raises(ModelError, match=f"code is never run here.*{instead}") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_numbers_in_words_are_those_that_smolvlm_learned():
    told = [number_words(n) for n in (1, 12, 20, 64, 100, 101, 364)]
    assert told == [
        *("one", "twelve", "twenty", "sixty-four", "one hundred", "one hundred and one"),
        "three hundred and sixty-four",
    ]


def test_the_command_line_takes_such_a_checkpoint(folders, clips, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["slowfast", "ask", str(clips[0]), "What?", "--model", str(folders["qwen3_vl"])]
    options = ["--num-frames", "4", "--max-new-tokens", "3", "--json"]
    monkeypatch.setattr(sys, "argv", [*words, *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] == str(folders["qwen3_vl"])
    assert answer["frames"]["timestamps"] == [0.0, 0.3, 0.9, 3.0]
    words = ["slowfast", "index", str(clips[0]), "-o", str(tmp_path / "a.sfmem"), "--model"]
    monkeypatch.setattr(sys, "argv", [*words, str(folders["qwen3_vl"])])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "models keep memories in" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("family", ["llava_next_video", "llava_onevision", "qwen2_vl", "qwen3_vl"])
def test_pixels_and_prompts_are_those_of_the_processors(
    folders, assistants, clips, family, monkeypatch
):
    """Of transformers, which need torchvision and with it serve any family that is not known."""
    pytest.importorskip("torchvision")
    monkeypatch.setattr(transformers_loading, "FAMILIES", {})
    own = load(folders[family])
    here, there = (a.encode(clips[0], num_frames=5) for a in (assistants[family], own))
    (mine,), (theirs,) = (
        [
            p.replace("begin>", "|vision_start|>").replace("finish>", "|vision_end|>")
            for p in prompts
        ]
        for prompts in (here.prompts, there.prompts)
    )
    assert mine == theirs
    assert here.inputs.keys() == there.inputs.keys()
    for name, tensor in here.inputs.items():
        torch.testing.assert_close(tensor, there.inputs[name], atol=1e-5, rtol=0)


def test_a_family_that_is_not_known_asks_for_torchvision(tmp_path):
    if importlib.util.find_spec("torchvision"):
        pytest.skip("torchvision is there")
    (tmp_path / "config.json").write_text('{"model_type": "glm4v"}')
    with pytest.raises(ModelError, match=r'pip install "slowfast-mllm\[torchvision\]"'):
        load(tmp_path)


@pytest.mark.parametrize("family", ["smolvlm", "gemma3"])
@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
def test_the_language_model_alone_is_quantized(folders, clips, family, kind):
    pytest.importorskip("bitsandbytes" if kind == "nf4" else "onnxruntime")
    assistant = load(folders[family], quantize=kind)
    layers = assistant.model.get_decoder().layers
    quantized = {
        name
        for name, module in assistant.model.named_modules()
        if isinstance(module, NarrowLinear) or type(module).__module__.startswith("bitsandbytes")
    }
    inside = {
        name
        for name, module in assistant.model.named_modules()
        if any(module is part for part in layers.modules())
        and isinstance(module, torch.nn.Linear | NarrowLinear)
    }
    assert inside
    assert quantized == inside | (set() if kind == "nf4" else {"lm_head"})
    assert assistant.ask(clips[0], DESCRIBE, **FRAMES, **LONG).timing["tokens"] > 0


def test_weights_are_spread_over_all_devices(folders, assistants, clips):
    pytest.importorskip("accelerate")
    both = load(folders["qwen2_vl"], device="auto"), assistants["qwen2_vl"]
    spread, whole = (a.ask(clips[0], "What?", **FRAMES, **LONG).text for a in both)
    assert spread == whole


def test_weights_in_bfloat16_answer(folders, clips):
    assistant = load(folders["internvl"], dtype="bfloat16")
    assert assistant.likelihoods(clips[0], "What?", ["yes"], **FRAMES)[0].log_probability < 0


def test_models_are_known_by_short_names_and_none_comes_by_surprise(
    folders, clips, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def slowfast(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    code, out, _ = slowfast("models", "--json")
    assert code == 0
    known = json.loads(out)
    assert {one["kind"] for one in known} >= {*catalog_kinds(), "slowfast"}
    assert len({one["alias"] for one in known}) == len(known)
    assert all(one["weights_gb"] > 0 and one["licence"] and one["can"] for one in known)
    for one in known:
        several = one["kind"] != "slowfast" and families.FAMILIES[one["kind"]].several_videos
        assert ("several videos" in one["can"]) == several
    code, out, _ = slowfast("models")
    assert "smolvlm2-500m" in out
    monkeypatch.setattr(catalog, "is_cached", lambda model: False)
    code, _, told = slowfast("ask", str(clips[0]), "What?", "--model", "slowfast-64")
    assert code == 1
    assert told.count("\n") == 1
    assert "about 17 GB, licence CC-BY-NC-4.0" in told
    assert "--yes" in told
    code, out, _ = slowfast("info", str(folders["gemma3"]), "--json")
    facts = json.loads(out)
    assert (facts["family"], facts["language_model"]) == ("gemma3", "gemma3_text")
    assert facts["weights_bfloat16_gb"] == round(2e-9 * facts["parameters"], 4)
    assert catalog.resolved("smolvlm2-500m") == "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    assert catalog.resolved(str(folders["smolvlm"])) == str(folders["smolvlm"])
    assert catalog.would_download(str(tmp_path / "missing" / "model")) is None


def catalog_kinds() -> set[str]:
    return {*families.FAMILIES} - {"qwen3_vl_moe"}

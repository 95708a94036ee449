"""The command line as a user meets it: what goes where, exit codes, one-line errors."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image
from safetensors import SafetensorError

from slowfast_cli.main import main

ROOT = Path(__file__).parents[2]
CLIP = str(ROOT / "examples" / "shapes.mp4")
PACKAGED = ROOT / "src" / "slowfast_mini" / "weights"
VERBS = (
    *("ask", "describe", "chat", "caption", "choose", "classify", "score", "cuts", "facts"),
    *("ground", "search", "events", "compare"),
    *("schema", "index", "info", "train", "convert", "export", "serve", "stop", "eval"),
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slowfast", *arguments])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("model: {}", "seed, model, stages"),
        ("start: {}", "seed, start, stages"),
    ],
)
def test_a_recipe_finds_its_trainer(run, tmp_path: Path, line: str, known: str) -> None:
    """With `model` it is one of the packaged model's lessons, without it one of records."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: x\nsede: 1\n{line}\n")
    code, _, err = run("train", str(recipe), "--output", str(tmp_path / "run"))
    assert code == 1
    assert "unknown key 'sede'" in err
    assert known in " ".join(err.split())


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'av'}"
    code = f"import slowfast_cli.main, sys; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_answer_tells_and_draws_what_it_read(run, tmp_path: Path) -> None:
    question = ("ask", CLIP, "What is red?", "--num-frames", "8")
    code, plain, _ = run(*question, "--json")
    picture = tmp_path / "read.png"
    told = run(*question, "--json", "--evidence-image", str(picture))
    assert (code, told[0]) == (0, 0)
    answer, with_evidence = json.loads(plain), json.loads(told[1])
    assert len(with_evidence.pop("evidence")["weights"]) == 8
    assert with_evidence["answer"] == answer["answer"]
    with Image.open(picture) as image:
        assert image.format == "PNG"
    code, out, _ = run(*question, "--evidence")
    assert code == 0
    assert out.startswith(answer["answer"])
    assert "Top frames: " in out


@pytest.mark.parametrize(
    ("video", "target", "told"),
    [
        (CLIP, "read.jpg", "ends in .png"),
        (CLIP, "no/such/read.png", "no such folder"),
        ("clip.sfmem", "read.png", "a memory holds no pictures"),
    ],
)
def test_evidence_that_cannot_be_drawn_is_refused_first(
    run, tmp_path: Path, video: str, target: str, told: str
) -> None:
    code, out, err = run("ask", video, "What?", "--evidence-image", str(tmp_path / target))
    assert (code, out) == (2, "")
    assert told in " ".join(err.replace("│", " ").split())


def test_a_second_look_tells_what_it_took_in(run, tmp_path: Path) -> None:
    question = ("ask", CLIP, "Which letter is shown?", "--look-twice", "--num-frames", "8")
    picture = tmp_path / "read.png"
    code, out, _ = run(*question, "--json", "--evidence-image", str(picture))
    told = json.loads(out)
    assert code == 0
    assert len(told["looks"][0]["frames"]["indices"]) == 8
    assert told["frames"] == told["looks"][1]["frames"]
    assert len(told["evidence"]["weights"]) == len(told["frames"]["indices"]) > 8
    assert picture.exists()
    _, out, _ = run("describe", CLIP, "--look-twice", "--num-frames", "6")
    assert "Looked again, also at: " in out


def test_an_answer_ends_where_it_is_told_to(run) -> None:
    question = ("ask", CLIP, "How does the camera move?")
    _, whole, _ = run(*question)
    words = whole.split()
    _, out, _ = run(*question, "--stop", words[-1], "--stop", words[1], "--stream")
    assert out.split() == words[:1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"slowfast {verb}" in out


@pytest.mark.parametrize(
    "verb", [*VERBS, "data check", "bench flops", "bench compare", "bench needle", "bench scale"]
)
def test_help_reads_well_at_80_columns(run, monkeypatch, verb: str) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    _, out, _ = run(*verb.split(), "--help")
    lines = out.splitlines()
    options = [line for line in lines if re.match("│ [ *]  ?-|│ -", line)]
    assert options
    for line in options:  # names and types whole, and words beside them, not one a line
        words = re.fullmatch(r"(.*<[^<>]+>(?: \[\S+\])? +)(\S.*)│", line)
        assert words, line
        assert len(words[1]) <= 50, line
    # Paragraphs are wrapped once, by the terminal alone or by the text alone.
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_help_groups_options_by_what_they_are_for(run) -> None:
    _, out, _ = run("ask", "--help")
    panels = ["─ Options", "─ What to look at", "─ How to answer", "─ Where to run"]
    starts = [out.index(panel) for panel in panels]
    assert starts == sorted(starts)
    assert starts[1] < out.index("--fps") < starts[2] < out.index("--seed") < starts[3]


def test_ask_prints_the_answer_and_nothing_else_on_stdout(run) -> None:
    code, out, err = run("ask", CLIP, "How does the camera move?")
    assert code == 0
    assert out.strip()
    assert len(out.strip().splitlines()) == 1
    assert "packaged model is small" in err
    _, _, err = run("ask", CLIP, "How does the camera move?")
    assert err == ""  # the note comes once


def test_an_indexed_video_can_be_asked_without_the_video(run, tmp_path) -> None:
    memory = str(tmp_path / "clip.sfmem")
    code, out, _ = run("index", CLIP, "-o", memory)
    assert code == 0
    assert "32 frames" in out
    facts = json.loads(run("info", memory, "--json")[1])
    assert (facts["source"], facts["frames"], facts["precision"]) == (CLIP, 32, "bfloat16")
    question = "How does the camera move?"
    code, answer, _ = run("ask", memory, question, "--no-cache")
    assert code == 0
    assert answer == run("ask", CLIP, question)[1]
    assert answer == run("ask", CLIP, question)[1]  # from the cache
    assert len(list((tmp_path / "cache" / "slowfast-mllm" / "memories").iterdir())) == 1


def test_a_folder_of_frames_is_asked_at_the_rate_that_is_stated(run, tmp_path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with av.open(CLIP) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number < 6:
                frame.to_image().save(folder / f"{number}.png")
    ask = ("ask", str(folder), "How does the camera move?", "--json")
    for rate in ("5", "2"):  # the second is not the first one's memory
        answer = json.loads(run(*ask, "--frames-fps", rate)[1])
        assert answer["frames"]["timestamps"][5] == round(5 / float(rate), 4)
        assert answer["warnings"] == []
    code, _, err = run("ask", str(folder), "How does the camera move?")
    assert (code, err.count("Warning: pictures without time stamps")) == (0, 1)
    facts = json.loads(run("info", str(folder), "--frames-fps", "5", "--json")[1])
    assert (facts["duration"], facts["fps"]) == (1.2, 5)
    assert run("ask", CLIP, "?", "--frames-fps", "5")[0] == 1
    for verb in (("ask", str(folder), "?"), ("info", str(folder))):
        code, _, err = run(*verb, "--frames-fps", "0")
        assert code == 2
        assert "--frames-fps=0" in err


def test_wide_video_can_be_seen_whole(run, tmp_path) -> None:
    frames = [Image.new("RGB", (64, 36), (grey, 0, 0)) for grey in (0, 99)]
    clip, memory = str(tmp_path / "wide.gif"), str(tmp_path / "wide.sfmem")
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=100)
    ask = ("ask", clip, "How does the camera move?", "--fit", "crop")
    assert run(*ask)[2].count("outside the centre crop") == 1
    assert run(*ask)[2].count("outside the centre crop") == 1  # from the cache
    assert "outside" not in run(*ask[:3])[2]  # the packaged model sees all of it
    assert "outside" not in run("index", clip, "-o", memory, "--fit", "squash")[2]
    assert run("ask", memory, "?", "--fit", "pad")[0] == 2


def test_a_motion_photo_is_asked_about_its_picture_or_its_clip(run, tmp_path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 64)).save(photo)
    photo.write_bytes(photo.read_bytes() + Path(CLIP).read_bytes())
    ask = ("ask", str(photo), "How does the camera move?", "--json")
    picture, clip = json.loads(run(*ask)[1]), json.loads(run(*ask, "--clip")[1])
    assert (picture["video"]["frames"], clip["video"]["frames"]) == (1, 198)
    assert ["--clip" in line for line in picture["warnings"]] == [True]
    assert clip["warnings"] == []
    assert json.loads(run("info", str(photo), "--clip", "--json")[1])["num_frames"] == 198
    assert "holds no clip" in run("ask", CLIP, "?", "--clip")[2]


def test_info_estimates_memory_before_anything_is_loaded(run) -> None:
    model = str(ROOT / "src" / "slowfast_mini" / "weights")
    code, out, _ = run("info", model, "--num-frames", "64", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["weights_gb"] < facts["peak_gb"] < 1


def test_bench_flops_prints_what_it_counts(run, monkeypatch) -> None:
    monkeypatch.setattr("slowfast_mllm.evaluate.costs.FRAMES", (16, 128))
    code, out, _ = run("bench", "flops")
    assert code == 0
    assert "From 16 to 128 frames the prefill grows by 1.7%" in out


def test_json_is_one_object_with_the_promised_fields(run) -> None:
    code, out, _ = run("describe", CLIP, "--json", "--num-frames", "4", "--start", "1")
    facts = json.loads(out)
    assert code == 0
    assert set(facts) == {"answer", "model", "video", "frames", "timing", "warnings"}
    assert len(facts["frames"]["indices"]) == 4
    assert facts["frames"]["timestamps"][0] >= 1
    chosen = json.loads(run("describe", CLIP, "--json", "--num-frames", "auto")[1])
    assert chosen["settings"]["frame_choice"]["num_frames"] == len(chosen["frames"]["indices"])


def test_chat_answers_line_by_line(run, monkeypatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("How many objects?\nAny cuts?\n"))
    code, out, _ = run("chat", CLIP, "--num-frames", "8")
    assert code == 0
    assert len(out.strip().splitlines()) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("\udcff\nHow many objects?\n"))
    code, again, err = run("chat", CLIP, "--num-frames", "8")
    assert code == 1  # the first was refused, and the second was answered
    assert "Error: " in err
    assert again.strip() == out.splitlines()[0]


def test_what_is_wrong_with_a_video_is_said_once(run, monkeypatch, tmp_path) -> None:
    import io

    whole = as_matroska(CLIP, tmp_path / "cut.mkv")
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(sys, "stdin", io.StringIO("How many objects?\nAny cuts?\n"))
    code, out, err = run("chat", str(tmp_path / "cut.mkv"), "--num-frames", "4")
    assert (code, len(out.splitlines())) == (0, 2)
    assert err.count("Warning: ") == 1


def test_ctrl_c_says_so(run, monkeypatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slowfast_mllm.video.probe_video", pressed)
    code, _, err = run("info", CLIP)
    assert code == 130
    assert err == "Interrupted.\n"


def test_info_about_a_video_and_a_model(run, tmp_path) -> None:
    code, out, _ = run("info", CLIP, "--json")
    facts = json.loads(out)
    assert code == 0
    assert {"num_frames", "duration", "fps", "width", "height", "codec", "rotation", "has_audio",
            "warnings"} <= set(facts)  # fmt: skip
    folder = ROOT / "src" / "slowfast_mini" / "weights"
    code, out, _ = run("info", str(folder), "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["hybrid_layers"]
    adapter = {"base_model_name_or_path": str(folder), "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    assert json.loads(run("info", str(tmp_path), "--json")[1]) == facts | {"model": str(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ask", "missing.mp4", "What?"), 1, "missing.mp4"),
        (("ask", __file__, "What?"), 1, "test_commands.py"),
        (("ask", "gone.mp4", " "), 2, "question is empty"),
        (("ask", "gone.mp4", "What?", "--num-frames", "4", "--fps", "1"), 2, "num_frames"),
        (("ask", "gone.mp4", "What?", "--num-frames", "many"), 2, "neither a number nor auto"),
        (("ask", "gone.mp4", "What?", "--num-frames", "auto", "--fps", "1"), 2, "together"),
        (("ask", "x.sfmem", "What?", "--num-frames", "auto"), 2, "frames were chosen"),
        (("describe", "x.sfmem", "--look-twice"), 2, "no frames to look at a second time"),
        (("describe", "gone.mp4", "--start", "5", "--end", "3"), 2, "must come after --start"),
        (("ask", CLIP, "What?", "--model", "no/such/model"), 1, "no such folder"),
        (("ask", "gone.mp4", "What?", "--model", "no/such/model"), 1, "gone.mp4: no such file"),
        (("index", "gone.mp4", "-o", "x.sfmem", "--model", "no/such"), 1, "gone.mp4: no such file"),
        (("ask", "", "What?", "--model", "no/such"), 1, "'': no such file"),
        (("index", "", "-o", "x.sfmem", "--model", "no/such"), 1, "'': no such file"),
        (("data", "check", ""), 1, "'': not the name"),
        (("info", "clips/gone.mp4"), 1, "clips/gone.mp4: no such file"),
        (("info", "runs/gone.sfmem"), 1, "runs/gone.sfmem: no such file"),
        (("ask", CLIP), 2, "question"),
        (("ask", CLIP, "What?", "--num-frames", "0"), 2, "num-frames"),
        (("train", "missing.yaml", "--output", "x"), 1, "missing.yaml"),
        (("convert", "missing", "x"), 1, "missing"),
        (("nonsense",), 2, "nonsense"),
        (("ask", CLIP, "What \udcff?"), 1, "not valid UTF-8"),
        (("ask", CLIP, "How many? " * 2000), 1, "reads less than 4096"),
        (("ask", CLIP, "What?", "--num-beams", "1000"), 2, "num-beams"),
        (("ask", CLIP, "What?", "--temperature", "inf"), 2, "temperature"),
        (("index", CLIP, "-o", "nowhere/x.sfmem", "--model", "no/such"), 2, "nowhere"),
        (("index", CLIP, "-o", "x.bin", "--model", "no/such"), 2, "ends in .sfmem"),
        (("index", CLIP, "-o", "\udcff.sfmem", "--model", "no/such"), 2, "not valid UTF-8"),
        (("info", CLIP, "--num-frames", "8"), 2, "checkpoints"),
        (("info", str(PACKAGED), "--quantize", "int8"), 2, "--quantize"),
        (("bench", "flops", "--plot", "nowhere/x.png"), 2, "no such folder"),
        (("ask", CLIP, "What?", "--device", "meta"), 1, "not usable here"),
        (("data", "check", "r.jsonl", "--model", "gone"), 1, "gone: no such folder"),
        (("info", str(ROOT / "src"), "--dtype", "int3"), 2, "int3"),
        (("ask", CLIP, "What?", "--quantize", "int3"), 2, "int3"),
        (("ask", "x.sfmem", "What?", "--num-frames", "4"), 2, "frames were chosen"),
        (("index", CLIP, "-o", "x.sfmem", "--fps", "2", "--num-frames", "4"), 2, "together"),
        (("ask", CLIP, "What?", "--temperature", "1e-9", "--model", "no/such"), 2, "least 0.001"),
    ],
)
def test_failures_are_one_clear_message(run, arguments, code, message) -> None:
    actual, out, err = run(*arguments)
    assert actual == code
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    if code == 1:
        assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1


def test_a_data_check_lists_clips_that_are_damaged(run, tmp_path) -> None:
    whole = as_matroska(CLIP, tmp_path / "cut.mkv")
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    turns = [{"from": "human", "value": "<video>\nHi?"}, {"from": "gpt", "value": "Hello."}]
    rows = [{"video": name, "conversations": turns} for name in ("cut.mkv", "cut.mkv", CLIP)]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    code, out, err = run("data", "check", str(tmp_path / "r.json"), "--num-frames", "4")
    assert (code, err) == (0, "")
    assert out.count("the file ends early") == 1
    out = json.loads(run("data", "check", str(tmp_path / "r.json"), "--json")[1])
    assert (out["usable"], len(out["damaged"])) == (3, 1)


def test_a_data_check_tells_what_it_took(run, tmp_path) -> None:
    question = [{"type": "video", "video": CLIP, "video_end": 2, "nframes": 4}]
    turns = [
        {"role": "user", "content": [*question, {"type": "text", "text": "Which?"}]},
        {"role": "assistant", "content": "Green.", "loss": False},
        {"role": "user", "content": "Look again."},
        {"role": "assistant", "content": "Red."},
    ]
    row = {"system": "Be brief.", "messages": turns, "id": 7, "source": "here"}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    facts = json.loads(run("data", "check", str(tmp_path / "r.jsonl"), "--json")[1])
    assert facts["taken"] == {
        "videos_with_bounds": 1,
        "videos_with_own_frames": 1,
        "frame_lists": 0,
        "system_prompts": 1,
        "turns_without_loss": 1,
        "carried": ["id", "source"],
    }
    code, out, _ = run("data", "check", str(tmp_path / "r.jsonl"))
    assert code == 0
    assert "turns without loss: 1; carried along without meaning: id, source" in out


def as_matroska(clip: str, other: Path) -> bytes:
    """The clip as Matroska, which can be read as far as it goes."""
    with av.open(clip) as source, av.open(str(other), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return other.read_bytes()


def test_convert_writes_a_native_checkpoint(run, tmp_path) -> None:
    source = ROOT / "src" / "slowfast_mini" / "weights"
    code, out, _ = run("convert", str(source), str(tmp_path / "native"))
    assert code == 0
    assert str(tmp_path / "native") in out
    code, first, _ = run("ask", CLIP, "Any cuts?", "--model", str(tmp_path / "native"))
    assert code == 0
    assert first == run("ask", CLIP, "Any cuts?")[1]
    code, _, err = run("convert", str(source), str(tmp_path / "native"))
    assert code == 1
    assert "not empty" in err


def test_a_conversion_that_fails_leaves_nothing(run, monkeypatch, tmp_path) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    code, _, err = run("convert", str(PACKAGED), str(tmp_path / "native"))
    assert code == 1
    assert "native: cannot be written (No space left on device)" in err
    assert not list(tmp_path.glob("native*"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "big5", "gbk"])
def test_what_the_terminal_cannot_hold_is_escaped(run, monkeypatch, encoding: str) -> None:
    words = "\u93e1\u982d\u5411\u5de6 \u2603 \xe9"  # Chinese, a snowman, an accent
    monkeypatch.setattr("slowfast_mllm.engine.answers.before_stop", lambda *_: words)
    for options in ((), ("--json",)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        code, _, err = run("ask", CLIP, "What?", "--num-frames", "2", "--no-cache", *options)
        assert (code, "Error" in err) == (0, False)
        out = stream.buffer.getvalue().decode(encoding)
        if options:
            assert json.loads(out)["answer"] == words
        else:
            assert out == words.encode(encoding, "backslashreplace").decode(encoding) + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "data:video/mp4;base64," + "x" * 100_000),
        ("info", "x" * 100_000),
        ("info", "x/" + "x" * 100_000),
        ("ask", "data:video/mp4;base64," + "x" * 100_000, "What?"),
        ("ask", CLIP, "What?", "--num-frames", "x" * 100_000),
        ("ask", CLIP, "What?", f"--{'x' * 100_000}"),
        ("ask", "x" * 100_000 + ".sfmem", "What?", "--fps", "1"),
        ("ask", "x" * 100_000 + ".sfmem", "What?"),
        ("ask", CLIP, "What?", "--model", "x" * 100_000),
        ("index", CLIP, "--output", "x" * 100_000),
        ("index", CLIP, "--output", "x" * 100_000 + ".sfmem"),
        ("x" * 100_000,),
        ("convert", "x" * 100_000, "y"),
        ("data", "check", "x" * 100_000),
        ("data", "check", "x/" + "x" * 100_000),
        ("train", "x" * 100_000, "--output", "y"),
    ],
)
def test_messages_repeat_little_of_long_arguments(run, arguments) -> None:
    code, out, err = run(*arguments)
    assert code in (1, 2)
    assert len(out + err) < 2000
    assert "x" * 101 not in out + err


def test_a_file_whose_name_begins_as_options_do_is_told_apart(run, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-dash.mp4").write_bytes(Path(CLIP).read_bytes())
    assert "write ./-dash.mp4" in run("info", "-dash.mp4")[2]
    assert run("info", "./-dash.mp4")[0] == run("info", "--", "-dash.mp4")[0] == 0


def test_a_video_may_be_a_uri(run) -> None:
    data = f"data:video/mp4;base64,{base64.b64encode(Path(CLIP).read_bytes()).decode()}"
    named = json.loads(run("info", Path(CLIP).as_uri(), "--json")[1])
    assert named == json.loads(run("info", CLIP, "--json")[1])
    held = json.loads(run("info", data, "--json")[1])
    assert held == named | {"path": "data:video/mp4 (419 KB)"}
    answers = {
        run("ask", source, "How does the camera move?")[1]
        for source in (CLIP, Path(CLIP).as_uri(), data)
    }
    assert len(answers) == 1


def test_given_answers_are_compared(run, tmp_path: Path) -> None:
    few = ("--num-frames", "4")
    code, out, _ = run("choose", CLIP, "What color is the heart?", "Red.", "White.", *few)
    assert code == 0
    assert sorted(line.split()[1] for line in out.splitlines()) == ["Red.", "White."]
    told = json.loads(run("score", CLIP, "a red triangle", *few, "--json")[1])
    assert 0 <= told["score"] <= 1
    labels = tmp_path / "labels.txt"
    labels.write_text("a red triangle\na blue ring\n")
    code, out, _ = run("classify", CLIP, "--labels", str(labels), "--top", "1", *few)
    assert (code, len(out.splitlines())) == (0, 1)
    for wrong in (
        ("choose", CLIP, "What?", "Red."),
        ("score", CLIP),
        ("classify", CLIP, "red", "--labels", str(labels)),
    ):
        assert run(*wrong)[0] == 2


def test_many_videos_are_captioned_into_a_file(run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "good.mp4").write_bytes(Path(CLIP).read_bytes())
    output = tmp_path / "out.jsonl"
    arguments = ("caption", str(tmp_path / "clips"), "-o", str(output), "--num-frames", "2")
    assert run(*arguments)[:2] == (0, f"{output}: 1 captions; 0 failed\n")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"none")
    code, out, err = run(*arguments, "--json")
    told = json.loads(out)
    assert (code, told["done"], told["failed"], told["before"]) == (1, 0, 1, 1)
    assert "out.errors.jsonl says why" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run("caption", str(tmp_path / "empty"), "-o", str(output))
    assert (code, len(err.splitlines())) == (1, 1)
    assert "a folder without videos" in err
    assert run("caption", CLIP, "--shard", "5/4")[0] == 2
    assert run("caption", CLIP, "-o", str(tmp_path / "out.txt"))[0] == 2


def test_many_videos_are_classified_and_indexed_into_files(run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "good.mp4").write_bytes(Path(CLIP).read_bytes())
    clips, few = str(tmp_path / "clips"), ("--num-frames", "2")
    output = str(tmp_path / "labels.jsonl")
    told = run("classify", clips, "a red star", "a blue ring", "-o", output, *few)
    assert told[:2] == (0, f"{output}: 1 classifications; 0 failed\n")
    assert {label["label"] for label in json.loads(Path(output).read_text())["labels"]} == {
        *("a red star", "a blue ring")
    }
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"none")
    output = str(tmp_path / "kept.jsonl")
    assert run("index", clips, "-o", output, *few)[:2] == (
        *(1, f"{output}: 1 memories; 1 failed\n"),
    )
    memory = tmp_path / json.loads(Path(output).read_text())["memory"]
    assert run("info", str(memory))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("caption", CLIP, "--ray", "local"), "give --output"),
        (("classify", CLIP, "red", "--shard", "1/2"), "give --output"),
        (("index", CLIP, "-o", "x.sfmem", "--ray", "local"), "give --output"),
        (("classify", CLIP, "red", "-o", "x.jsonl", "--start", "1"), "give a table"),
        (("classify", CLIP, "red", "-o", "x.vtt"), "ends in .jsonl, .parquet"),
    ],
)
def test_options_of_many_videos_and_of_one_do_not_mix(
    run, monkeypatch, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())


def test_without_ray_a_line_says_what_to_install(run, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "slowfast_mllm.bulk.ray", raising=False)
    output = tmp_path / "out.jsonl"
    code, _, err = run("caption", CLIP, "-o", str(output), "--ray", "local")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "slowfast-mllm[ray]" in err
    assert not output.exists()

"""Records: every format that is in use, and one line for each thing that can be wrong with one."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import TrainingArguments

from slowfast_mllm import SlowFastProcessor, load
from slowfast_mllm.train.conversations import (
    IGNORED,
    Collator,
    Encoder,
    PreferenceCollator,
    PreferenceEncoder,
    RecordDataset,
    draw,
)
from slowfast_mllm.train.record import Record, RecordError
from slowfast_mllm.train.record_trainer import RecordTrainer
from slowfast_mllm.train.records import read_records

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
TURNS = [
    {"from": "human", "value": "<image>\nWhat happens?"},
    {"from": "gpt", "value": "A star moves."},
    {"from": "human", "value": "And then?"},
    {"from": "gpt", "value": "It stops."},
]


@pytest.fixture(scope="module")
def processor() -> SlowFastProcessor:
    return load(device="cpu").processor


def write(folder: Path, rows: list, name: str = "records.json") -> Path:
    path = folder / name
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def only(path: Path, media: Path | None = None) -> Record:
    (record,) = read_records(path, media)
    assert isinstance(record, Record), record
    return record


def test_a_name_no_file_can_have_and_json_beyond_reading_are_one_bad_record(tmp_path: Path) -> None:
    file = write(tmp_path, [{"video": "x" * 5000, "conversations": TURNS}], "r.jsonl")
    with pytest.raises(RecordError, match=r"r\.jsonl:1: .*too long"):
        only(file).check_files()
    for bad in ("[" * 100_000, "9" * 5000):
        file.write_text(bad + "\n" + json.dumps({"conversations": TURNS[2:]}) + "\n")
        found = list(read_records(file))
        assert isinstance(found[0], RecordError)
        assert len(found) == 2


@pytest.mark.parametrize("key", ["conversations", "conversation"])
@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_llava_records_become_messages(tmp_path: Path, key: str, name: str) -> None:
    record = only(write(tmp_path, [{"video": "a/b.mp4", key: TURNS}], name))
    assert [m["role"] for m in record.messages] == ["user", "assistant"] * 2
    assert record.media == [("video", tmp_path / "a/b.mp4")]
    assert record.messages[0]["content"][1] == {"type": "text", "text": "What happens?"}
    assert only(tmp_path / name, Path("/media")).media == [("video", Path("/media/a/b.mp4"))]


def test_chat_messages_keep_their_parts(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [{"type": "video", "path": "x.mp4"}, {"type": "text", "text": "What?"}],
        },
        {"role": "assistant", "content": "A star."},
    ]
    record = only(write(tmp_path, [{"messages": messages}], "chat.jsonl"))
    assert record.media == [("video", tmp_path / "x.mp4")]
    assert [m["role"] for m in record.messages] == ["system", "user", "assistant"]


def test_saved_data_sets_and_folders_are_sources(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"video": "x.mp4", "conversations": TURNS}, {"video": "y.mp4", "conversations": TURNS}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    found = list(read_records(tmp_path / "set", "/media"))
    assert [r.media[0][1].name for r in found] == ["x.mp4", "y.mp4"]
    (tmp_path / "many").mkdir()
    write(tmp_path / "many", rows)
    write(tmp_path / "many", rows, "more.jsonl")
    assert len(list(read_records(tmp_path / "many"))) == 4


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_is_stored_in_a_data_set_is_read_as_from_its_file(
    tmp_path: Path, processor: SlowFastProcessor, kind: str
) -> None:
    datasets = pytest.importorskip("datasets")
    file = CLIP
    if kind == "image":
        file = tmp_path / "x.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")).save(file)
    feature = {"image": datasets.Image, "video": datasets.Video}[kind](decode=False)
    content = {"path": None, "bytes": file.read_bytes()}
    plain = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A star."}]
    features = datasets.Features(
        {
            f"{kind}s": datasets.List(feature),
            "messages": datasets.List(
                {"role": datasets.Value("string"), "content": datasets.Value("string")}
            ),
        }
    )
    rows = [
        {f"{kind}s": [content], "messages": plain},
        {f"{kind}s": [{"path": None, "bytes": b"no"}], "messages": plain},
    ]
    datasets.Dataset.from_list(rows, features).save_to_disk(str(tmp_path / "set"))
    stored, broken = read_records(tmp_path / "set")
    row = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": kind, "path": str(file)}, {"type": "text", "text": "What?"}],
            },
            plain[1],
        ]
    }
    encode = Encoder(processor, 4, 512)
    inputs, expected = encode(stored), encode(only(write(tmp_path, [row])))
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    name = {"image": "pixel_values", "video": "pixel_values_videos"}[kind]
    assert torch.equal(inputs[name][0], expected[name][0])
    with pytest.raises(RecordError, match=rf"set\[1\]\[{kind}s\]\[0\]: "):
        encode(broken)


@pytest.mark.parametrize("columns", [["_sound"], None])
def test_data_sets_are_read_without_decoding_or_writing(
    tmp_path: Path, monkeypatch, columns: list[str] | None
) -> None:
    """Whatever their features and format are, and what they have beside a conversation."""
    datasets = pytest.importorskip("datasets")
    words, content = datasets.Value("string"), {"bytes": b"seen", "path": "a.png"}
    parts = datasets.List({"type": words, "text": words, "image": datasets.Image()})
    turns = datasets.List({"role": words, "content": parts})
    question = [
        {"type": "image", "image": content, "text": None},
        {"type": "text", "text": "What?", "image": None},
    ]
    row = {
        name: [
            {"role": "user", "content": question},
            {"role": "assistant", "content": [{"type": "text", "text": text, "image": None}]},
        ]
        for name, text in (("chosen", "A star."), ("rejected", "A moon."))
    }
    row |= {"videos": [content, content], "_sound": content, "metadata": {"a": [1]}}
    features = datasets.Features(
        {
            "chosen": turns,
            "rejected": turns,
            "videos": datasets.List(datasets.Video()),
            "_sound": {"bytes": datasets.Value("binary"), "path": words},
            "metadata": datasets.Json(),
        }
    )
    rows = datasets.Dataset.from_list([row] * 12, features)
    rows = rows.cast_column("_sound", datasets.Audio())  # to encode it would need torchcodec
    rows = rows.with_format("numpy", columns=columns)
    rows.save_to_disk(str(tmp_path / "set"), num_shards=3)
    monkeypatch.setattr(datasets.Dataset, "map", lambda *_, **__: pytest.fail("writes a copy"))
    *_, last = read_records(tmp_path / "set")
    assert isinstance(last, Record), last
    assert [kind for kind, _ in last.media] == ["video", "video", "image"]
    assert [stored.open().read() for _, stored in last.media] == [b"seen"] * 3
    assert str(last.media[2][1]).endswith("set[11][chosen][0][content][0][image]")
    assert (last.messages[1]["content"][0]["text"], last.rejected) == ("A star.", "A moon.")


def test_rows_of_trl_are_understood(tmp_path: Path) -> None:
    """Pictures in a column of their own, and both answers with the prompt before them."""
    datasets = pytest.importorskip("datasets")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    good, bad = ({"role": "assistant", "content": words} for words in ("A star.", "A moon."))
    pair = {"images": ["x.png"], "chosen": [question, good], "rejected": [question, bad]}
    record = only(write(tmp_path, [pair]))
    assert record.media == [("image", tmp_path / "x.png")]
    assert record.messages[1]["content"][0]["text"] == "A star."
    assert record.rejected == "A moon."
    text = {"prompt": "<image>What?", "chosen": "A star.", "rejected": "A moon.", "image": "x.png"}
    record = only(write(tmp_path, [text]))
    assert [part.get("text") for part in record.messages[0]["content"]] == [None, "What?"]
    plain = [{"role": "user", "content": "What?"}, good]
    rows = datasets.Dataset.from_list([{"images": [str(tmp_path / "x.png")], "messages": plain}])
    rows = rows.cast_column("images", datasets.List(datasets.Image()))
    rows.save_to_disk(str(tmp_path / "set"))
    (tmp_path / "x.png").unlink()
    (inside,) = read_records(tmp_path / "set")  # saving took the picture into the data set
    inside.check_files()
    assert str(inside.media[0][1]).endswith("set[0][images][0]")
    given = [{"image": "x.png", "messages": plain}]
    datasets.Dataset.from_list(given).save_to_disk(str(tmp_path / "named"))
    (record,) = read_records(tmp_path / "named")
    assert record.media == [("image", tmp_path / "named" / "x.png")]


CLIP_ROW = {"video": "x.mp4", "conversations": TURNS[:2]}


def asked(**part: object) -> list[dict]:
    kind = next(key for key in part if key in ("video", "image"))
    content = [{"type": kind, **part}, {"type": "text", "text": "Which?"}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "Red."}]


def said(user: str, assistant: str = "Red") -> list[dict]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


@pytest.mark.parametrize(
    ("row", "places"),
    [
        ({"images": ["a"], "messages": said("Hi") + said("<image>\nWhat?")}, [[], ["a"]]),
        (
            {"images": ["a", "b"], "videos": ["c"], "messages": said("<video><image>1<image>")},
            [["c", "a", "b"]],
        ),
        ({"images": ["a", "b"], "messages": said("1") + said("2", "an <image>")}, [["a", "b"], []]),
        ({"images": ["a", "b"], "conversations": [TURNS[0], TURNS[1]] * 2}, [["a"], ["b"]]),
        ({"videos": ["a"], "conversations": TURNS}, [["a"], []]),
    ],
)
def test_files_belong_to_the_turns_that_name_them(tmp_path: Path, row: dict, places: list) -> None:
    messages = only(write(tmp_path, [row])).messages
    found = [[Path(p["path"]).name for p in m["content"] if "path" in p] for m in messages[::2]]
    assert found == places
    words = ["".join(p.get("text", "") for p in m["content"]) for m in messages]
    assert not any("<" in text for text in words[::2])
    turns = row.get("messages") or row["conversations"]
    assert words[1::2] == [turn.get("content", turn.get("value")) for turn in turns[1::2]]


def test_a_conversation_is_read_whole_beside_its_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "One?", "messages": said("One?") + said("Two?")},
        {"conversations": {name: [turn[name] for turn in TURNS[2:]] for name in TURNS[0]}},
        {"prompt": "One?", "chosen": "\n\nA star ", "rejected": " No\n"},
    ]
    whole, listed, pair = read_records(write(tmp_path, rows))
    assert [len(record.messages) for record in (whole, listed, pair)] == [4, 2, 2]
    # Line breaks around an answer would become one token with those of the chat template.
    assert (pair.messages[-1]["content"][0]["text"], pair.rejected) == ("A star", "No")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["no object"], "expected an object"),
        ({"images": ["a", "b"], "messages": said("Is <image> before <image>?")}, "between words"),
        ({"images": ["a"], "messages": said("<image><image>What?")}, "2 parts .* 1 files"),
        ({"videos": ["a"], "images": ["b"], "conversations": TURNS}, "in one record"),
        ({"messages": [*said("Hi"), {"role": "system", "content": "x"}]}, "an answer last"),
        ({"\ud800": 1}, r"found '\\ud800'"),
        ({"video": "x.mp4", "image": "x.jpg", "conversations": TURNS}, "in one record"),
        (
            {
                "image": ["x.jpg", "y.jpg"],
                "conversations": [{"from": "human", "value": "One <image> two <image>"}],
            },
            "placeholders between words",
        ),
        ({"messages": [], "chosen": [{}, {}], "rejected": [{"a": 1}, {}]}, "before the last"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "1 parts .* 0 files"),
        ({"video": "x.mp4"}, "neither `messages` nor `conversations`"),
        ({"conversations": "words"}, "a list of objects"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "unknown role 'robot'"),
        ({"video": "x.mp4", "conversations": TURNS[2:]}, "no placeholder"),
        ({"conversations": TURNS}, "more placeholders"),
        ({"conversations": TURNS[:1]}, "more placeholders"),
        ({"video": "x.mp4", "conversations": TURNS[:1]}, "must alternate"),
        ({"conversations": [TURNS[2], {"from": "gpt", "value": " "}]}, "empty answer"),
        ({"conversations": [TURNS[2], {"from": "gpt", "value": 3}]}, "int, not a string"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "type 'audio'"),
        ({"messages": [], "chosen": "x"}, "NoneType, not a string"),
        ({"messages": [], "chosen": " ", "rejected": "x"}, "empty answer"),
        ({"video": 7, "conversations": TURNS}, "a video or image is int"),
        (CLIP_ROW | {"vidoe_start": 1}, "unknown key 'vidoe_start'; did you mean 'video_start'?"),
        (CLIP_ROW | {"tools": []}, "unknown key 'tools'; known are"),
        ({"messages": [{**said("Hi")[0], "lose": 0}, said("Hi")[1]]}, "did you mean 'loss'"),
        ({"messages": asked(video="x", video_strat=1)}, "did you mean 'video_start'"),
        ({"messages": asked(image="x", fps=1)}, "unknown key 'fps'; known are type, image"),
        ({"messages": asked(video="x", video_start=3, video_end=2)}, "must come after"),
        ({"messages": asked(video="x", nframes=0)}, "num_frames=0"),
        ({"messages": asked(video="x", nframes=2, num_frames=2)}, "another number of frames"),
        ({"messages": asked(video="x", nframes=2, fps=2)}, "fps"),
        ({"messages": asked(video=[])}, "2 parts|1 parts"),
        (CLIP_ROW | {"video": ["x.mp4", "y.mp4"], "video_end": 1}, "placeholder"),
        ({"messages": said("Hi"), "video_end": 1}, "beside 0 videos"),
        (CLIP_ROW | {"videos": ["y.mp4"]}, "beside `videos`"),
        ({"messages": asked(video="x.mp4", url="y.mp4")}, "`url` beside `video`"),
        ({"messages": asked(video="https://a.b/x.mp4")}, r"https://a\.b/x\.mp4: only local files"),
        ({"system": "A", "messages": [{"role": "system", "content": "B"}, *said("")]}, "beside a"),
        ({"messages": [said("")[0], {**said("")[1], "loss": False}]}, "no answer carries loss"),
        ({"messages": [said("")[0], {**said("")[1], "weight": -0.5}]}, "give false"),
        ({"messages": [{**said("")[0], "loss": True}, said("")[1]]}, "only answers are learned"),
        (CLIP_ROW | {"video": "file://host/x.mp4"}, "another machine"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half a character"),
    ],
)
def test_a_bad_record_is_named_with_its_reason(tmp_path: Path, row: object, reason: str) -> None:
    good = {"video": "x.mp4", "conversations": TURNS}
    first, second = read_records(write(tmp_path, [row, good], "r.jsonl"))
    assert isinstance(first, RecordError)
    assert str(first).startswith(f"{tmp_path / 'r.jsonl'}:1: ")
    with pytest.raises(RecordError, match=reason):
        raise first
    assert isinstance(second, Record)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', b"\xff\xfe\x00"])
def test_a_source_that_is_none_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordError, match=r"r\.json: "):
        list(read_records(path))
    with pytest.raises(RecordError, match="no such file"):
        list(read_records(tmp_path / "other.json"))
    with pytest.raises(RecordError, match="no such file"):
        list(read_records("/other"))


def test_only_answers_carry_loss(tmp_path: Path, processor: SlowFastProcessor) -> None:
    shutil.copy(CLIP, tmp_path / "x.mp4")
    record = only(write(tmp_path, [{"video": "x.mp4", "conversations": TURNS}]))
    inputs = Encoder(processor, 8, 512)(record)
    taught = inputs["input_ids"][inputs["labels"] != IGNORED]
    assert processor.decode(taught) == "A star moves.<|im_end|>It stops.<|im_end|>"
    assert [len(frames) for frames in inputs["pixel_values_videos"]] == [8]


def test_records_say_which_frames_are_meant(
    tmp_path: Path, processor: SlowFastProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(CLIP, tmp_path / "x.mp4")
    names = [f"f_{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(tmp_path / name)
    data = f"data:video/mp4;base64,{base64.b64encode(CLIP.read_bytes()).decode()}"
    rows = [
        ({"messages": asked(video="x.mp4", video_start=1.0, video_end=2)}, 8, (1.0, 2.0)),
        (CLIP_ROW | {"video_start": 1.0, "video_end": 2}, 8, (1.0, 2.0)),
        ({"messages": asked(video="x.mp4", nframes=4)}, 4, (0.0, 8.0)),
        ({"messages": asked(path=(tmp_path / "x.mp4").as_uri(), video=None, fps=2)}, None, (0, 8)),
        ({"messages": asked(video=data, video_end=0.5)}, 8, (0.0, 0.5)),
        ({"videos": [names], "messages": said("<video>\nWhich?")}, 8, (0.0, 3.0)),
        ({"video": names, "frames_fps": 2, "conversations": TURNS[:2]}, 8, (0.0, 1.5)),
        ({"messages": asked(video=names, fps=4, nframes=3)}, 3, (0.0, 0.75)),
        ({"messages": asked(video=names, fps=4, video_start=0.25)}, 8, (0.25, 0.75)),
    ]
    found = list(read_records(write(tmp_path, [row for row, _, _ in rows])))
    for record, (_, count, (first, last)) in zip(found, rows, strict=True):
        assert isinstance(record, Record), record
        inputs = Encoder(processor, 8, 4096)(record)
        times = inputs["video_timestamps"][0]
        assert times.min() >= first
        assert times.max() <= last
        if count is None:
            assert torch.allclose(times.diff(), torch.tensor(0.5), atol=0.1)
        else:
            assert len(times) == count
    assert "\n" not in caplog.text or "x" * 101 not in caplog.text


def test_pictures_in_the_column_of_a_video_are_its_frames_and_animations_are_not(
    tmp_path: Path,
) -> None:
    for suffix, videos in (("png", 1), ("gif", 2)):
        names = [f"{number}.{suffix}" for number in range(2)]
        turns = [{"from": "human", "value": "<video>" * videos}, TURNS[1]]
        record = only(write(tmp_path, [{"video": names, "conversations": turns}]))
        assert len(record.visual_parts) == videos


def test_a_system_prompt_and_turns_without_loss(
    tmp_path: Path, processor: SlowFastProcessor
) -> None:
    context = [{**turn, "loss": False} if i == 1 else turn for i, turn in enumerate(TURNS)]
    weighed = [{**turn, "weight": i // 3} if i % 2 else turn for i, turn in enumerate(TURNS)]
    shutil.copy(CLIP, tmp_path / "x.mp4")
    rows = [
        {"video": "x.mp4", "system": "Answer in German.", "conversations": turns, "id": 3}
        for turns in (context, weighed)
    ]
    for record in read_records(write(tmp_path, rows)):
        assert isinstance(record, Record), record
        assert (record.unlearned, record.carried) == (1, {"id"})
        inputs = Encoder(processor, 4, 512)(record)
        assert "system\nAnswer in German.<|im_end|>" in processor.decode(inputs["input_ids"])
        taught = inputs["input_ids"][inputs["labels"] != IGNORED]
        assert processor.decode(taught) == "It stops.<|im_end|>"


def test_weights_of_answers_scale_their_loss(tmp_path: Path) -> None:
    assistant = load(device="cpu")
    encode = Encoder(assistant.processor, 4, 512)
    trainer = RecordTrainer(assistant.model, TrainingArguments(str(tmp_path), use_cpu=True))

    def loss(*weights: float) -> float:
        turns = [dict(turn) for turn in TURNS[2:] * 2]
        for turn, weight in zip(turns[1::2], weights, strict=True):
            turn["weight"] = weight
        record = only(write(tmp_path, [{"conversations": turns}]))
        batch = Collator(0)([encode(record)])
        assert ("loss_weights" in batch) == any(weight not in (0, 1) for weight in weights)
        with torch.no_grad():
            return float(trainer.compute_loss(assistant.model, batch, num_items_in_batch=10))

    first, second, both = loss(1, 0), loss(0, 1), loss(1, 1)
    assert first + second == pytest.approx(both, rel=1e-4)
    assert loss(0.5, 3) == pytest.approx(0.5 * first + 3 * second, rel=1e-4)
    assert loss(1, 1) == both


def test_json_lines_by_another_name_and_parquet_are_sources(tmp_path: Path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"conversations": TURNS[2:], "id": str(number)} for number in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "r.json").write_text(lines + "{\n")
    *good, bad = read_records(tmp_path / "r.json")
    assert [r.where.rpartition(":")[2] for r in good] == ["1", "2", "3"]
    assert isinstance(bad, RecordError)
    (tmp_path / "r.json").write_text(lines.partition("\n")[0])
    assert only(tmp_path / "r.json").messages == good[0].messages
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    columns = {"images": [["x.png"]], "messages": [said("What?")], "source": ["here"]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(columns).to_parquet(str(tmp_path / "set" / "r.parquet"))
    for source in (tmp_path / "set" / "r.parquet", tmp_path / "set"):
        record = only(source, tmp_path)
        assert record.media == [("image", tmp_path / "x.png")]
        assert record.carried == {"source"}
        record.check_files()


def test_frames_that_are_stored_in_a_data_set_are_one_video(
    tmp_path: Path, processor: SlowFastProcessor, monkeypatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    frames = [{"bytes": picture(level), "path": f"{level}.png"} for level in (0, 100, 200)]
    words = datasets.Value("string")
    features = datasets.Features(
        {
            "videos": datasets.List(datasets.List(datasets.Image())),
            "messages": datasets.List({"role": words, "content": words}),
            "frames_fps": datasets.Value("float32"),
        }
    )
    rows = [
        {"videos": [frames], "messages": said("<video>\nWhich?"), "frames_fps": rate}
        for rate in (None, 4.0)
    ]
    datasets.Dataset.from_list(rows, features).to_parquet(str(tmp_path / "r.parquet"))
    for record, last in zip(read_records(tmp_path / "r.parquet"), (2.0, 0.5), strict=True):
        assert isinstance(record, Record), record
        inputs = Encoder(processor, 3, 512)(record)
        (times,) = inputs["video_timestamps"]
        assert times.tolist() == [0.0, last / 2, last]
        brightness = inputs["pixel_values_videos"][0].mean((1, 2, 3))
        assert (brightness.diff() > 0).all()


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (level, level, level)).save(stream, "PNG")
    return stream.getvalue()


def test_a_data_uri_is_never_repeated(tmp_path: Path, processor: SlowFastProcessor) -> None:
    data = "data:video/mp4;base64," + "x" * 100_000
    rows = [
        {"messages": asked(video=data)},
        {"video": data, "conversations": TURNS[2:]},
        {"messages": asked(video="x", **{"x" * 100_000: 1})},
        {"messages": [{"role": "x" * 100_000, "content": "Hi"}]},
        {"x" * 100_000: 1},
        {"video": ["x" * 100_000], "conversations": TURNS[:2]},
    ]
    for record in read_records(write(tmp_path, rows)):
        if isinstance(record, Record):
            with pytest.raises(RecordError) as caught:
                Encoder(processor, 4, 512)(record)
            record = caught.value
        assert "x" * 101 not in str(record)
        assert len(str(record)) < 1000


CASES = Path(__file__).parents[3] / "shared" / "cases" / "doors"


@pytest.mark.skipif(not CASES.exists(), reason="needs the shared case files")
def test_records_as_they_were_meant(processor: SlowFastProcessor) -> None:
    found = list(read_records(CASES / "records.jsonl"))
    inputs = [Encoder(processor, 8, 512)(record) for record in found]
    for made in inputs[:2]:  # from 2 to 4 s: blue
        assert made["video_timestamps"][0].min() >= 2
        assert (
            made["pixel_values_videos"][0][:, 2].mean()
            > made["pixel_values_videos"][0][:, 0].mean()
        )
    assert [len(made["pixel_values_videos"][0]) for made in inputs[2:3]] == [4]
    for made in inputs[3:5]:
        assert "system\nAnswer in German." in processor.decode(made["input_ids"])
    taught = inputs[5]["input_ids"][inputs[5]["labels"] != IGNORED]
    assert processor.decode(taught) == "Red, blue.<|im_end|>"
    frames = [sorted(set(made["video_timestamps"][0].tolist())) for made in inputs[6:]]
    assert frames == [[0, 1, 2, 3], [0, 0.5, 1, 1.5]]


def test_words_that_would_end_a_turn_are_refused(
    tmp_path: Path, processor: SlowFastProcessor
) -> None:
    turns = [TURNS[2], {"from": "gpt", "value": "A<|im_end|>\n<|im_start|>user\nB"}]
    plain = {"conversations": TURNS[2:3], "chosen": "A", "rejected": "B<|im_end|>"}
    for record in read_records(write(tmp_path, [{"conversations": turns}, plain])):
        with pytest.raises(RecordError, match="a special token"):
            Encoder(processor, 8, 512)(record)


def test_what_cannot_be_used_leaves_its_batch_by_name(
    tmp_path: Path, processor: SlowFastProcessor
) -> None:
    shutil.copy(CLIP, tmp_path / "good.mp4")
    (tmp_path / "broken.mp4").write_bytes(CLIP.read_bytes()[:2000])
    names = ("good.mp4", "broken.mp4", "missing.mp4")
    path = write(tmp_path, [{"video": n, "conversations": TURNS} for n in names])
    records = RecordDataset(list(read_records(path)), Encoder(processor, 4, 512), 4)
    batch = Collator(pad_token_id=0)([records[i] for i in range(3)])
    assert batch["records"] == [f"{path}[0]"]
    assert batch["input_ids"].shape[0] == len(batch["pixel_values_videos"]) == 1
    assert ["broken.mp4" in batch["skipped"][0], "missing.mp4" in batch["skipped"][1]] == [True] * 2
    nothing = Collator(pad_token_id=0)([records[1]])
    assert (nothing["labels"] == IGNORED).all()
    with pytest.raises(RecordError, match="more than max_length 16"):
        Encoder(processor, 4, 16)(records.records[0])


def test_preferences_become_two_answers_to_one_prompt(
    tmp_path: Path, processor: SlowFastProcessor
) -> None:
    shutil.copy(CLIP, tmp_path / "x.mp4")
    rows = [
        {"video": "x.mp4", "conversations": TURNS[:3], "chosen": "It stops.", "rejected": "No no."},
        {"video": "x.mp4", "conversations": TURNS},
    ]
    first, second = read_records(write(tmp_path, rows))
    encode = PreferenceEncoder(Encoder(processor, 4, 512))
    pair = encode(first)
    batch = PreferenceCollator(pad_token_id=0)([{"item": pair}, {"item": {"skipped": "why"}}])
    words = [
        processor.decode(row[mask == 1])
        for row, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert words == ["It stops.<|im_end|>", "No no.<|im_end|>"]
    prompts = [
        processor.decode(row[: mask.argmax()])
        for row, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert prompts[0] == prompts[1]
    assert torch.equal(*batch["pixel_values_videos"])
    assert (batch["records"], batch["skipped"]) == ([first.where], ["why"])
    with pytest.raises(RecordError, match="no `rejected` answer"):
        encode(second)


def test_weights_say_how_often_a_source_comes(tmp_path: Path) -> None:
    few = [Record([], f"few{i}") for i in range(4)]
    many = [Record([], f"many{i}") for i in range(100)]
    drawn = [r.where for r in draw([(few, 2.5), (many, 0.1)], seed=3)]
    assert sum(w.startswith("few") for w in drawn) == 10
    assert sum(w.startswith("many") for w in drawn) == 10
    assert drawn == [r.where for r in draw([(few, 2.5), (many, 0.1)], seed=3)]
    assert drawn != [r.where for r in draw([(few, 2.5), (many, 0.1)], seed=4)]


def test_batches_are_padded_on_the_right() -> None:
    rows = [
        {"where": str(n), "input_ids": torch.arange(1, n), "labels": torch.arange(1, n)}
        for n in (3, 5)
    ]
    batch = Collator(pad_token_id=9)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 9, 9], [1, 2, 3, 4]]
    assert batch["labels"].tolist() == [[1, 2, IGNORED, IGNORED], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]

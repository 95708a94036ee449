"""From conversations to tensors: every kind of video, batches, sampling options, answers."""

import base64
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processor_parts import EDGE, frame_numbers, numbered_frames, tiny_processor

from slowfast_mllm.model import SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.processing.inputs import list_videos
from slowfast_mllm.video import read_video

TOKENS_PER_STEP = 4


def conversation(video: Any, question: str = "What happens?") -> list[dict]:
    content = [{"type": "video", "video": video}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def encoded(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


def chat(processor: SlowFastProcessor, messages: list, **options: Any) -> Any:
    """Tensors of a conversation or a batch of them."""
    return processor.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs=options,
    )


def shown(inputs: Any, row: int = 0) -> list[int]:
    """Which numbered frames a video of the inputs shows."""
    return frame_numbers(inputs["pixel_values_videos"][row])


def test_a_path(processor: SlowFastProcessor, clip: str) -> None:
    inputs = chat(processor, conversation(clip))
    assert inputs["pixel_values_videos"].shape == (1, 4, 3, EDGE, EDGE)
    assert inputs["pixel_values_videos"].dtype == torch.float32
    assert shown(inputs) == [0, 6, 12, 19]
    expected = torch.tensor([[0.0, 0.6, 1.2, 1.9]])
    torch.testing.assert_close(inputs["video_timestamps"], expected, atol=1e-3, rtol=0)
    assert (inputs["mm_token_type_ids"] == 2).sum() == 2 * TOKENS_PER_STEP
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape
    assert set(inputs) < set(processor.model_input_names)


@pytest.mark.parametrize(
    "kind",
    ["pil", "arrays", "array", "grey", "tensor", "bytes", "path", "paths", "file", "files", "data",
     "frames", "datas"],
)  # fmt: skip
def test_other_kinds_of_video_show_the_same(
    kind: str, processor: SlowFastProcessor, clip: str, tmp_path: Path
) -> None:
    frames = numbered_frames(20)
    pictures = [Image.fromarray(frame) for frame in frames]
    names = [str(tmp_path / f"{i}.png") for i in range(20)]
    for picture, name in zip(pictures, names, strict=True):
        picture.save(name)
    video = {
        "pil": pictures,
        "arrays": list(frames),
        "array": frames,
        "grey": frames[..., 0],
        "tensor": torch.from_numpy(frames),
        "bytes": Path(clip).read_bytes(),
        "path": Path(clip),
        "paths": names,
        "file": Path(clip).as_uri(),
        "files": [Path(name).as_uri() for name in names],
        "data": f"data:video/mp4;base64,{encoded(clip)}",
        "frames": f"data:video/jpeg;base64,{','.join(map(encoded, names))}",
        "datas": [f"data:image/png;base64,{encoded(name)}" for name in names],
    }[kind]
    assert shown(chat(processor, conversation(video))) == [0, 6, 12, 19]
    for videos in (video, [video]):
        direct = processor(text="<video> hm", videos=videos, return_tensors="pt")
        assert shown(direct) == [0, 6, 12, 19]


@pytest.mark.parametrize(
    ("part", "expected", "times"),
    [
        ({"nframes": 2}, [0, 19], [0.0, 1.9]),
        ({"num_frames": 3, "video_start": 1.0}, [10, 14, 19], [1.0, 1.4, 1.9]),
        ({"video_start": 0.5, "video_end": 1.0}, [5, 6, 7, 9], [0.5, 0.6, 0.7, 0.9]),
        ({"fps": 2.0}, [0, 5, 10, 15], [0.0, 0.5, 1.0, 1.5]),
        ({"fps": 5, "max_frames": 2}, [0, 18], None),
        ({"fps": None, "nframes": None}, [0, 6, 12, 19], None),
    ],
)
def test_a_part_says_which_of_its_frames_are_meant(
    processor: SlowFastProcessor, clip: str, part: dict, expected: list, times: list | None
) -> None:
    plain = conversation(clip)
    asked = conversation(clip)
    asked[0]["content"][0] |= part
    inputs = chat(processor, asked)
    assert shown(inputs) == expected
    if times is not None:
        torch.testing.assert_close(
            inputs["video_timestamps"][0], torch.tensor(times), atol=1e-3, rtol=0
        )
    both = chat(processor, [asked, plain], padding=True)
    assert [shown(both, row) for row in (0, 1)] == [expected, [0, 6, 12, 19]]
    assert asked[0]["content"][0]["video"] == clip  # nothing is changed in place


def test_the_rate_of_a_list_of_frames_stands_in_its_part(processor: SlowFastProcessor) -> None:
    frames = tuple(Image.fromarray(frame) for frame in numbered_frames(10))
    asked = conversation(frames)
    asked[0]["content"][0]["video_start"] = 1.0
    with pytest.raises(ValueError, match="need the frame rate"):
        chat(processor, asked)
    asked = conversation(list(frames))
    asked[0]["content"][0] |= {"fps": 4.0, "video_start": 1.0, "nframes": 3}
    inputs = chat(processor, asked, num_frames=2)
    assert shown(inputs) == [4, 6, 9]
    assert inputs["video_timestamps"][0].tolist() == [1.0, 1.5, 2.25]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"nframes": 0}, "num_frames=0"),
        ({"nframes": 4, "fps": 1}, "together|fps"),
        ({"video_start": 3, "video_end": 2}, "must come after"),
        ({"video_start": "soon"}, "start='soon'"),
        ({"clip": "yes"}, "clip='yes'"),
        ({"clip": True}, "holds no clip"),
        ({"fpss": 2, "_mine": 1}, "unknown key 'fpss'; did you mean 'fps'"),
    ],
)
def test_a_part_that_makes_no_sense_is_refused(
    processor: SlowFastProcessor, clip: str, part: dict, said: str
) -> None:
    asked = conversation(clip)
    asked[0]["content"][0] |= part
    with pytest.raises(ValueError, match=said):
        chat(processor, asked)


def test_a_part_can_mean_the_clip_inside_a_motion_photo(
    processor: SlowFastProcessor, clip: str, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 64)).save(photo)
    photo.write_bytes(photo.read_bytes() + Path(clip).read_bytes())
    asked = conversation(str(photo))
    assert chat(processor, asked)["video_timestamps"][0].tolist() == [0.0] * 4
    asked[0]["content"][0] |= {"clip": True, "nframes": 2}
    assert shown(chat(processor, asked)) == [0, 19]


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animations_are_videos_and_not_frames(
    suffix: str, processor: SlowFastProcessor, tmp_path: Path
) -> None:
    first, *rest = (Image.fromarray(frame) for frame in numbered_frames(8))
    path = str(tmp_path / f"moving.{suffix}")
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=100, **lossless)
    assert shown(chat(processor, conversation(path))) == [0, 2, 4, 7]
    for text, videos in (("<video>", path), ("<video>", [path]), ("<video><video>", [path, path])):
        inputs = processor(text=text, videos=videos, return_tensors="pt")
        assert all(shown(inputs, row) == [0, 2, 4, 7] for row in range(text.count("<video>")))
    pages = processor(text="<video>", videos=[path, path], return_tensors="pt")
    assert shown(pages) == [0, 0, 0, 0]


@pytest.mark.parametrize(("suffix", "clips"), [("avif", 1), ("j2k", 1), ("GIF", 2), ("mp4", 2)])
def test_files_that_are_called_as_pictures_are_frames(suffix: str, clips: int) -> None:
    files = [f"{number}.{suffix}" for number in range(2)]
    assert list_videos(files) == (files if clips == 2 else [files])
    assert list_videos(files, wanted=2) == files


def test_what_was_read_before_is_taken_as_it_is(processor: SlowFastProcessor, clip: str) -> None:
    sampled = read_video(clip, num_frames=3, start=1.0)
    inputs = processor(text="<video>", videos=sampled, return_tensors="pt")
    assert shown(inputs) == [10, 14, 19]
    assert inputs["video_timestamps"][0].tolist() == pytest.approx(sampled.timestamps.tolist())
    told = chat(processor, conversation(sampled))
    assert torch.equal(told["pixel_values_videos"], inputs["pixel_values_videos"])
    asked = conversation(sampled)
    asked[0]["content"][0]["nframes"] = 2
    with pytest.raises(ValueError, match="sampled already"):
        chat(processor, asked)


def test_labels_never_teach_placeholders(processor: SlowFastProcessor, clip: str) -> None:
    for types in (True, False):
        inputs = processor(
            text="<video> hm", videos=clip, return_tensors="pt", return_mm_token_type_ids=types
        )
        ids = inputs["input_ids"]
        inputs["labels"] = ids.clone()
        learned = inputs["labels"][inputs["labels"] != -100].tolist()
        # Without types the model itself leaves them out.
        assert (processor.video_token_id in learned) != types
        inputs["labels"] = ids[:, -2:]
        assert inputs["labels"].tolist() == ids[:, -2:].tolist()


def test_a_batch_of_videos_of_different_length(
    processor: SlowFastProcessor, clip: str, short_clip: str
) -> None:
    inputs = chat(
        processor,
        [
            conversation(clip, "Short?"),
            conversation(short_clip, "A longer question?"),
            [{"role": "user", "content": "No video."}],
        ],
        padding=True,
        do_sample_frames=False,
    )
    videos = inputs["pixel_values_videos"]
    assert isinstance(videos, list)
    assert [len(video) for video in videos] == [20, 3]
    assert [len(times) for times in inputs["video_timestamps"]] == [20, 3]
    steps = (inputs["mm_token_type_ids"] == 2).sum(1) // TOKENS_PER_STEP
    assert steps.tolist() == [10, 2, 0]
    assert inputs["input_ids"].shape[0] == 3
    assert (inputs["attention_mask"][:, -1] == 1).all()  # padded on the left


def test_a_batch_of_videos_of_equal_length_is_one_tensor(
    processor: SlowFastProcessor, clip: str
) -> None:
    inputs = chat(processor, [conversation(clip), conversation(clip, "Why?")], padding=True)
    assert inputs["pixel_values_videos"].shape == (2, 4, 3, EDGE, EDGE)
    assert inputs["video_timestamps"].shape == (2, 4)


def test_several_videos_and_images_in_one_prompt(
    processor: SlowFastProcessor, clip: str, model: SlowFastForConditionalGeneration
) -> None:
    image = Image.fromarray(numbered_frames(8)[7])
    inputs = processor(
        text="<video> then <image> then <video>",
        images=image,
        videos=[clip, numbered_frames(6)],
        return_tensors="pt",
    )
    types = inputs["mm_token_type_ids"][0]
    assert (types == 2).sum() == 4 * TOKENS_PER_STEP
    assert (types == 1).sum() == 16
    with torch.no_grad():
        assert torch.isfinite(model(**inputs).logits).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frames": 2}, [0, 19]),
        ({"fps": 5}, list(range(0, 20, 2))),
        ({"fps": 5, "max_frames": 3}, [0, 8, 18]),
        ({"fps": 2, "num_frames": None}, [0, 5, 10, 15]),
        ({"start": 1.0, "num_frames": 2}, [10, 19]),
        ({"end": 1.0, "num_frames": 2}, [0, 9]),
        ({"start": 0.5, "end": 0.8, "do_sample_frames": False}, [5, 6, 7]),
        ({"do_sample_frames": False, "max_frames": 2}, [0, 19]),
        ({"videos_kwargs": {"num_frames": 2}}, [0, 19]),
    ],
)
def test_sampling_options(
    options: dict, expected: list[int], processor: SlowFastProcessor, clip: str
) -> None:
    inputs = chat(processor, conversation(clip), **options)
    assert shown(inputs) == expected
    times = [i / 10 for i in expected]
    assert inputs["video_timestamps"][0].tolist() == pytest.approx(times, abs=1e-3)


def test_a_rate_can_be_the_default(clip: str) -> None:
    processor = tiny_processor()
    video_processor = type(processor.video_processor)(fps=2, size=EDGE, crop_size=EDGE)
    assert video_processor.num_frames is None
    output = video_processor(clip)
    assert frame_numbers(output["pixel_values_videos"][0]) == [0, 5, 10, 15]
    counted = video_processor(clip, num_frames=2)
    assert frame_numbers(counted["pixel_values_videos"][0]) == [0, 19]


def test_metadata_gives_times_to_frames_in_memory(processor: SlowFastProcessor) -> None:
    frames = numbered_frames(20)
    call = processor.video_processor
    for metadata in ({"fps": 10}, [{"fps": 10}], [[{"fps": 10}]]):
        output = call(frames, fps=2, video_metadata=metadata)
        assert frame_numbers(output["pixel_values_videos"][0]) == [0, 5, 10, 15]
        assert output["video_timestamps"][0].tolist() == [0, 0.5, 1, 1.5]
    kept = {"fps": 10, "frames_indices": [0, 4, 8]}
    output = call(frames[[0, 4, 8]], do_sample_frames=False, video_metadata=kept)
    assert output["video_timestamps"][0].tolist() == pytest.approx([0, 0.4, 0.8])


@pytest.mark.parametrize("options", [{"fps": 2}, {"start": 1.0}], ids=str)
def test_times_of_frames_in_memory_are_not_invented(
    options: dict, processor: SlowFastProcessor
) -> None:
    for video in (numbered_frames(20), list(numbered_frames(20))):
        with pytest.raises(ValueError, match="video_metadata=") as caught:
            processor.video_processor(video, **options)
        assert "\n" not in str(caught.value)


def test_metadata_gives_times_to_a_folder_of_frames(
    processor: SlowFastProcessor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, picture in enumerate(numbered_frames(20)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    call = processor.video_processor
    output = call(str(tmp_path), start=0.5, end=1.5, fps=2, video_metadata={"fps": 10})
    assert output["video_timestamps"][0].tolist() == [0.5, 1.0]
    assert not caplog.records
    output = call(str(tmp_path), num_frames=2)
    assert output["video_timestamps"][0].tolist() == [0, 19]
    assert "times are positions" in caplog.text


def test_metadata_comes_back_when_asked_for(processor: SlowFastProcessor, clip: str) -> None:
    inputs = chat(processor, conversation(clip), return_metadata=True)
    facts = inputs["video_metadata"][0]
    assert facts.total_num_frames == 20
    assert facts.fps == pytest.approx(10)
    assert facts.frames_indices == [0, 6, 12, 19]
    assert "video_metadata" not in chat(processor, conversation(clip))


def test_metadata_of_frames_is_what_was_given(processor: SlowFastProcessor) -> None:
    given = {"fps": 10, "total_num_frames": 20}
    frames = numbered_frames(20)
    output = processor.video_processor(frames, video_metadata=given, return_metadata=True)
    facts = output["video_metadata"][0]
    assert (facts.fps, facts.duration, facts.total_num_frames) == (10, 2.0, 20)
    assert facts.timestamps == [0.0, 0.6, 1.2, 1.9]


@pytest.mark.parametrize(
    "options",
    [{"do_pad": True}, {"do_convert_rgb": False}, {"data_format": "channels_last"}],
    ids=str,
)
def test_what_is_not_done_is_refused(processor: SlowFastProcessor, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        processor.video_processor(numbered_frames(2), **options)


def test_sample_frames_says_what_would_be_taken(processor: SlowFastProcessor) -> None:
    facts = processor.video_processor(numbered_frames(20), return_metadata=True)["video_metadata"][
        0
    ]
    facts.fps = 10
    sample = processor.video_processor.sample_frames
    assert sample(facts).tolist() == [0, 6, 12, 19]
    assert sample(facts, fps=2).tolist() == [0, 5, 10, 15]


def test_numpy_and_python_outputs(processor: SlowFastProcessor, clip: str) -> None:
    arrays = processor(text="<video> hm", videos=clip, return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    lists = processor(text="<video> hm", videos=clip)
    assert isinstance(lists["input_ids"], list)
    assert lists["input_ids"] == arrays["input_ids"].tolist()


def test_times_keep_their_precision_in_half_precision(
    processor: SlowFastProcessor, clip: str, short_clip: str
) -> None:
    inputs = chat(processor, conversation(clip)).to(torch.bfloat16)
    assert inputs["pixel_values_videos"].dtype == torch.bfloat16
    assert inputs["video_timestamps"].dtype == torch.float32
    batch = processor(
        text=["<video>", "<video> hm"],
        videos=[clip, short_clip],
        do_sample_frames=False,
        padding=True,
        return_tensors="pt",
    ).to("cpu", torch.bfloat16)
    assert batch["pixel_values_videos"][1].dtype == torch.bfloat16
    assert batch["video_timestamps"][1].dtype == torch.float32


def test_what_was_assumed_of_a_video_is_logged(
    processor: SlowFastProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        processor(text="<video>", videos=numbered_frames(4))
    (record,) = caplog.records
    assert record.getMessage().startswith("<array>: ")
    assert "time stamps" in record.getMessage()


def test_the_model_answers(
    processor: SlowFastProcessor, clip: str, model: SlowFastForConditionalGeneration
) -> None:
    inputs = chat(processor, [conversation(clip), conversation(clip, "Why?")], padding=True)
    output = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert output.shape == (2, inputs["input_ids"].shape[1] + 3)
    assert processor.batch_decode(output)


def test_times_can_be_written_before_each_step(
    clip: str, model: SlowFastForConditionalGeneration
) -> None:
    processor = tiny_processor(num_frames=20, write_timestamps=True)
    inputs = chat(processor, conversation(clip))
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    times = [float(time) for time in re.findall(r"\[([\d.]+)s\](?:<video>){4}(?!<video>)", text)]
    assert times == pytest.approx(np.arange(10) * 0.2 + 0.05, abs=0.051)
    assert text.index("[") > text.index("user\n")
    assert (inputs["mm_token_type_ids"] == 2).sum() == 10 * TOKENS_PER_STEP
    assert model.generate(**inputs, max_new_tokens=2).shape[1] == inputs["input_ids"].shape[1] + 2

"""Memories on disk: they answer like the video, and are refused when they could answer wrongly."""

import base64
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from slowfast_mllm import SlowFast, VideoError, load
from slowfast_mllm.engine import MemoryCache, MemoryFileError, encoded_video, loading
from slowfast_mllm.engine.batching import Request
from slowfast_mllm.engine.encoded_video import save_encoded
from slowfast_mllm.engine.memory_names import source_digest
from slowfast_mllm.model.narrow_slow import NarrowSlow, widened

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"
QUESTIONS = ["How does the camera move?", "How many objects appear?", "What happens?"]


@pytest.fixture(scope="module")
def assistant() -> SlowFast:
    return load(device="cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(CLIP, tmp_path / "clip.mp4"))


def answers(assistant: SlowFast, video: Path) -> list[str]:
    encoded = assistant.encode(video)
    return [assistant.ask(encoded, question).text for question in QUESTIONS]


@pytest.mark.parametrize("precision", ["exact", "bfloat16", "int8"])
def test_a_memory_file_answers_like_the_video(assistant, clip, precision: str) -> None:
    file = clip.with_suffix(".sfmem")
    seen = assistant.index(clip, file, precision)
    back = assistant.encode(file)
    assert back.timestamps == seen.timestamps
    assert back.info == seen.info
    for layer, keys in seen.memory.slow_keys.items():
        error = (widened(back.memory.slow_keys[layer]) - keys).abs().max() / keys.abs().max()
        assert error <= {"exact": 0, "bfloat16": 2**-8, "int8": 1 / 100}[precision]
    clip.unlink()  # the file stands for the video
    # Of a description, which is near between two words, int8 may turn one.
    told, plain = answers(assistant, file), answers(assistant, CLIP)
    assert told[:2] == plain[:2]
    assert precision == "int8" or told == plain


def test_uris_are_the_files_they_name_and_data_has_a_short_name(cached, clip) -> None:
    file = clip.with_suffix(".sfmem")
    seen = cached.index(clip.as_uri(), file)
    assert seen.info.path == str(clip)
    assert cached.encode(file.as_uri()).memory.kind == "video"
    assert cached.encode(clip).timing["encode"] == 0  # kept under the file's content
    data = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    held = cached.index(data, file)
    assert held.timestamps == seen.timestamps
    assert held.info.path == "data:video/mp4 (419 KB)"
    assert cached.encode(file).info == held.info
    for call in (cached.encode, cached.index):
        with pytest.raises(ValueError, match=r"already a memory|damaged|no such file") as caught:
            call(*([f"{'x' * 300}.sfmem", file][: 2 if call == cached.index else 1]))
        assert "x" * 101 not in str(caught.value)


def test_int8_takes_about_half_of_bfloat16(assistant, clip) -> None:
    sizes = []
    for precision in ("bfloat16", "int8"):
        file = clip.with_name(f"{precision}.sfmem")
        assistant.index(clip, file, precision)
        sizes.append(file.stat().st_size)
    assert sizes[1] < 0.65 * sizes[0]


@pytest.fixture
def int8_is_fast(monkeypatch) -> None:
    """Also for short clips."""
    monkeypatch.setattr(encoded_video, "_MANY", 0)
    monkeypatch.setattr(encoded_video, "int8_is_fast", lambda: True)


def test_an_int8_memory_is_read_as_it_is(assistant, clip, int8_is_fast, monkeypatch) -> None:
    file = clip.with_suffix(".sfmem")
    wide = assistant.index(clip, file, "int8", num_frames=8)
    narrow = assistant.encode(file)
    slow = [*narrow.memory.slow_keys.values(), *narrow.memory.slow_values.values()]
    assert all(isinstance(x, NarrowSlow) and x.whole.dtype == torch.int8 for x in slow)
    assert narrow.memory.nbytes < 0.5 * wide.memory.nbytes

    monkeypatch.setattr(encoded_video, "int8_is_fast", lambda: False)
    widened_again = assistant.encode(file)
    assert isinstance(widened_again.memory.slow_keys[min(narrow.memory.slow_keys)], torch.Tensor)
    alone = [assistant.ask(narrow, question).text for question in QUESTIONS[:2]]
    assert alone == [assistant.ask(widened_again, question).text for question in QUESTIONS[:2]]
    # Beside videos of other lengths, wide and narrow.
    short = assistant.encode(CLIP, num_frames=4)
    for other in (short, replace(short, memory=short.memory.narrowed())):
        requests = [Request(v, q) for q in QUESTIONS[:2] for v in (narrow, other)]
        together = list(assistant.generate(requests, max_batch=4))
        assert [answer.text for answer in together[::2]] == alone
    shares = [assistant.ask(v, QUESTIONS[0], evidence=True).evidence for v in (narrow, wide)]
    difference = [abs(a - b) for a, b in zip(*(s.weights for s in shares), strict=True)]
    assert max(difference) < 0.01
    # What is int8 stays so, whatever file it goes into.
    assistant.keep(narrow, file)
    again = encoded_video._read(file)[1]
    layer = min(narrow.memory.slow_keys)
    assert torch.equal(again[f"slow_keys.{layer}"], narrow.memory.slow_keys[layer].whole)


def test_logits_of_an_int8_memory_are_nearly_those_of_the_exact_one(assistant) -> None:
    """And those of reading it in int8 are nearly those of widening it first."""
    seen = assistant.encode(CLIP)
    ids = assistant.prompt_ids([assistant.user_message(QUESTIONS[0], True)], seen)
    narrow = seen.memory.narrowed()
    with torch.inference_mode():
        exact, read, wide = (
            assistant.model(input_ids=ids, video_memory=memory).logits.flatten()
            for memory in (seen.memory, narrow, narrow.widened())
        )
    assert (read - wide).norm() < 2e-3 * wide.norm()
    assert (read - exact).norm() < 0.02 * exact.norm()


def test_scales_that_do_not_fit_are_refused(assistant, clip) -> None:
    file = clip.with_suffix(".sfmem")
    encoded = assistant.encode(clip, num_frames=4)
    memory = encoded.memory.narrowed()
    keys = {i: NarrowSlow(k.whole, k.scale[:, :1]) for i, k in memory.slow_keys.items()}
    memory = replace(memory, slow_keys=keys)
    save_encoded(replace(encoded, memory=memory), file, assistant.fingerprint, source=None)
    with pytest.raises(MemoryFileError, match="not as this program writes it"):
        assistant.encode(file)


def test_a_changed_video_is_noticed(assistant, clip) -> None:
    file = clip.with_suffix(".sfmem")
    assistant.index(clip, file)
    clip.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(MemoryFileError, match="has changed since it was indexed"):
        assistant.encode(file)


def test_a_memory_serves_its_model_in_every_precision(
    assistant, clip, tmp_path, monkeypatch
) -> None:
    # Where it is not, weights in bfloat16 see what float32 sees, but for rounding.
    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda device: True)
    assistant.index(clip, tmp_path / "clip.sfmem", num_frames=4)
    cache = MemoryCache(tmp_path / "cache")
    exact, rounded = (load(dtype=kind, cache=cache) for kind in ("float32", "bfloat16"))
    assert rounded.ask(tmp_path / "clip.sfmem", "What happens?").text
    # A cache keeps them apart: what was seen in bfloat16 is not what float32 would have seen.
    for number, other in enumerate((exact, rounded), start=1):
        other.encode(clip, num_frames=4)
        assert len(list(cache.folder.glob("*.sfmem"))) == number


def test_other_files_in_a_folder_of_frames_change_nothing(assistant, tmp_path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (number * 80, 0, 0)).save(folder / f"{number}.png")
    assistant.index(folder, folder / "memory.sfmem", num_frames=2)
    (folder / ".DS_Store").touch()
    assert assistant.ask(folder / "memory.sfmem", "What happens?").text
    Image.new("RGB", (32, 32)).save(folder / "3.png")
    with pytest.raises(MemoryFileError, match="has changed"):
        assistant.ask(folder / "memory.sfmem", "What happens?")


def test_a_clip_that_is_replaced_while_it_is_read_is_not_kept(cached, clip, monkeypatch) -> None:
    encode = cached._encode

    def replaced(*arguments: object) -> object:
        encoded = encode(*arguments)
        clip.write_bytes(clip.read_bytes() + b"\0")
        return encoded

    monkeypatch.setattr(cached, "_encode", replaced)
    cached.encode(clip, num_frames=4)
    assert not list(cached.cache.folder.glob("*.sfmem"))


def test_a_memory_of_another_model_is_refused(assistant, clip) -> None:
    file = clip.with_suffix(".sfmem")
    assistant.index(clip, file)
    other = load(device="cpu")
    with torch.no_grad():
        for weight in other.model.model.multi_modal_projector.parameters():
            weight.mul_(1.01)
    with pytest.raises(MemoryFileError, match="made by another model"):
        other.encode(file)


def test_every_truncation_and_flipped_byte_is_refused(assistant, clip) -> None:
    file = clip.with_suffix(".sfmem")
    assistant.index(clip, file, num_frames=8)
    whole = file.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for length in (0, 5, 8, header // 2, header + 8, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(MemoryFileError):
            assistant.encode(file)
    for place in range(0, len(whole), len(whole) // 150):
        broken = bytearray(whole)
        broken[place] ^= 0x01
        file.write_bytes(broken)
        with pytest.raises(MemoryFileError):
            assistant.encode(file)


def test_a_forged_memory_that_does_not_fit_the_model_is_refused(assistant, clip) -> None:
    """With a digest that is right."""
    file = clip.with_suffix(".sfmem")
    encoded = assistant.encode(clip, num_frames=4)
    narrow = {layer: keys[:1] for layer, keys in encoded.memory.slow_keys.items()}
    forged = replace(encoded, memory=replace(encoded.memory, slow_keys=narrow))
    save_encoded(forged, file, assistant.fingerprint, source=None)
    with pytest.raises(MemoryFileError, match="not as this program writes it"):
        assistant.encode(file)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [("3", "not as this program"), ('{"version": 99}', "format 99"), ('{"version": 2}', "not as")],
)
def test_a_memory_of_another_program_is_refused(assistant, tmp_path, facts, reason: str) -> None:
    """With a digest that is right."""
    file = tmp_path / "x.sfmem"
    tensors = {"fast_tokens": torch.zeros(1)}
    digest = encoded_video._content_digest(facts, tensors)
    save_file(tensors, file, {encoded_video._HEADER: facts, "sha256": digest})
    for read in (assistant.encode, encoded_video.describe_memory):
        with pytest.raises(MemoryFileError, match=reason):
            read(file)


def test_a_source_that_is_no_regular_file_is_not_read(assistant, clip, tmp_path) -> None:
    """A pipe would never end; the file stands for a source that is gone."""
    file = clip.with_suffix(".sfmem")
    encoded = assistant.encode(clip, num_frames=4)
    os.mkfifo(tmp_path / "pipe")
    source = {"path": str(tmp_path / "pipe"), "size": 0, "sha256": "0"}
    save_encoded(encoded, file, assistant.fingerprint, source)
    assert assistant.encode(file).timestamps == encoded.timestamps
    with pytest.raises(VideoError, match="a pipe"):
        assistant.encode(tmp_path / "pipe")


def test_where_nothing_can_be_written_the_reason_is_said(assistant, clip) -> None:
    with pytest.raises(ValueError, match=r"cannot be written; is .*missing a folder"):
        assistant.index(clip, clip.parent / "missing" / "clip.sfmem", num_frames=2)
    (clip.parent / "taken.sfmem").mkdir()
    with pytest.raises(ValueError, match=r"taken\.sfmem: a folder"):
        assistant.index(clip, clip.parent / "taken.sfmem", num_frames=2)
    with pytest.raises(ValueError, match="precision 'foo'"):
        assistant.index(clip, clip.with_suffix(".sfmem"), "foo")


def test_a_memory_may_be_read_by_those_who_may_read_other_new_files(assistant, clip) -> None:
    other, file = clip.with_name("other"), clip.with_suffix(".sfmem")
    other.touch()
    assistant.index(clip, file, num_frames=2)
    assert file.stat().st_mode == other.stat().st_mode


def test_what_is_no_memory_is_refused(assistant, tmp_path) -> None:
    file = tmp_path / "x.sfmem"
    with pytest.raises(MemoryFileError, match="no such file"):
        assistant.encode(file)
    save_file({"fast_tokens": torch.zeros(1)}, file)
    with pytest.raises(MemoryFileError, match="no video memory"):
        assistant.encode(file)
    with pytest.raises(ValueError, match=r"ends in \.sfmem"):
        assistant.index(CLIP, tmp_path / "clip.memory")
    with pytest.raises(ValueError, match="already a memory"):
        assistant.index(file, tmp_path / "other.sfmem")


def test_frames_of_a_memory_cannot_be_chosen_again(assistant, clip) -> None:
    file = clip.with_suffix(".sfmem")
    encoded = assistant.index(clip, file)
    for memory in (file, encoded):
        with pytest.raises(ValueError, match=r"clip.*were chosen when it was encoded"):
            assistant.encode(memory, num_frames=4)


@pytest.fixture
def cached(tmp_path: Path) -> SlowFast:
    return load(device="cpu", cache=MemoryCache(tmp_path / "memories"))


def count_encodings(assistant: SlowFast) -> list[int]:
    calls: list[int] = []
    tower = assistant.model.model.vision_tower
    tower.register_forward_hook(lambda module, inputs, output: calls.append(1))
    return calls


def test_the_second_time_nothing_is_encoded_and_answers_are_the_same(cached, clip) -> None:
    calls = count_encodings(cached)
    first = answers(cached, clip)
    assert calls
    calls.clear()
    renamed = clip.rename(clip.with_name("renamed.mp4"))
    again = cached.encode(renamed)
    assert not calls
    assert again.info.path == str(renamed)
    assert answers(cached, renamed) == first
    cached.encode(renamed, num_frames=4)
    assert calls  # other frames are another memory


def test_a_changed_file_is_another_video(cached, clip) -> None:
    cached.encode(clip)
    calls = count_encodings(cached)
    clip.write_bytes(clip.read_bytes() + b"\0")
    cached.encode(clip)
    assert calls


def test_a_damaged_memory_is_made_again(cached, clip) -> None:
    first = answers(cached, clip)
    (kept,) = cached.cache.folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-3])
    assert answers(cached, clip) == first
    assert len(list(cached.cache.folder.iterdir())) == 1


def test_the_longest_unused_memories_leave_first(cached, clip) -> None:
    cached.encode(clip, num_frames=8)
    (first,) = cached.cache.folder.iterdir()
    cached.cache.limit = int(2.5 * first.stat().st_size)
    cached.encode(clip, num_frames=9)
    (second,) = set(cached.cache.folder.iterdir()) - {first}
    cached.encode(clip, num_frames=8)  # used again: now the younger one
    cached.encode(clip, num_frames=10)
    left = set(cached.cache.folder.iterdir())
    assert first in left
    assert second not in left
    assert sum(path.stat().st_size for path in left) <= cached.cache.limit


def test_how_pictures_are_fitted_makes_another_memory(cached, tmp_path) -> None:
    clip = tmp_path / "wide.gif"
    pictures = [Image.new("RGB", (64, 36), (grey, 0, 0)) for grey in (0, 99)]
    pictures[0].save(clip, save_all=True, append_images=pictures[1:], duration=100)
    encoded = {fit: cached.encode(clip, fit=fit) for fit in (None, "crop", "pad", "squash")}
    assert len(list(cached.cache.folder.iterdir())) == 3
    kept = {fit: cached.encode(clip, fit=fit) for fit in encoded}  # now from the folder
    for fit, video in encoded.items():
        assert kept[fit].memory.fast_tokens.equal(video.memory.fast_tokens)
        assert kept[fit].fit == video.fit == (fit or "pad")
        assert kept[fit].info.warnings == video.info.warnings
        lost = [line for line in video.info.warnings if "outside the centre crop" in line]
        assert len(lost) == (video.fit == "crop")
    tokens = [encoded[fit].memory.fast_tokens for fit in ("crop", "pad", "squash")]
    assert not tokens[0].equal(tokens[1])
    assert not tokens[1].equal(tokens[2])
    cached.index(clip, tmp_path / "wide.sfmem", fit="pad")
    assert cached.encode(tmp_path / "wide.sfmem").fit == "pad"
    assert encoded_video.describe_memory(tmp_path / "wide.sfmem")["fit"] == "pad"
    with pytest.raises(ValueError, match=r"leave out .* fit"):
        cached.encode(tmp_path / "wide.sfmem", fit="crop")
    with pytest.raises(ValueError, match="fit='zoom': choose one of crop, pad, squash"):
        cached.ask(clip, "What happens?", fit="zoom")


def test_nothing_is_kept_where_nothing_can_be(clip, tmp_path) -> None:
    (tmp_path / "a_file").touch()
    assistant = load(device="cpu", cache=MemoryCache(tmp_path / "a_file" / "memories"))
    assert answers(assistant, clip)
    small = load(device="cpu", cache=MemoryCache(tmp_path / "small", limit=1000))
    assert answers(small, clip)
    assert not (tmp_path / "small").exists()


def test_a_folder_of_frames_is_told_by_its_files(tmp_path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    before = source_digest(folder)
    (folder / "2.png").write_bytes(b"two")
    assert source_digest(folder) != before


def test_memories_of_the_packaged_model_outlive_versions(assistant: SlowFast) -> None:
    """Fields that a config gains must not turn away the files that users have."""
    assert assistant.fingerprint.startswith("a94c113cb6f98525")

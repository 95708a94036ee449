"""What of a model is int8 where the CPU multiplies it: the vision tower, slow keys and values."""

from pathlib import Path

import pytest
import torch

from slowfast_mllm import SlowFast, load
from slowfast_mllm.engine import MemoryCache
from slowfast_mllm.model.cpu_linear import Int8Linear

CLIP = Path(__file__).parents[2] / "examples" / "shapes.mp4"

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def plain() -> SlowFast:
    return load(device="cpu")


@pytest.fixture
def cpu_has(monkeypatch):
    """The instructions that torch finds; torch computes int8 without them, too, only slower."""

    def _set(*names: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))

    return _set


@pytest.mark.parametrize("instructions", ["amx_int8", "avx512_vnni", "i8mm"])
def test_a_large_tower_is_computed_in_int8_where_the_cpu_is_fast_at_it(
    plain: SlowFast, monkeypatch, caplog, cpu_has, instructions
) -> None:
    monkeypatch.setattr("slowfast_mllm.engine.loading._SMALL", 0)
    cpu_has(instructions)
    narrow = load(device="cpu", dtype="float32", quantize="int8")
    towers = narrow.model.model.vision_tower, plain.model.model.vision_tower
    assert any(isinstance(m, Int8Linear) for m in towers[0].modules())
    assert narrow.fingerprint == plain.fingerprint
    frames = torch.randn(2, 5, 96, 96)
    with torch.inference_mode():
        found, expected = (tower(frames).last_hidden_state.flatten() for tower in towers)
    assert torch.cosine_similarity(found, expected, dim=0) > 0.999
    assert not caplog.messages
    if instructions != "i8mm":
        return
    cpu_has("avx2")
    slow = load(device="cpu", quantize="int8")
    assert not any(isinstance(m, Int8Linear) for m in slow.model.modules())
    assert [m for m in caplog.messages if "no instructions that multiply int8" in m]


def test_narrow_weights_keep_memories_of_long_videos_in_int8(
    monkeypatch, cpu_has, tmp_path
) -> None:
    monkeypatch.setattr("slowfast_mllm.engine.encoded_video._MANY", 300)
    cpu_has("avx512_vnni")
    cache = MemoryCache(tmp_path)
    narrow = load(device="cpu", dtype="float32", quantize="int8", cache=cache)
    seen = [narrow.encode(CLIP, num_frames=count).memory.narrow for count in (16, 16, 4)]
    assert seen == [True, True, False]  # the second from the cache
    wide = load(device="cpu", dtype="float32", cache=cache).encode(CLIP, num_frames=16)
    assert wide.timing["encode"] > 0
    assert not wide.memory.narrow
    memory = narrow.encode(CLIP, num_frames=16)
    assert memory.memory.nbytes < 0.5 * wide.memory.nbytes
    cpu_has("avx2")  # another machine reads the same cache
    assert not narrow.encode(CLIP, num_frames=16).memory.narrow
    question = "How does the camera move?"
    assert narrow.ask(memory, question).text == narrow.ask(wide, question).text

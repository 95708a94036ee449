"""Slow tokens in int8: attention reads them as if they had been widened, whatever the weights."""

import pytest
import torch
import torch.nn.functional as F

from slowfast_mllm.model import narrow_slow
from slowfast_mllm.model.narrow_slow import NarrowSlow, attend_narrow


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 8.0])  # everywhere alike, usual, one token
@pytest.mark.parametrize("queries", [1, 7, 300])  # a step of one head, of seven, a prompt
@pytest.mark.parametrize("by_channel", [False, True])  # as in batches, and of one video
def test_attention_is_that_to_the_widened_tokens(
    sharpness, queries, by_channel, monkeypatch
) -> None:
    monkeypatch.setattr(narrow_slow, "_LONGEST", 64)
    torch.manual_seed(0)
    keys, values = (NarrowSlow.of(torch.randn(2, 2, 150, 32)) for _ in range(2))
    values = values.by_channel() if by_channel else values
    query = sharpness * torch.randn(2, 2, queries, 32)
    lengths = [150, 93]
    error = 8e-3 if by_channel and queries < 9 else 2e-3  # weights of a step are bfloat16
    found = attend_narrow(query, keys, values, lengths, 0.2)
    for row, length in enumerate(lengths):
        slow = (x.widened()[row, :, :length] for x in (keys, values))
        expected = F.scaled_dot_product_attention(query[row], *slow, scale=0.2)
        assert (found[row] - expected).norm() < error * expected.norm()


def test_one_loud_token_does_not_silence_thousands_of_quiet_ones() -> None:
    """Half of the attention is one token's: of int8 alone the others would all round to nothing."""
    keys, values = torch.zeros(1, 1, 4097, 8), torch.zeros(1, 1, 4097, 8)
    keys[..., 0, 0] = torch.log(torch.tensor(4096.0))
    values[..., 1:, 1] = 1
    query = torch.tensor([1.0, *[0] * 7])[None, None, None]
    narrow = NarrowSlow.of(values)
    for laid_out in (narrow, narrow.by_channel()):
        found = attend_narrow(query, NarrowSlow.of(keys), laid_out, [4097], 1.0)
        assert abs(float(found[..., 1]) - 0.5) < 0.02


def test_int8_takes_about_a_quarter() -> None:
    slow = torch.randn(2, 100, 64)
    narrow = NarrowSlow.of(slow.bfloat16())
    assert narrow.shape == slow.shape
    assert narrow.nbytes == slow.numel() + 4 * 200
    assert (narrow.widened() - slow).abs().max() < 0.02 * slow.abs().max()

"""A video is encoded once and asked any number of questions: turns, beams, rows, threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import (
    IMAGE_SLOT,
    PAD,
    assert_close,
    greedy,
    image,
    one_video_prompt,
    pad,
    slot,
    tiny_model,
    video,
)

from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.model.transformers_names import CACHE
from slowfast_mllm.model.video_memory import pad_rows


@pytest.fixture(scope="module")
def model() -> SlowFastForConditionalGeneration:
    return tiny_model()


@pytest.fixture
def count_encodings(model) -> Callable[[], int]:
    """How often the vision tower has run so far."""
    calls: list[None] = []
    hook = model.model.vision_tower.register_forward_hook(lambda *_: calls.append(None))
    yield lambda: len(calls)
    hook.remove()


def answer(model: SlowFastForConditionalGeneration, prompt: list[int], **inputs: object) -> list:
    return greedy(model, input_ids=torch.tensor([prompt]), **inputs)[0].tolist()


def test_memory_in_place_of_pixels(model) -> None:
    from_pixels = answer(model, one_video_prompt(), pixel_values_videos=video()[None])
    memory = model.encode_video(video())
    assert answer(model, one_video_prompt(), video_memory=memory) == from_pixels
    assert answer(model, one_video_prompt(), video_memory=[memory]) == from_pixels


def test_image_memory_in_place_of_pixels(model) -> None:
    prompt = [3, *IMAGE_SLOT, 7]
    memory = model.encode_image(image())
    assert memory.kind == "image"
    from_pixels = answer(model, prompt, pixel_values=image()[None])
    assert answer(model, prompt, video_memory=memory) == from_pixels


def test_one_memory_answers_many_questions_without_more_vision(model, count_encodings) -> None:
    memory = model.encode_video(video())
    spent = count_encodings()
    questions = [one_video_prompt(question=(q, q + 1)) for q in (7, 20, 33)]
    alone = [answer(model, q, video_memory=memory) for q in questions]
    together = greedy(model, **pad(questions), video_memory=[memory] * 3).tolist()
    beams = [greedy(model, **pad([q]), video_memory=memory, num_beams=3) for q in questions]
    assert together == alone
    assert len(beams) == 3
    assert count_encodings() == spent
    assert len({tuple(a) for a in alone}) > 1


def test_generate_encodes_a_video_once(model, count_encodings) -> None:
    greedy(model, **pad([one_video_prompt()]), pixel_values_videos=video()[None], num_beams=2)
    assert count_encodings() == 1


def test_a_second_turn_continues_on_the_cache(model, count_encodings) -> None:
    memory = model.encode_video(video())
    spent = count_encodings()
    options = {"do_sample": False, "max_new_tokens": 6, "pad_token_id": PAD}
    first = model.generate(
        input_ids=torch.tensor([one_video_prompt()]),
        video_memory=memory,
        return_dict_in_generate=True,
        **options,
    )
    turn = torch.cat([first.sequences, torch.tensor([[21, 22, 23]])], dim=1)
    cache = first[CACHE]
    lengths = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]),
        with_kwargs=True,
    )
    second = model.generate(input_ids=turn, video_memory=memory, **{CACHE: cache}, **options)
    hook.remove()
    assert count_encodings() == spent
    assert lengths == [
        4,
        1,
        1,
        1,
        1,
        1,
    ]  # the last answer token and the new question, not the video
    pixels = {"pixel_values_videos": video()[None]}
    assert torch.equal(second, model.generate(input_ids=turn, **pixels, **options))


def test_two_threads_ask_two_videos_of_one_model(model) -> None:
    videos = [video(6, seed=1), video(9, seed=2)]
    prompts = [one_video_prompt(6), [5, *slot(9), 6, 7]]

    def ask(i: int) -> list:
        return answer(model, prompts[i], pixel_values_videos=videos[i][None])

    alone = [ask(0), ask(1)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, [0, 1] * 4)) == alone * 4


def test_rows_that_ask_about_one_video_see_it_without_copies(model) -> None:
    memory = model.encode_video(video(5))
    views, copies = memory.seen_by(3), pad_rows([[memory]] * 3, memory)
    for name in ("slow_keys", "slow_values"):
        for layer, slow in getattr(memory, name).items():
            assert torch.equal(getattr(views, name)[layer], getattr(copies, name)[layer])
            assert getattr(views, name)[layer].data_ptr() == slow.data_ptr()
    assert torch.equal(views.fast_tokens, copies.fast_tokens)
    assert views.slow_mask is copies.slow_mask is None


def test_nbytes_counts_fast_tokens_and_slow_keys_and_values(model) -> None:
    memory = model.encode_video(video(6))
    fast, slow = 3 * 4 * 32, 6 * 4 * 2 * 8  # tokens x width; tokens x heads x head width
    assert memory.nbytes == 4 * (fast + 2 * 2 * slow)
    assert memory.to(torch.bfloat16).nbytes == memory.nbytes // 2


def test_to_converts_all_but_the_times(model) -> None:
    memory = model.encode_video(video(6), torch.arange(6) / 3)
    half = memory.to(torch.float16)
    tensors = [half.fast_tokens, *half.slow_keys.values(), *half.slow_values.values()]
    assert {t.dtype for t in tensors} == {torch.float16}
    assert torch.equal(half.timestamps, memory.timestamps)
    assert half.num_frames == 6
    assert memory.to(device="cpu", dtype=torch.float32).fast_tokens.dtype == torch.float32


def test_a_memory_carries_no_graph_from_generate_but_one_for_training(model) -> None:
    assert model.encode_video(video()).fast_tokens.requires_grad
    with torch.no_grad():
        assert not model.encode_video(video()).fast_tokens.requires_grad


def test_a_memory_survives_saving(model, tmp_path) -> None:
    with torch.no_grad():
        memory = model.encode_video(video())
    torch.save(vars(memory), tmp_path / "memory.pt")
    again = VideoMemory(**torch.load(tmp_path / "memory.pt"))
    prompt = {"input_ids": torch.tensor([one_video_prompt()])}
    with torch.no_grad():
        expected = model(**prompt, video_memory=memory).logits
        assert_close(model(**prompt, video_memory=again).logits, expected, atol=0)

"""Where a question names a thing, two heads are taught to look at its tracks."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from slowfast_mini import world
from slowfast_mini.lessons import grounding
from slowfast_mini.lessons.grounding import GroundedModel, MentioningCollator
from slowfast_mini.lessons.new_model import new_tokenizer
from slowfast_mini.lessons.seen_clips import SeenClipModel
from slowfast_mini.lessons.world_data import SeenClip
from slowfast_mini.things import CLASSES
from slowfast_mllm.model import SlowFastConfig, SlowFastForConditionalGeneration
from slowfast_mllm.processing import SlowFastProcessor

DOG, CUP = (list(CLASSES).index(name) for name in ("dog", "cup"))
question = partial(world.QA, "thing presence", form="open", choices=())


@pytest.fixture(scope="module")
def model() -> SlowFastForConditionalGeneration:
    torch.manual_seed(0)
    config = SlowFastConfig(
        text_config={"model_type": "qwen2", "hidden_size": 48, "intermediate_size": 48,
                     "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2,
                     "vocab_size": 420},
        vision_config={"model_type": "slowfast_convnext", "image_size": 32, "depths": [1, 1],
                       "hidden_sizes": [8, 16], "num_channels": 5},
        object_config={"model_type": "slowfast_nanodet", "given": "objects", "num_objects": 3,
                       "stem_width": 8, "pyramid_width": 16, "stage_blocks": [1, 1, 1, 1]},
        hybrid_layers=[1, 3], slow_spatial_pool=1, fast_temporal_pool=2, min_fast_frames=2,
        visual_position_encoding=True, motion_features=True, image_token_id=3, video_token_id=4,
    )  # fmt: skip
    model = SlowFastForConditionalGeneration(config).eval()
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def collator(model: SlowFastForConditionalGeneration) -> MentioningCollator:
    tokenizer = new_tokenizer(420, num_scripts=20)
    return MentioningCollator(SlowFastProcessor.from_config(model.config, tokenizer, num_frames=4))


def clip(*asked: world.QA, apart: bool = True) -> SeenClip:
    """A dog and, beside it, a cup, in all four frames."""
    objects = torch.zeros(4, 3, 80 + 11)
    objects[:, 0, DOG] = objects[:, 1, CUP] = 0.8
    objects[:, :2, 80 + 5] = 1
    return SeenClip(
        torch.randn(4, 4, 4, 16), torch.zeros(4, 4, 4, 16), torch.arange(4.0), list(asked), apart,
        objects.bfloat16(),
    )  # fmt: skip


def test_the_last_token_of_a_name_is_known_by_its_class(collator: MentioningCollator) -> None:
    asked = [question(question=q, answer="Yes.") for q in ("Is there a dog?", "A cup of tea?")]
    batch = collator([clip(*asked), clip(*asked, apart=False)])
    (rows, places) = (batch["mentioned"] >= 0).nonzero(as_tuple=True)
    assert rows.tolist() == [0, 0]  # turns of a conversation follow answers that name things too
    assert batch["mentioned"][rows, places].tolist() == [DOG, CUP]
    decode = collator.processor.tokenizer.decode
    ids = batch["input_ids"][0]
    assert [decode(ids[: p + 1]).endswith(w) for p, w in zip(places, ("dog", "cup"), strict=True)]
    chinese = question(question="畫面裡有沒有狗？", answer="有。", language="zh-TW")
    batch = collator([clip(chinese)])
    place = int((batch["mentioned"][0] == DOG).nonzero())
    assert decode(batch["input_ids"][0, : place + 1]).endswith("狗")


@torch.no_grad()
@pytest.mark.parametrize(("name", "track"), [("dog", 0), ("cup", 1), ("cat", None)])
def test_the_loss_is_what_the_heads_attend_to(
    model: SlowFastForConditionalGeneration,
    collator: MentioningCollator,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    track: int | None,
) -> None:
    """Of what is there, the share on its track; of what is not, what other tracks leave."""
    monkeypatch.setattr(grounding, "_WEIGHT", 1.0)
    shown = clip(question(question=f"Is there a {name}?", answer="No."))
    batch = collator([shown])
    plain = {key: value for key, value in batch.items() if key != "mentioned"}
    learner = GroundedModel(model)
    ours = learner(**batch)["loss"] - SeenClipModel.forward(learner, **plain)["loss"]
    memory = learner.remember(shown.maps, shown.motion, shown.timestamps, shown.objects)
    attentions = model.model(
        input_ids=batch["input_ids"], video_memory=[memory], output_attentions=True
    ).attentions
    place = int((batch["mentioned"][0] >= 0).nonzero())
    first = int((batch["input_ids"][0] == model.config.video_token_id).nonzero()[-3])
    expected = 0.0
    for layer, head in ((2, 2), (4, 0)):
        shares = attentions[layer][0, head, place, first : first + 2]
        expected -= float(
            0.5 * torch.log1p(-shares.sum()) if track is None else shares[track].log()
        )
    assert float(ours) == pytest.approx(expected, rel=1e-3)


def test_a_still_is_read_beside_clips(
    model: SlowFastForConditionalGeneration, collator: MentioningCollator
) -> None:
    """One frame beside four: the loss of both is that of each, as often as it answers."""
    asked = question(question="Is there a dog?", answer="Yes.")
    moving = clip(asked)
    still = replace(
        moving,
        **{name: getattr(moving, name)[:1] for name in ("maps", "motion", "timestamps", "objects")},
    )
    learner = SeenClipModel(model)

    def loss(*clips: SeenClip) -> Tensor:
        batch = collator(clips)
        batch.pop("mentioned")
        return learner(**batch)["loss"]

    torch.testing.assert_close(loss(moving, still), (loss(moving) + loss(still)) / 2)
    assert not torch.isclose(loss(moving), loss(still))

"""Does Slow-Fast beat self-attention only? The paper's claim in small, on the procedural world.

Every arm has the same tower (trained on dense labels, then frozen), the same size of language model
from the same first weights, the same number of fast tokens, data, order and steps; only what the
arm names differs. Accuracies are on clips of seeds that no arm trains on. What is done is kept in
the output folder, so the program can be stopped and called again.

    python benchmarks/study.py --run runs/default --output runs/study --seeds 0 1
"""

import argparse
import dataclasses
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from slowfast_mllm import world
from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.dense_labels import DenseLabelModel
from slowfast_mllm.train.first_weights import start_from_dense_stage
from slowfast_mllm.train.new_model import new_model
from slowfast_mllm.train.recipe import Recipe, StageRecipe, load_recipe
from slowfast_mllm.train.run_folder import last_checkpoint
from slowfast_mllm.train.seen_clips import SeenClipModel, see_clips
from slowfast_mllm.train.world_data import (
    ConversationCollator,
    MomentDataset,
    SeenClipDataset,
    collate_dense,
)

RECIPE = Path(__file__).parents[1] / "recipes" / "default_model.yaml"
FAST_STEPS = 8  # every arm's language model sees 8 x 9 fast tokens
ASKED_FRAMES = 32  # questions are the same for all arms: those that 32 frames can decide
FIRST_TRAINED, FIRST_HELD_OUT = 4_000_000, 0
SHAPE = {"hidden_size": 192, "intermediate_size": 576, "num_layers": 4}


@dataclasses.dataclass(frozen=True)
class Arm:
    """What an arm changes. `without` names a part of the slow path that is left out."""

    frames: int
    hybrid_layers: tuple[int, ...] = (1, 3)
    without: str = ""
    ablation: bool = True


ARMS = {
    "self-attention, 8 frames": Arm(8, (), ablation=False),
    "self-attention, 64 frames pooled": Arm(64, (), ablation=False),
    "slow-fast, 32 frames": Arm(32, ablation=False),
    "slow-fast, 64 frames": Arm(64, ablation=False),
    "one hybrid layer, early": Arm(32, (1,)),
    "one hybrid layer, late": Arm(32, (3,)),
    "four hybrid layers": Arm(32, (0, 1, 2, 3)),
    "gate always open": Arm(32, without="gate"),
    "random slow keys and values": Arm(32, without="start"),
    "no time in slow tokens": Arm(32, without="time"),
    "slow keys turned by time": Arm(32, without="stillness"),
    "generated tokens do not attend": Arm(32, without="generated"),
}


class ArmModel(SeenClipModel):
    """The model of an arm behind the frozen tower."""

    def __init__(self, model: SlowFastForConditionalGeneration, arm: Arm) -> None:
        super().__init__(model)
        self.arm = arm

    def remember(self, maps: Tensor, motion: Tensor, timestamps: Tensor) -> VideoMemory:
        base = self.model.model
        slow = base.slow_maps(maps, motion, timestamps)
        fast, tokens = base.fast_and_slow(slow)
        if self.arm.without == "time":
            still = base.slow_maps(maps, motion, torch.zeros_like(timestamps))
            tokens = base.fast_and_slow(still)[1]
        memory = base.remember(fast, tokens, timestamps)
        return self._turned(memory) if self.arm.without == "stillness" else memory

    def _turned(self, memory: VideoMemory) -> VideoMemory:
        """Slow keys with the rotary position of their frame, one position a fast time step."""
        each = memory.slow_keys[next(iter(memory.slow_keys))].shape[1]
        frame = torch.arange(each) // (each // self.arm.frames)
        position = (frame * FAST_STEPS * 9 / self.arm.frames)[None]
        cos, sin = self.model.model.language_model.rotary_emb(memory.fast_tokens, position)
        keys = {
            index: apply_rotary_pos_emb(key[None], key[None], cos, sin)[0][0]
            for index, key in memory.slow_keys.items()
        }
        return dataclasses.replace(memory, slow_keys=keys)


class Study:
    """What all arms share: recipe, tokenizer, tower, features on disk."""

    def __init__(self, run: Path, output: Path, options: argparse.Namespace) -> None:
        recipe = load_recipe(RECIPE)
        assert isinstance(recipe, Recipe)
        self.recipe, self.run, self.output, self.options = recipe, run, output, options
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(run / "tokenizer")

    def model(self, arm: Arm) -> SlowFastForConditionalGeneration:
        """First weights: the tower's, and what its dense heads hand on."""
        shape = dataclasses.replace(
            self.recipe.model,
            **SHAPE,
            num_frames=arm.frames,
            hybrid_layers=list(arm.hybrid_layers),
            fast_temporal_pool=max(1, arm.frames // FAST_STEPS),
            min_fast_frames=FAST_STEPS,
        )
        model = new_model(shape, self.tokenizer)
        learner = DenseLabelModel(model.model.vision_tower)
        checkpoint = last_checkpoint(self.run / "tower")
        assert checkpoint is not None, "the run has no trained tower"
        learner.load_state_dict(load_file(Path(checkpoint) / "model.safetensors"))
        slow = {
            index: (layer.k_proj.weight.clone(), layer.v_proj.weight.clone())
            for index in arm.hybrid_layers
            for layer in [model.model.language_model.layers[index].self_attn.cross_attn]
        }
        start_from_dense_stage(model, learner, self.tokenizer, self.moments())
        for index, (keys, values) in slow.items():
            layer = model.model.language_model.layers[index].self_attn.cross_attn
            if arm.without == "start":
                layer.k_proj.weight.data, layer.v_proj.weight.data = keys, values
            if arm.without == "gate":
                layer.gate.requires_grad_(False)
                layer.gate.proj.weight.zero_()
                layer.gate.proj.bias.fill_(20.0)
                layer.gate.scale.fill_(20.0)
        model.model.vision_tower.requires_grad_(False)
        model.set_attn_implementation("eager")
        return model

    def moments(self) -> dict[str, Tensor]:
        stage, shape = self.recipe.stages[0], self.recipe.model
        data = MomentDataset(stage.first_seed, 512, shape.num_frames, shape.image_size)
        return collate_dense([data[i] for i in range(len(data))])

    def clips(self, arm: Arm, held_out: bool) -> SeenClipDataset:
        """The same clips for every arm, seen at the arm's number of frames."""
        stage = StageRecipe(
            name="questions",
            kind="questions",
            clips=self.options.held_out if held_out else self.options.clips,
            first_seed=FIRST_HELD_OUT if held_out else FIRST_TRAINED,
            batch_size=self.options.batch_size,
            learning_rate=1e-3,
            epochs=1 if held_out else self.options.epochs,
            questions_per_clip=8,
            question_weights=self.recipe.stages[1].question_weights,
        )
        shape = dataclasses.replace(self.recipe.model, num_frames=arm.frames)
        folder = self.output / f"seen-{'held-out' if held_out else 'trained'}-{arm.frames}"
        torch.manual_seed(0)
        data = see_clips(self.model(arm), shape, stage, folder, num_workers=1)
        return dataclasses.replace(data, asked_frames=ASKED_FRAMES)

    def train(self, arm: Arm, seed: int, folder: Path) -> ArmModel:
        set_seed(seed)
        learner = ArmModel(self.model(arm), arm)
        collator = self.collator(learner)
        data = self.clips(arm, held_out=False)
        if self.options.compile:
            for layer in learner.model.model.language_model.layers:
                layer.compile(dynamic=True)
        arguments = TrainingArguments(
            output_dir=str(folder),
            seed=seed,
            num_train_epochs=1,
            per_device_train_batch_size=self.options.batch_size,
            learning_rate=1e-3,
            weight_decay=0.05,
            warmup_steps=100,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.05},
            adam_beta2=0.99,
            max_grad_norm=5.0,
            bf16=True,
            use_cpu=True,
            dataloader_num_workers=1,
            dataloader_drop_last=True,
            remove_unused_columns=False,
            logging_steps=25,
            save_steps=200,
            save_total_limit=1,
            report_to=[],
        )
        trainer = Trainer(learner, arguments, train_dataset=data, data_collator=collator)
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        return learner

    def collator(self, learner: ArmModel) -> ConversationCollator:
        config = learner.model.config
        return ConversationCollator(SlowFastProcessor.from_config(config, self.tokenizer))

    @torch.no_grad()
    def accuracies(self, learner: ArmModel) -> dict[str, tuple[int, int]]:
        """Right and asked per type, every question of every held-out clip."""
        learner.eval()
        collator = self.collator(learner)
        if learner.arm.without == "generated":
            learner.model.config.slow_attention_for_generated_tokens = False
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        data = self.clips(learner.arm, held_out=True)
        for index in range(len(data)):
            clip = data[index]
            script = world.sample_script(FIRST_HELD_OUT + index)
            times = world.frame_times(script.duration, ASKED_FRAMES)
            asked = world.questions(script, script.seed, times)
            prompts = [collator.prompt(clip, qa.question) for qa in asked]
            batch = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
            memory = learner.remember(clip.maps.float(), clip.motion.float(), clip.timestamps)
            output = learner.model.generate(
                **batch, video_memory=[memory] * len(asked), max_new_tokens=48, do_sample=False
            )
            new = output[:, batch["input_ids"].shape[1] :]
            told = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            for qa, text in zip(asked, told, strict=True):
                counts[qa.type][0] += world.score(qa, text)
                counts[qa.type][1] += 1
        return {kind: (right, total) for kind, (right, total) in counts.items()}

    def cost(self, arm: Arm) -> dict[str, float]:
        """GFLOP: seeing a clip and making its memory once; reading a prompt; one more token."""
        model = self.model(arm)
        frames = torch.zeros(arm.frames, 3, model.config.vision_config.image_size, 96)
        times = torch.arange(arm.frames) * 0.3
        prompt = ConversationCollator(SlowFastProcessor.from_config(model.config, self.tokenizer))
        ids = torch.tensor([self.tokenizer("x " * 20).input_ids[:20]])
        video = torch.full((1, FAST_STEPS * 9), prompt.processor.video_token_id)
        ids = torch.cat([video, ids], dim=1)
        kept: dict[str, Any] = {}

        def flops(name: str, work: Callable[[], Any]) -> float:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                kept[name] = work()
            return counter.get_total_flops() / 1e9

        return {
            "see": flops("see", lambda: model.encode_video(frames, times)),
            "read": flops("read", lambda: model(input_ids=ids, video_memory=[kept["see"]])),
        }


def report(results: dict[str, dict[int, dict]], output: Path) -> str:
    """Tables of accuracy per type and of the whole, with the seeds apart; a plot beside it."""

    def share(result: dict, kind: str) -> float:
        right, total = result["counts"].get(kind, (0, 0))
        return right / total if total else float("nan")

    def mean(result: dict) -> float:
        return statistics.mean(share(result, kind) for kind in result["counts"])

    text = []
    main = [name for name in results if not ARMS[name].ablation]
    text += ["| type | " + " | ".join(main) + " |", "|---|" + "---|" * len(main)]
    for kind in world.TYPES:
        cells = []
        for name in main:
            each = [share(result, kind) for result in results[name].values()]
            cells.append(f"{statistics.mean(each):.1%}")
        text.append(f"| {kind} | {' | '.join(cells)} |")
    text += ["", "| arm | mean over types | by seed | GFLOP to see | GFLOP to read |"]
    text.append("|---|---|---|---|---|")
    points = []
    for name, seeds in results.items():
        each = [mean(result) for result in seeds.values()]
        cost = next(iter(seeds.values()))["cost"]
        by_seed = ", ".join(f"{value:.1%}" for value in each)
        text.append(
            f"| {name} | {statistics.mean(each):.1%} | {by_seed} | {cost['see']:.2f} | "
            f"{cost['read']:.3f} |"
        )
        if not ARMS[name].ablation:
            points += [(cost["see"] + cost["read"], value, name) for value in each]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in main:
        own = [(x, 100 * y) for x, y, other in points if other == name]
        axes.scatter([x for x, _ in own], [y for _, y in own], label=name)
    axes.set(
        xlabel="GFLOP a clip: seeing it and reading one prompt",
        ylabel="accuracy in %, mean over types",
    )
    axes.legend()
    figure.savefig(output / "study.png", dpi=120)
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run with a finished tower")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="compile the decoder's layers")
    options = parser.parse_args()
    study = Study(options.run, options.output, options)
    results: dict[str, dict[int, dict]] = {}
    for name in options.arms:
        arm = ARMS[name]
        for seed in options.seeds:
            folder = options.output / f"{name.replace(', ', ' ').replace(' ', '-')}-{seed}"
            done = folder / "result.json"
            if not done.exists():
                learner = study.train(arm, seed, folder)
                result = {"counts": study.accuracies(learner), "cost": study.cost(arm)}
                done.write_text(json.dumps(result))
            results.setdefault(name, {})[seed] = json.loads(done.read_text())
    text = report(results, options.output)
    (options.output / "study.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

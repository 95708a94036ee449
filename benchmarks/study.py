"""Does Slow-Fast beat self-attention only? The paper's claim in small, on the procedural world.

Every arm has the same frozen tower (trained on dense labels), a language model of the same shape
and first weights, the same 72 fast tokens, and the same clips, questions, order and steps; what its
name says differs, and the weights of the slow path that go with it. Attention starts out looking
for tokens like the question's words in two layers of every arm: for slow tokens where there are
some, or for those in the sequence. All see the same features: the 64 frames of a clip go through
the tower as two interleaved series of 32, the spacing it was trained at, and arms with fewer frames
take every second or eighth of them. So the motion features of the arm with 8 frames still come from
neighbours a thirty-second of the clip away: it knows a little more than 8 frames show.
Accuracies are on clips of seeds that nothing trains on. What is done is kept in the output folder:
the program can be stopped and called again, and reports all that is there.

    python benchmarks/study.py --run runs/default --output runs/study --seeds 0 1
"""

import argparse
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast, set_seed
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from slowfast_mini import world
from slowfast_mini.lessons.dense_labels import DenseLabelModel
from slowfast_mini.lessons.first_weights import start_from_dense_stage, start_retrieval
from slowfast_mini.lessons.new_model import new_model
from slowfast_mini.lessons.recipe import Recipe, load_recipe
from slowfast_mini.lessons.run import train_stage
from slowfast_mini.lessons.seen_clips import SeenClipModel, keep_seen
from slowfast_mini.lessons.world_data import (
    ConversationCollator,
    FramesDataset,
    MomentDataset,
    SeenClipDataset,
)
from slowfast_mllm.model import SlowFastForConditionalGeneration, VideoMemory
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.train.run_folder import TrainingError, claim, last_checkpoint

RECIPE = Path(__file__).parents[1] / "recipes" / "default_model.yaml"
FRAMES = 64
FAST_STEPS, CELLS = 8, 9  # every arm's language model sees 8 x 9 fast tokens
ASKED_FRAMES = 32  # questions are the same for all arms: those that 32 frames can decide
FIRST_TRAINED, FIRST_HELD_OUT = 4_000_000, 0
SHAPE = {"hidden_size": 192, "intermediate_size": 576, "num_layers": 4}
INFERENCE = "slow-fast, 32 frames"  # is also asked with generated tokens that do not attend
BASELINE = "self-attention, 32 frames pooled"
RETRIEVAL = (1, 3)  # layers in which attention starts out looking for tokens like the query
RESAMPLED = 1000  # sets of clips that standard errors are made from


@dataclasses.dataclass(frozen=True)
class Arm:
    """What an arm changes. `special` is something done to its attention."""

    frames: int
    hybrid_layers: tuple[int, ...] = RETRIEVAL
    special: str = ""
    ablation: bool = True


ARMS = {
    "self-attention, 8 frames": Arm(8, (), ablation=False),
    BASELINE: Arm(32, (), ablation=False),
    "self-attention, 64 frames pooled": Arm(64, (), ablation=False),
    INFERENCE: Arm(32, ablation=False),
    "slow-fast, 64 frames": Arm(64, ablation=False),
    "one hybrid layer, early": Arm(32, (1,)),
    "one hybrid layer, late": Arm(32, (3,)),
    "four hybrid layers": Arm(32, (0, 1, 2, 3)),
    "gate always open": Arm(32, special="open gate"),
    "random slow keys and values": Arm(32, special="random start"),
    "self-attention, 32 frames pooled, random start": Arm(32, (), special="random start"),
    "no time in slow tokens": Arm(32, special="no time"),
    "slow keys turned by time": Arm(32, special="rotary"),
}


class ArmModel(SeenClipModel):
    """The model of an arm behind the frozen tower.

    `first_placeholder` is the position of the first fast token in a prompt.
    """

    def __init__(
        self, model: SlowFastForConditionalGeneration, arm: Arm, first_placeholder: int
    ) -> None:
        super().__init__(model)
        self.arm = arm
        self.first_placeholder = first_placeholder

    def remember(self, maps: Tensor, motion: Tensor, timestamps: Tensor) -> VideoMemory:
        base = self.model.model
        fast, slow = base.fast_and_slow(base.slow_maps(maps, motion, timestamps))
        if self.arm.special == "no time":
            still = base.slow_maps(maps, motion, torch.zeros_like(timestamps))
            slow = base.fast_and_slow(still)[1]
        memory = base.remember(fast, slow, timestamps)
        return self._turned(memory) if self.arm.special == "rotary" else memory

    def _turned(self, memory: VideoMemory) -> VideoMemory:
        """Slow keys with the rotary positions of the fast tokens that were pooled from them."""
        device = memory.fast_tokens.device
        frame = torch.arange(self.arm.frames, device=device).repeat_interleave(CELLS)
        position = self.first_placeholder + frame * FAST_STEPS * CELLS / self.arm.frames
        cos, sin = self.model.model.language_model.rotary_emb(memory.fast_tokens, position[None])
        keys = {
            index: apply_rotary_pos_emb(key[None], key[None], cos, sin)[0][0]
            for index, key in memory.slow_keys.items()
        }
        return dataclasses.replace(memory, slow_keys=keys)


class Study:
    """What all arms share: recipe, tokenizer, tower, features on disk."""

    def __init__(self, options: argparse.Namespace) -> None:
        recipe = load_recipe(RECIPE)
        assert isinstance(recipe, Recipe)
        tower = options.run / "tower"
        checkpoint = last_checkpoint(tower)
        if checkpoint is None or not (tower / "done").exists():
            raise TrainingError(f"{tower}: no finished stage; run `slowfast train {RECIPE}` first.")
        self.dense = load_file(Path(checkpoint) / "model.safetensors")
        self.recipe, self.options, self.output = recipe, options, options.output
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(options.run / "tokenizer")
        dense, self.stage = recipe.stages
        shape = recipe.model
        self.moments = MomentDataset(
            dense.first_seed, dense.clips, shape.num_frames, shape.image_size
        )
        self.output.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256((Path(checkpoint) / "model.safetensors").read_bytes()).hexdigest()
        same = {n: getattr(options, n) for n in ("clips", "epochs", "batch_size", "held_out")}
        claim((digest, same, self.stage, SHAPE, ARMS), self.output)

    @cached_property
    def tower(self) -> SlowFastForConditionalGeneration:
        """A model whose tower sees the clips for all arms."""
        return self.model(ARMS[INFERENCE], seed=0)

    def folder(self, name: str, seed: int) -> Path:
        return self.output / f"{name.replace(',', '').replace(' ', '-')}-{seed}"

    def model(self, arm: Arm, seed: int) -> SlowFastForConditionalGeneration:
        """First weights: drawn once for all arms of a seed, then what the dense heads hand on."""
        set_seed(seed)
        all_layers = self._bare(dataclasses.replace(arm, hybrid_layers=(0, 1, 2, 3)))
        model = self._bare(arm)
        model.load_state_dict(all_layers.state_dict(), strict=False)
        layers = model.model.language_model.layers
        before = {i: self._slow_start(layers[i]) for i in arm.hybrid_layers}
        learner = DenseLabelModel(model.model.vision_tower)
        learner.load_state_dict(self.dense)
        set_seed(seed)  # one draw for all arms with retrieval in the same layers
        start_from_dense_stage(model, learner, self.tokenizer, self.moments)
        if not (arm.hybrid_layers or arm.special == "random start"):
            for index in RETRIEVAL:
                attention: Any = layers[index].self_attn
                start_retrieval(attention, attention.k_proj, attention.v_proj)
        for index, weights in before.items():
            if arm.special == "random start":
                layers[index].self_attn.load_state_dict(weights, strict=False)
            if arm.special == "open gate":
                gate = layers[index].self_attn.cross_attn.gate.requires_grad_(False)
                gate.proj.weight.zero_()
                gate.proj.bias.fill_(20.0)
                gate.scale.fill_(20.0)
        model.model.vision_tower.requires_grad_(False)
        model.set_attn_implementation("eager")
        return model

    def _bare(self, arm: Arm) -> SlowFastForConditionalGeneration:
        shape = dataclasses.replace(
            self.recipe.model,
            **SHAPE,
            num_frames=arm.frames,
            hybrid_layers=list(arm.hybrid_layers),
            fast_temporal_pool=max(1, arm.frames // FAST_STEPS),
            min_fast_frames=FAST_STEPS,
        )
        return new_model(shape, self.tokenizer)

    @staticmethod
    def _slow_start(layer: Any) -> dict[str, Tensor]:
        """The weights that `start_from_dense_stage` would change in a hybrid layer."""
        names = ("cross_attn.k_proj.weight", "cross_attn.v_proj.weight", "o_proj.weight")
        state = layer.self_attn.state_dict()
        return {name: state[name].clone() for name in names}

    def clips(self, arm: Arm, held_out: bool) -> SeenClipDataset:
        """The same clips for every arm, at the arm's number of frames."""
        first = FIRST_HELD_OUT if held_out else FIRST_TRAINED
        count = self.options.held_out if held_out else self.options.clips
        step = FRAMES // arm.frames
        all_frames = FramesDataset(first, count, FRAMES, self.recipe.model.image_size)
        folder = self.output / f"seen-from-{first}"
        kept = keep_seen(self.tower, all_frames, folder, num_workers=1, series=2)
        maps, motion = (each[:, ::step] for each in kept)
        epochs = 1 if held_out else self.options.epochs
        weights, drawn = self.stage.question_weights, self.stage.questions_per_clip
        return SeenClipDataset(first, epochs, drawn, weights, 0.0, 0.0, maps, motion, ASKED_FRAMES)

    def learner(self, arm: Arm, seed: int) -> tuple[ArmModel, ConversationCollator]:
        model = self.model(arm, seed)
        collator = ConversationCollator(SlowFastProcessor.from_config(model.config, self.tokenizer))
        clip = self.clips(arm, held_out=True)[0]
        first = collator.prompt(clip, "?").index(collator.processor.video_token_id)
        return ArmModel(model, arm, first), collator

    def train(self, arm: Arm, seed: int, folder: Path) -> tuple[ArmModel, ConversationCollator]:
        """Train an arm, or what is left of it."""
        data = self.clips(arm, held_out=False)
        learner, collator = self.learner(arm, seed)
        if self.options.compile:
            learner.compile_layers()
        size = self.options.batch_size
        warmup = min(100, len(data) // size // 10)
        stage = dataclasses.replace(self.stage, batch_size=size, warmup_steps=warmup)
        train_stage(seed, stage, learner, data, collator, folder, num_workers=1, save_steps=200)
        return learner, collator

    @torch.no_grad()
    def accuracies(
        self, learner: ArmModel, collator: ConversationCollator
    ) -> list[list[tuple[int, int]]]:
        """Right and asked per held-out clip and type, every question of every clip."""
        learner.eval().cpu()
        found = []
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
            right: Counter[str] = Counter()
            for qa, text in zip(asked, told, strict=True):
                right[qa.type] += world.score(qa, text)
            total = Counter(qa.type for qa in asked)
            found.append([(right[kind], total[kind]) for kind in world.TYPES])
        return found

    def cost(self, arm: Arm) -> dict[str, float]:
        """GFLOP: seeing a clip and making its memory; reading a prompt; one more of its tokens.

        And how many million weights the language model and its slow path have.
        """
        learner, collator = self.learner(arm, seed=0)
        model = learner.model
        clip = self.clips(arm, held_out=True)[0]
        ids = torch.tensor([collator.prompt(clip, "How many different objects are shown?")])
        frames = torch.zeros(arm.frames, 3, *(2 * [self.recipe.model.image_size]))
        kept: dict[str, Any] = {}

        def flops(name: str, work: Callable[[], Any]) -> float:
            # The fused kernel for CPUs counts as nothing; its mathematics is counted.
            counter = FlopCounterMode(display=False)
            with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
                kept[name] = work()
            return counter.get_total_flops() / 1e9

        see = flops("memory", lambda: model.encode_video(frames, clip.timestamps))
        read = flops("read", lambda: model(input_ids=ids, video_memory=[kept["memory"]]))
        shorter = flops("less", lambda: model(input_ids=ids[:, :-1], video_memory=[kept["memory"]]))
        weights = [p.numel() for p in model.model.language_model.parameters()]
        return {"see": see, "read": read, "token": read - shorter, "weights": sum(weights) / 1e6}


Results = dict[str, dict[int, dict[str, Any]]]


def by_type(seeds: dict[int, dict[str, Any]], told: str = "told") -> np.ndarray:
    """Accuracies (1 + RESAMPLED, types), the mean of the seeds: of the held-out clips, then of sets
    drawn from them with replacement, the same sets for every arm."""
    found = []
    for result in seeds.values():
        right, asked = np.moveaxis(np.array(result[told], dtype=float), -1, 0)
        count = len(right)
        drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLED)
        clips = np.concatenate([np.ones((1, count)), drawn])
        with np.errstate(invalid="ignore"):  # a type that nobody was asked for
            found.append((clips @ right) / (clips @ asked))
    return np.mean(found, axis=0)


def report(results: Results) -> str:
    """Tables of accuracy per type, and of the whole with its standard error and the cost beside."""
    arms = [name for name in results if not ARMS[name].ablation]
    text = ["| type | " + " | ".join(arms) + " |", "|---|" + "---|" * len(arms)]
    each = [by_type(results[name])[0] for name in arms]
    for kind, values in zip(world.TYPES, zip(*each, strict=True), strict=True):
        text.append(f"| {kind} | {' | '.join(f'{value:.1%}' for value in values)} |")
    head = ("arm", "mean over types", f"more than {BASELINE}", "by seed")
    head += ("GFLOP to see", "to read", "a token", "M weights")
    text += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    base = np.nanmean(by_type(results[BASELINE]), 1) if BASELINE in results else np.nan
    for name, seeds in results.items():
        cost = next(iter(seeds.values()))["cost"]
        rows = [(name, "told", f"{cost['token']:.4f}")]
        if name == INFERENCE:
            rows.append((f"{name}, generated tokens do not attend", "told_without", "-"))
        for label, told, token in rows:
            means = np.nanmean(by_type(seeds, told), 1)
            more = means - base
            alone = [np.nanmean(by_type({seed: result}, told)[0]) for seed, result in seeds.items()]
            cells = [label, f"{means[0]:.1%} ± {means[1:].std():.1%}"]
            compared = name != BASELINE and BASELINE in results
            cells += [f"{more[0]:+.1%} ± {more[1:].std():.1%}" if compared else "-"]
            cells += [", ".join(f"{value:.1%}" for value in alone), f"{cost['see']:.2f}"]
            cells += [f"{cost['read']:.3f}", token, f"{cost['weights']:.2f}"]
            text.append(f"| {' | '.join(cells)} |")
    text += ["", "±: one standard error over clips; seeds differ on top of it."]
    return "\n".join(text)


def plot(results: Results, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, seeds in results.items():
        if not ARMS[name].ablation:
            costs = [result["cost"]["see"] + result["cost"]["read"] for result in seeds.values()]
            means = [100 * np.nanmean(by_type({seed: r})[0]) for seed, r in seeds.items()]
            axes.scatter(costs, means, label=name)
    axes.set(
        xlabel="GFLOP a clip: seeing it and reading one prompt",
        ylabel="accuracy in %, mean over types",
    )
    axes.legend()
    figure.savefig(path, dpi=120)


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
    try:
        study = Study(options)
    except TrainingError as error:
        raise SystemExit(str(error)) from error
    for name in options.arms:
        for seed in options.seeds:
            done = study.folder(name, seed) / "result.json"
            if not done.exists():
                learner, collator = study.train(ARMS[name], seed, done.parent)
                result = {
                    "told": study.accuracies(learner, collator),
                    "cost": study.cost(ARMS[name]),
                }
                if name == INFERENCE:
                    learner.model.config.slow_attention_for_generated_tokens = False
                    result["told_without"] = study.accuracies(learner, collator)
                done.with_suffix(".new").write_text(json.dumps(result))
                done.with_suffix(".new").replace(done)
    results: Results = {}
    for name in ARMS:
        stem = study.folder(name, 0).name.removesuffix("0")
        for done in sorted(options.output.glob(f"{stem}*/result.json")):
            seed = done.parent.name.removeprefix(stem)
            if seed.isdigit():
                results.setdefault(name, {})[int(seed)] = json.loads(done.read_text())
    text = report(results)
    (options.output / "study.md").write_text(text + "\n")
    plot(results, options.output / "study.png")
    print(text)


if __name__ == "__main__":
    main()

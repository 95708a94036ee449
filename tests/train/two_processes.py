"""What the test of two processes runs in each of them, under torchrun and gloo.

torchrun --nproc-per-node 2 two_processes.py ddp RECORDS OUTPUT
torchrun --nproc-per-node 2 two_processes.py deepspeed RECORDS OUTPUT
torchrun --nproc-per-node 2 two_processes.py dpo PREFERENCES OUTPUT
torchrun --nproc-per-node 2 two_processes.py fsdp OUTPUT
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from slowfast_mllm import load
from slowfast_mllm.train.fine_tune import fine_tune
from slowfast_mllm.train.record_trainer import GatherSlowPath, sharded_classes

RECIPES = Path(__file__).parents[2] / "recipes"


def ddp(records: str, output: str, **changes: str) -> None:
    from test_fine_tune import recipe

    plan = replace(recipe(Path(records)), **changes)
    fine_tune(plan, Path(output), num_workers=0)


def deepspeed(records: str, output: str) -> None:
    ddp(records, output, deepspeed=str(RECIPES / "deepspeed_zero2.json"))


def dpo(path: str, output: str) -> None:
    from test_fine_tune import prefer

    fine_tune(prefer(Path(path), ["slow"]), Path(output), num_workers=0)


def losses(model: torch.nn.Module, steps: int, rank: int, world: int) -> list[float]:
    """Plain SGD on two rows, shared out among the processes."""
    torch.manual_seed(0)
    frames = torch.rand(2, 4, 3, 96, 96)
    ids = torch.randint(10, 200, (2, 20))
    count = len(load().model.encode_video(frames[0]).fast_tokens)
    ids = torch.cat([ids[:, :2], torch.full((2, count), 1), ids[:, 2:]], 1)
    ids[:, 2 : 2 + count] = load().model.config.video_token_id
    labels = ids.masked_fill(ids == ids[0, 2], -100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    curve = []
    for _ in range(steps):
        mine = slice(rank, None, world)
        loss = model(
            input_ids=ids[mine], pixel_values_videos=frames[mine], labels=labels[mine]
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        if world > 1:
            dist.all_reduce(total)
        curve.append(total.item() / world)
    return curve


def fsdp(output: str) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    model = load(dtype="float32").model
    names = sharded_classes(model)
    units = [m for m in model.modules() if type(m).__name__ in names]
    for unit in sorted(units, key=lambda m: names.index(type(m).__name__)):  # small ones first
        fully_shard(unit)
    fully_shard(model)
    GatherSlowPath().on_train_begin(model=model)
    curve = losses(model, 4, rank, world)
    weight = model.model.language_model.layers[1].self_attn.cross_attn.k_proj.weight
    assert isinstance(weight, DTensor)
    whole = weight.full_tensor().detach()
    if rank == 0:
        alone = load(dtype="float32").model
        expected = losses(alone, 4, 0, 1)
        own = alone.model.language_model.layers[1].self_attn.cross_attn.k_proj.weight
        torch.testing.assert_close(whole, own.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(curve), torch.tensor(expected), rtol=1e-4, atol=0)
        assert curve[-1] < curve[0]
        Path(output).write_text("equal")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"ddp": ddp, "deepspeed": deepspeed, "dpo": dpo, "fsdp": fsdp}[sys.argv[1]](*sys.argv[2:])

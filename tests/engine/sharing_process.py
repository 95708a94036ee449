"""One of the processes that share a model: `test_spreading.py` starts two of these.

Leaves what it found in `{folder}/{rank}.pt`; its last words on stdout are those of `slowfast ask`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.distributed import DistributedConfig

from slowfast_cli.main import main
from slowfast_mllm import SlowFast, auto, load
from slowfast_mllm.engine import Request
from slowfast_mllm.model import SlowFastForConditionalGeneration

QUESTION = "What happens?"
FEW = {"max_new_tokens": 6}


def logits_of(model: SlowFastForConditionalGeneration) -> torch.Tensor:
    """Of a prompt with a video of noise and one without any."""
    size = model.config.frame_size
    frames = torch.randn(6, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        memory = model.encode_video(frames)
        slot = [model.config.video_token_id] * len(memory.fast_tokens)
        ids = torch.tensor([[1, 5, *slot, 6, 7], [8] * (len(slot) + 4)])
        return model(input_ids=ids, video_memory=memory).logits


def asked(assistant: SlowFast, clip: str, memory: str) -> dict[str, Any]:
    """What a model says about a clip, and about a memory that was made of it before."""
    requests = [Request(clip, QUESTION, options=FEW), Request("/nowhere.mp4", QUESTION)]
    told = assistant.ask(memory, QUESTION, evidence=True, **FEW)
    return {
        "answer": assistant.ask(clip, QUESTION, **FEW).text,
        "told": told.text,
        "evidence": torch.tensor(told.evidence.weights),
        "likelihoods": [
            x.log_probability for x in assistant.likelihoods(clip, QUESTION, ["a star", "a cat"])
        ],
        "batch": [getattr(x, "text", type(x).__name__) for x in assistant.generate(requests)],
    }


def share(folder: Path, clip: str) -> None:
    auto.register()
    memory, checkpoint = str(folder / "one.sfmem"), str(folder / "checkpoint")
    assistant = load(checkpoint, device="tp")
    found = asked(assistant, clip, memory)
    found["drawn"] = assistant.ask(clip, QUESTION, temperature=5.0, **FEW).text
    assistant.index(clip, folder / "two.sfmem", "exact")
    found["again"] = assistant.ask(folder / "two.sfmem", QUESTION, **FEW).text
    found["held"] = sum(p.to_local().numel() for p in assistant.model.parameters() if is_split(p))
    assistant.model.save_pretrained(folder / "saved")
    found["logits"] = logits_of(assistant.model)
    plan = DistributedConfig(tp_plan="auto")
    official = AutoModelForImageTextToText.from_pretrained(
        folder / "official", distributed_config=plan, dtype=torch.float32
    )
    found["official"] = logits_of(official)
    torch.save(found, folder / f"{os.environ['RANK']}.pt")
    sys.argv = ["slowfast", "ask", memory, QUESTION, "--model", checkpoint, "--device", "tp"]
    sys.argv += ["--max-new-tokens", "6"]
    main()


def is_split(weight: torch.Tensor) -> bool:
    return hasattr(weight, "to_local")


if __name__ == "__main__":
    share(Path(sys.argv[1]), sys.argv[2])

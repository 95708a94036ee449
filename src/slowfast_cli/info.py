"""`slowfast info`: facts about a video or a memory, or a checkpoint before it is loaded."""

import mimetypes
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from slowfast_cli.answering import wrong_usage
from slowfast_cli.options import Clip, FramesFps, Json, Precision, Quantization
from slowfast_cli.terminal import say, say_json

_CHECKPOINT = "What a checkpoint needs"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def info(
    target: Annotated[
        str, typer.Argument(help="A video, a memory (.sfmem), or a checkpoint (folder or hub id).")
    ],
    json: Json = False,
    num_frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Memory for a question about so many frames.",
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None,
    dtype: Annotated[
        Precision,
        typer.Option(
            help="Of weights: float32, bfloat16 or float16.",
            show_choices=False,
            rich_help_panel=_CHECKPOINT,
        ),
    ] = Precision.bfloat16,
    quantize: Annotated[
        Quantization | None,
        typer.Option(
            help="Of the language model's weights: int8, int4 or nf4.",
            show_choices=False,
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None,
    frames_fps: FramesFps = None,
    clip: Clip = False,
) -> None:
    """Show facts about a video or a memory, or a checkpoint before anything of it is loaded."""
    if quantize is not None and num_frames is None:
        raise typer.BadParameter(
            "--quantize says what memory is estimated for: give --num-frames too."
        )
    facts = _facts(target, num_frames, dtype, quantize, {"frames_fps": frames_fps, "clip": clip})
    if json:
        say_json(facts, indent=2)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):{width}}  {_shown(value)}")


def _facts(
    target: str,
    num_frames: int | None,
    dtype: str,
    quantize: str | None,
    reading: dict[str, Any],
) -> dict[str, Any]:
    from slowfast_mllm.video.names import localized
    from slowfast_mllm.video.sampling import require_positive

    with wrong_usage():
        require_positive(frames_fps=reading["frames_fps"])
    target = _named(localized(target))
    path = Path(target)
    file = path.suffix == ".sfmem" or mimetypes.guess_type(target)[0] is not None
    hub_id = target.count("/") == 1 and not file and not os.path.exists(path.parent)
    configs = ("config.json", "adapter_config.json")
    checkpoint = hub_id or any(os.path.isfile(path / name) for name in configs)
    if any(reading.values()) and (checkpoint or path.suffix == ".sfmem"):
        raise typer.BadParameter(
            f"{target}: --frames-fps is for a folder of frames, --clip for a motion photo."
        )
    if checkpoint:
        return _checkpoint(target, num_frames, dtype, quantize)
    if num_frames is not None:
        raise typer.BadParameter(f"{target}: --num-frames is for checkpoints, and this is none.")
    if path.suffix == ".sfmem":
        from slowfast_mllm.engine.encoded_video import describe_memory

        return describe_memory(path)
    from slowfast_mllm.video import probe_video

    return probe_video(target, **reading).to_dict()


def _named(target: str) -> str:
    """The hub id of a model's short name; anything else as it is, before torch is imported."""
    if "/" in target or os.path.exists(target) or mimetypes.guess_type(target)[0] is not None:
        return target
    from slowfast_mllm.engine.catalog import resolved

    return resolved(target)


def _checkpoint(
    target: str, num_frames: int | None, dtype: str, quantize: str | None
) -> dict[str, Any]:
    from slowfast_mllm.engine import describe_config
    from slowfast_mllm.engine.transformers_loading import (
        describe_transformers,
        is_of_transformers,
    )

    if is_of_transformers(target):
        if num_frames is not None:
            raise typer.BadParameter(f"{target}: --num-frames is for Slow-Fast models.")
        return describe_transformers(target)
    facts = describe_config(target)
    if num_frames is None:
        return facts
    return facts | _memory(target, num_frames, dtype, quantize)


def _memory(target: str, num_frames: int, dtype: str, quantize: str | None) -> dict[str, Any]:
    """Gigabytes; what they are is said in `MemoryEstimate`."""
    from slowfast_mllm.engine.loading import computes_wide, quantized_bits, read_config
    from slowfast_mllm.evaluate.costs import estimate_memory

    config = read_config(target)
    bits = quantized_bits(config)
    quantize = quantize if bits is None else f"int{bits}"
    kept = _BYTES[dtype]
    wide = dtype == "bfloat16" and computes_wide()
    computed = _BYTES["float32"] if wide else kept
    estimate = estimate_memory(config, num_frames, computed, quantize=quantize, weight_bytes=kept)
    parts = {**vars(estimate), "peak": estimate.peak}
    return {f"{name}_gb": round(size / 1e9, 4) for name, size in parts.items()}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "-" if value is None else str(value)

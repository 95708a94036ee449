"""Finds a checkpoint, says clearly why it cannot be loaded, and picks device and dtype."""

import importlib.util
import logging as python_logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from slowfast_mini import WEIGHTS
from slowfast_mllm.engine.spreading import AUTO, TENSOR_PARALLEL, draw_alike, spread_options
from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastConvNextModel,
    SlowFastForConditionalGeneration,
)
from slowfast_mllm.model.adapters import base_of_adapter
from slowfast_mllm.model.cpu_linear import (
    NarrowLinear,
    make_ready,
    narrow_linears_installed,
)
from slowfast_mllm.model.cpu_quantizer import METHOD, CpuWeightsConfig, narrow_model
from slowfast_mllm.model.hardware import bfloat16_is_fast, int8_is_fast
from slowfast_mllm.model.whole_checkpoint import check_path, checked_base, first_line, load_whole
from slowfast_mllm.model.wide_compute import compute_in_float32
from slowfast_mllm.processing import SlowFastProcessor
from slowfast_mllm.processing.packaged_defaults import has_processor_files
from slowfast_mllm.video.names import brief

DEFAULT_MODEL_NAME = "slowfast-mini (packaged)"
Quantization = Literal["int8", "int4", "nf4"]
_LOG = python_logging.getLogger(__name__)
_SMALL = 100_000_000  # parameters; float32 costs little below
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelError(ValueError):
    """A checkpoint that cannot be loaded. One line: which one, the cause, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(brief(message))


def load_checkpoint(
    model: str | Path | None,
    device: str | None = None,
    dtype: str | None = None,
    compile: bool = False,
    quantize: Quantization | None = None,
) -> tuple[SlowFastForConditionalGeneration, SlowFastProcessor]:
    """Load model and processor.

    Args:
        model: folder or hub id, native or official layout, or of an adapter; None: the packaged
            model.
        device: as torch names it, or "auto" or "tp" (see `spread_options`); None: CUDA if there is
            one, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; None: bfloat16 on CUDA, float32 on the CPU, but
            for large models bfloat16 there too if the CPU has it, or if float32 would take more
            than half of the memory. On CPUs that do not compute in bfloat16, it is that of the
            weights, and the model takes and gives float32 (`wide_compute`).
        compile: compile the vision tower; decode steps are compiled by who takes them.
        quantize: "int8", "int4" or "nf4" for the weights of the language model's linear layers;
            int4 and, where ONNX Runtime is installed, int8 on CPUs by its products (`cpu_linear`).

    Raises:
        ModelError: no such checkpoint, not a Slow-Fast model, an unknown device or dtype, or
            something is not installed that compiling or quantizing needs.
    """
    spread = device in (AUTO, TENSOR_PARALLEL)
    target = pick_device(None if spread else device)
    if compile and target.type == "cpu" and not _has_compiler():
        raise ModelError("--compile: needs a C++ compiler on CPUs; install g++, or leave it out.")
    path = str(WEIGHTS if model is None else model)
    config = read_config(path)
    options = loading_options(config, target, dtype, quantize)
    if spread:
        options |= _spread(path, str(device), config, target, compile, quantize)
    bars = logging.is_progress_bar_enabled()
    if model is None:
        logging.disable_progress_bar()  # a quarter of a second needs no bar
    try:
        network = load_ready(path, options)
    finally:
        if bars:
            logging.enable_progress_bar()
    processor = load_processor(path)
    ready_to_ask(network, processor)
    if spread:
        draw_alike(network)
        return network.eval(), processor
    if "device_map" not in options:
        network.to(target)
    _prepare(network, target, compile)
    return network.eval(), processor


def _spread(
    path: str,
    device: str,
    config: SlowFastConfig,
    target: torch.device,
    compile: bool,
    quantize: Quantization | None,
) -> dict[str, Any]:
    """See `spread_options`; what is done to whole models in one place is refused."""
    if compile:
        raise ModelError(f"--device {device}: a spread model is not compiled; leave out --compile.")
    if narrow_bits(quantize, target) is not None or quantized_bits(config) is not None:
        raise ModelError(
            f"--device {device}: weights quantized for CPUs are not spread; leave out --quantize, "
            "or take the checkpoint that they came from."
        )
    if device == TENSOR_PARALLEL and (quantize or hasattr(config, "quantization_config")):
        raise ModelError("--device tp: quantized weights are not split; use --device auto.")
    try:
        return spread_options(device, config, base_of_adapter(path) is not None)
    except ValueError as error:
        raise ModelError(str(error)) from error


def ready_to_ask(network: SlowFastForConditionalGeneration, processor: SlowFastProcessor) -> None:
    """Settings that every answer relies on, whatever the checkpoint's files say."""
    network.config.image_token_id = processor.image_token_id
    network.config.video_token_id = processor.video_token_id
    # Old config files bring a length of their own; questions always say how long answers may be.
    network.generation_config.max_length = network.generation_config.min_length = None
    # Caches are handed in: from one turn to the next, from one question to others.
    network.generation_config.use_cache = True
    network.generation_config.cache_implementation = None


def loading_options(
    config: PreTrainedConfig, target: torch.device, dtype: str | None, quantize: Quantization | None
) -> dict[str, Any]:
    """Arguments of `from_pretrained`. Quantized weights go to their device as they are read."""
    narrow = quantized_bits(config) is not None
    if hasattr(config, "quantization_config"):
        # What lies beside them stays as it is: transformers would convert biases, but no weights.
        saved = str(config.dtype).removeprefix("torch.")
        if quantize is not None or (dtype not in (None, saved) and not narrow):
            raise ModelError(
                f"--quantize, --dtype: the checkpoint is quantized already, with {saved} beside; "
                "leave them out."
            )
        if not narrow:
            return {"dtype": "auto", "device_map": {"": target}}
        if target.type != "cpu":
            raise ModelError(
                f"--device {target.type}: its weights were made for CPUs; load the checkpoint "
                "that it was converted from."
            )
    if dtype is not None and dtype not in _DTYPES:
        raise ModelError(f"--dtype {dtype}: unknown; choose one of {', '.join(_DTYPES)}.")
    if dtype is None:
        dtype = "bfloat16" if target.type == "cuda" or _large(config) else "float32"
    options: dict[str, Any] = {"dtype": _DTYPES[dtype]}
    bits = narrow_bits(quantize, target)
    if bits is not None:
        options["quantization_config"] = CpuWeightsConfig(bits=bits)
    elif quantize is not None:
        options |= {
            "quantization_config": quantization_config(quantize),
            "device_map": {"": target},
        }
    return options


def load_ready(path: str, options: dict[str, Any]) -> Any:
    """A checkpoint's model. One with an adapter is made narrow when that is in its weights.

    Args:
        options: of `loading_options`.

    Raises:
        ModelError: it cannot be loaded.
    """
    kind: Any = options.get("quantization_config")
    after = isinstance(kind, CpuWeightsConfig) and base_of_adapter(path) is not None
    if after:
        options = {k: v for k, v in options.items() if k != "quantization_config"}
    try:
        network = load_whole(path, **options)
        if after:
            narrow_model(network, kind.bits)
    except ValueError as error:
        raise unusable(path, error) from error
    if quantized_bits(network.config) is not None:
        _leave_files(network)
    make_ready(network)
    return network


def _leave_files(network: PreTrainedModel) -> None:
    """Copy what stays as it is out of a checkpoint's files, which are mapped: each is let go when
    the last of its narrow weights is laid out for products.
    """
    narrow = [m for m in network.modules() if isinstance(m, NarrowLinear)]
    leaving = {id(part) for layer in narrow for part in (layer.weight, layer.scales)}
    for tensor in (*network.parameters(), *network.buffers()):
        if id(tensor) not in leaving:
            tensor.data = tensor.data.clone()


def quantized_bits(config: PreTrainedConfig) -> int | None:
    """Of a checkpoint's weights, if they are quantized for CPUs."""
    found = getattr(config, "quantization_config", None)
    found = found if found is None or isinstance(found, dict) else found.to_dict()
    return found["bits"] if found and found.get("quant_method") == METHOD else None


def narrows_memories(network: SlowFastForConditionalGeneration) -> bool:
    """Whether slow keys and values are kept in int8: beside narrow weights, on a CPU that is fast
    at it.
    """
    return isinstance(network.lm_head, NarrowLinear) and int8_is_fast()


def narrows_tower(network: SlowFastForConditionalGeneration) -> bool:
    """Whether the vision tower, too, is computed in int8: a large one; says so where it cannot."""
    tower: Any = network.model.vision_tower
    if not (
        isinstance(network.lm_head, NarrowLinear)
        and isinstance(tower, SlowFastConvNextModel)
        and tower.num_parameters() > _SMALL
    ):
        return False
    if not int8_is_fast():
        _LOG.warning(
            "This CPU has no instructions that multiply int8 (VNNI, AMX or dot products): the "
            "vision tower is computed as it is."
        )
    return int8_is_fast()


def narrow_bits(quantize: str | None, target: torch.device) -> Literal[8, 4] | None:
    """Bits of the weights that ONNX Runtime computes with; None: as they are, or by bitsandbytes.

    Raises:
        ModelError: something is not installed, or it is not for that device.
    """
    if quantize == "int4" and target.type != "cpu":
        raise ModelError(f"--quantize int4: for CPUs; on {target.type} nf4 takes as little.")
    if quantize not in ("int4", "int8") or target.type != "cpu":
        return None
    if narrow_linears_installed():
        return 4 if quantize == "int4" else 8
    if quantize == "int4" or importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"--quantize {quantize}: needs onnxruntime; `pip install 'slowfast-mllm[cpu]'`."
        )
    return None


def _prepare(
    network: SlowFastForConditionalGeneration, target: torch.device, compile: bool
) -> None:
    if network.dtype == torch.bfloat16 and computes_wide(target):
        compute_in_float32(network)
    if compile:
        network.model.vision_tower.compile()


def computes_wide(device: torch.device | None = None) -> bool:
    """Whether a model of bfloat16 weights takes and gives float32 there; None: the usual device."""
    device = device or pick_device(None)
    return device.type == "cpu" and not bfloat16_is_fast(device)


def read_config(path: str) -> SlowFastConfig:
    """The config of a checkpoint, alone.

    Raises:
        ModelError: the path leads to no Slow-Fast checkpoint.
    """
    try:
        check_path(path)
        base = checked_base(path)
    except ValueError as error:
        raise ModelError(f"{path}: {error}.") from error
    if base is not None:
        return read_config(base)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # damaged files raise what they like
        hint = "" if os.path.exists(path) else "; is the id right and the hub reachable from here"
        raise ModelError(f"{path}: no usable config ({first_line(error)}){hint}.") from error
    if not isinstance(config, SlowFastConfig):
        raise ModelError(
            f"{path}: a {config.model_type!r} model, not a Slow-Fast one; published checkpoints "
            "are listed in the README."
        )
    return config


def load_processor(path: str) -> SlowFastProcessor:
    """The processor of a checkpoint that `read_config` accepts.

    Raises:
        ModelError: its files are damaged.
    """
    try:
        processor = AutoProcessor.from_pretrained(_with_processor(path), trust_remote_code=False)
        hello = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
        processor.apply_chat_template([hello], tokenize=False)  # templates are compiled when used
        return processor
    except Exception as error:
        raise unusable(path, error) from error


def _with_processor(path: str) -> str:
    """Where the processor of a checkpoint lies: for an adapter without one, beside its model."""
    base = base_of_adapter(path)
    return path if base is None or has_processor_files(path, {}) else base


def unusable(path: str, error: Exception) -> ModelError:
    return ModelError(f"{path}: cannot be loaded ({first_line(error)}).")


def _large(config: PreTrainedConfig) -> bool:
    """Whether this machine's CPU should run the model in bfloat16."""
    size = _count_parameters(config)
    if size > _SMALL and bfloat16_is_fast("cpu"):
        return True
    if not hasattr(os, "sysconf"):  # Windows does not say
        return False
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * size > memory / 2


def on_paper(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a config without its weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _count_parameters(config: PreTrainedConfig) -> int:
    network = on_paper(config)
    return sum(p.numel() for p in network.parameters())


def pick_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"--device {name}: not usable here ({first_line(error)}).") from error
    return device


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def quantization_config(kind: str) -> BitsAndBytesConfig:
    if kind not in get_args(Quantization):
        raise ModelError(
            f"--quantize {kind}: unknown; choose one of {', '.join(get_args(Quantization))}."
        )
    if not all(importlib.util.find_spec(name) for name in ("bitsandbytes", "accelerate")):
        raise ModelError(
            f"--quantize {kind}: needs bitsandbytes; `pip install 'slowfast-mllm[quantize]'`."
        )
    python_logging.getLogger("bitsandbytes").setLevel("ERROR")  # it warns at every product
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype="bfloat16",
    )


def describe_config(path: str) -> dict[str, Any]:
    """Facts about a checkpoint from its config alone: nothing is loaded.

    Raises:
        ModelError: as `load_checkpoint`.
    """
    config = read_config(path)
    side = config.vision_config.image_size // config.vision_config.patch_size
    objects = config.object_config
    return {
        "model": path,
        "parameters": _count_parameters(config),
        "language_model": config.text_config.model_type,
        "num_layers": config.text_config.num_hidden_layers,
        "hybrid_layers": list(config.hybrid_layers),
        "vision_tower": config.vision_config.model_type,
        "image_size": config.frame_size,
        "object_tower": None if objects is None else objects.model_type,
        "slow_tokens_per_frame": (side // config.slow_spatial_pool) ** 2
        + (0 if objects is None else objects.num_objects),
        "fast_temporal_pool": config.fast_temporal_pool,
        "fast_frame_stride": config.fast_frame_stride,
        "min_fast_frames": config.min_fast_frames,
        "dtype": str(config.dtype).removeprefix("torch."),
    }


def convert_checkpoint(
    source: str,
    target: Path,
    official: bool = False,
    quantize: Literal["int8", "int4"] | None = None,
) -> None:
    """Write a checkpoint with its processor into `target`, in its own dtype.

    Args:
        target: a new or empty folder; it appears when it is whole.
        official: write the official tensor names (under the native config) for comparing files.
        quantize: make the language model's weights narrow, for CPUs; one weight is whole at a time.

    Raises:
        ValueError: `target` holds something, or the source cannot be quantized.
        ModelError: `source` cannot be loaded.
        OSError: `target` cannot be written.
    """
    refuse_filled(target)
    config = read_config(source)
    options: dict[str, Any] = {"dtype": "auto"}
    if quantize is not None:
        if official or base_of_adapter(source) is not None:
            raise ValueError(
                "--quantize: for native files of a whole model; convert an adapter without it, and "
                "what that gives with it; leave out --official."
            )
        options |= loading_options(config, torch.device("cpu"), None, quantize)
        options["dtype"] = "auto"
    try:
        network = load_whole(source, **options)
    except ValueError as error:
        raise ModelError(f"{source}: cannot be loaded ({error}).") from error
    fault = None
    with appearing(target) as new:
        try:
            # A file is forgotten when the last of its weights has been laid out for products.
            small = {} if quantize is None else {"max_shard_size": "500MB"}
            network.save_pretrained(new, save_original_format=official, **small)
        except SafetensorError as error:
            raise OSError(f"{target}: cannot be written ({first_line(error)}).") from error
        try:
            load_processor(source).save_pretrained(new)
        except Exception as error:
            fault = error
    if fault is not None:
        raise ModelError(
            f"{source}: weights were written, but it has no tokenizer ({first_line(fault)}); put "
            f"the language model's tokenizer files into {target}."
        ) from fault


def refuse_filled(target: Path) -> None:
    """
    Raises:
        ValueError: it is neither new nor an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target}: exists and is not empty; choose another folder.")


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Where to write a folder that becomes `target` when it is whole; nothing if that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as folder:
        new = Path(folder) / "new"
        yield new
        if target.exists():
            target.rmdir()
        new.replace(target)

"""The only place that touches the registries of transformers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

# The public name of this class is a dummy where torchvision is absent; this is the real one.
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastConvNextModel,
    SlowFastForConditionalGeneration,
    SlowFastModel,
    SlowFastVisionConfig,
)
from slowfast_mllm.model.cpu_quantizer import register_cpu_weights
from slowfast_mllm.model.nanodet import NanoDetConfig, NanoDetModel
from slowfast_mllm.model.official_checkpoint import (
    OfficialSlowFastConfig,
    register_official_checkpoints,
)
from slowfast_mllm.processing import SlowFastProcessor, SlowFastVideoProcessor


def register() -> None:
    """Make the Auto classes know Slow-Fast. Importing the package calls this."""
    for config in (SlowFastConfig, SlowFastVisionConfig, NanoDetConfig, OfficialSlowFastConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(SlowFastConfig, SlowFastModel, exist_ok=True)
    AutoModel.register(SlowFastVisionConfig, SlowFastConvNextModel, exist_ok=True)
    AutoModel.register(NanoDetConfig, NanoDetModel, exist_ok=True)
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto.register(SlowFastConfig, SlowFastForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(SlowFastConfig, SlowFastProcessor, exist_ok=True)
    AutoVideoProcessor.register(
        SlowFastConfig,
        video_processor_classes={
            "torchvision": SlowFastVideoProcessor,
            "pil": SlowFastVideoProcessor,
        },
        exist_ok=True,
    )
    register_official_checkpoints()
    register_cpu_weights()

"""The only place that touches the registries of transformers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
)

from slowfast_mllm.model import (
    SlowFastConfig,
    SlowFastConvNextModel,
    SlowFastForConditionalGeneration,
    SlowFastModel,
    SlowFastVisionConfig,
)
from slowfast_mllm.model.official_checkpoint import (
    OfficialSlowFastConfig,
    register_official_checkpoints,
)


def register() -> None:
    """Make the Auto classes know Slow-Fast. Importing the package calls this."""
    for config in (SlowFastConfig, SlowFastVisionConfig, OfficialSlowFastConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(SlowFastConfig, SlowFastModel, exist_ok=True)
    AutoModel.register(SlowFastVisionConfig, SlowFastConvNextModel, exist_ok=True)
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto.register(SlowFastConfig, SlowFastForConditionalGeneration, exist_ok=True)
    register_official_checkpoints()

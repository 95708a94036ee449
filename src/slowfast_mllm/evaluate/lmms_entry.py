"""The entry point `lmms_eval.models`: under which name lmms-eval finds the models of this library.

It is read while the harness itself is being imported, so the classes are only named here.
"""

from lmms_eval.models.registry_v2 import ModelManifest

_CLASSES = "slowfast_mllm.evaluate.lmms_models"

manifest = ModelManifest(
    model_id="slowfast",
    simple_class_path=f"{_CLASSES}.SimpleSlowFast",
    chat_class_path=f"{_CLASSES}.ChatSlowFast",
)

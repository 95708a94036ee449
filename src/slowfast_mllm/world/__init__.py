"""A procedural world of short clips with exact ground truth, rendered on the fly from a seed."""

from slowfast_mllm.world.clip import Clip, frame_times, sample_clip
from slowfast_mllm.world.colors import COLORS
from slowfast_mllm.world.export import write_video
from slowfast_mllm.world.labels import DenseLabels, dense_labels
from slowfast_mllm.world.questions import QA, TYPES, questions, score
from slowfast_mllm.world.render import render
from slowfast_mllm.world.script import (
    CAMERA_MOTIONS,
    GLYPHS,
    OBJECT_MOTIONS,
    SHAPES,
    Camera,
    ColorChange,
    Fade,
    Flash,
    Object,
    Script,
    Shot,
    sample_script,
)
from slowfast_mllm.world.unknown import UNKNOWN_ANSWER

__all__ = [
    "CAMERA_MOTIONS",
    "COLORS",
    "GLYPHS",
    "OBJECT_MOTIONS",
    "QA",
    "SHAPES",
    "TYPES",
    "UNKNOWN_ANSWER",
    "Camera",
    "Clip",
    "ColorChange",
    "DenseLabels",
    "Fade",
    "Flash",
    "Object",
    "Script",
    "Shot",
    "dense_labels",
    "frame_times",
    "questions",
    "render",
    "sample_clip",
    "sample_script",
    "score",
    "write_video",
]

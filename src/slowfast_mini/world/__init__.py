"""A procedural world of short clips with exact ground truth, rendered on the fly from a seed."""

from slowfast_mini.world.clip import Clip, frame_times, sample_clip
from slowfast_mini.world.colors import COLORS
from slowfast_mini.world.export import write_video
from slowfast_mini.world.labels import EVENTS, DenseLabels, dense_labels
from slowfast_mini.world.questions import LANGUAGES, TYPES, questions
from slowfast_mini.world.render import render
from slowfast_mini.world.sampling import sample_script
from slowfast_mini.world.scoring import QA, score, told_seconds
from slowfast_mini.world.script import (
    CAMERA_MOTIONS,
    GLYPHS,
    OBJECT_MOTIONS,
    SHAPES,
    Camera,
    ColorChange,
    Distractor,
    Fade,
    Flash,
    Needle,
    Object,
    Script,
    Shot,
)

__all__ = [
    "CAMERA_MOTIONS",
    "COLORS",
    "EVENTS",
    "GLYPHS",
    "LANGUAGES",
    "OBJECT_MOTIONS",
    "QA",
    "SHAPES",
    "TYPES",
    "Camera",
    "Clip",
    "ColorChange",
    "DenseLabels",
    "Distractor",
    "Fade",
    "Flash",
    "Needle",
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
    "told_seconds",
    "write_video",
]

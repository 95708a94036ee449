"""The jobs people have with video: one file each, a function that gives one typed result.

Modules are imported when they are first used: what is measured needs no model, and no torch.
"""

import importlib
from collections.abc import Callable
from typing import Any

from slowfast_mllm.tasks.results import Result

# Job, which is its module here -> the type of its result, and the functions that it offers, first
# the one that does the job.
JOBS: dict[str, tuple[str, ...]] = {
    "caption": ("Caption", "caption_video", "caption_videos", "caption_into", "Captioning"),
    "choose": ("Choice", "choose_answer"),
    "classify": ("Classification", "classify_video", "read_labels"),
    "compare": ("Comparison", "compare_videos"),
    "cuts": ("Cuts", "find_cuts"),
    "events": ("Events", "find_events"),
    "facts": ("Facts", "measure_facts"),
    "ground": ("Grounding", "ground_video"),
    "search": ("Search", "search_folder"),
    "score": ("Score", "score_video"),
}


def result_type(job: str) -> type[Result]:
    """The type of a job's result, e.g. for its JSON Schema (`model_json_schema`)."""
    kind: type[Result] = getattr(importlib.import_module(f"{__name__}.{job}"), JOBS[job][0])
    return kind


def function_of(job: str) -> Callable[..., Result]:
    """The function that does a job."""
    found: Callable[..., Result] = __getattr__(JOBS[job][1])
    return found


def __getattr__(name: str) -> Any:
    for job, names in JOBS.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{job}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

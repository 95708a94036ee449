"""What a model is told beside a question: when its frames were shown, and what was measured.

The words about times are those of LLaVA-Video's instruction, which models that were taught with it
know; they stand after the video and before the question.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

TIMES = (
    "The video lasts for {duration:.2f} seconds, and {count} frames are uniformly sampled from it. "
    "These frames are located at {times}. "
    "Please answer the following questions related to this video."
)


def times_in_words(duration: float, timestamps: Sequence[float]) -> str:
    """The length of a video and the times of its frames, in seconds.

    Raises:
        ValueError: they are of several videos.
    """
    if any(later < earlier for earlier, later in pairwise(timestamps)):
        raise ValueError("times: told of one video, and these are several; leave it out.")
    times = ",".join(f"{time:.2f}s" for time in timestamps)
    return TIMES.format(duration=duration, count=len(timestamps), times=times)


def with_words(question: str, told: Mapping[str, str]) -> str:
    """A question after what is told beside it; what is none stays as it is, to be refused."""
    if not isinstance(question, str) or not question.strip():
        return question
    return "\n".join([*told.values(), question])

"""`slowfast describe`: what a video shows, in words."""

from slowfast_cli.options import Answering, Watched, answering


@answering
def describe(video: Watched, how: Answering) -> None:
    """Say what a video shows."""
    from slowfast_mllm.questions import DESCRIBE

    how.answer(how.watch(video), DESCRIBE)

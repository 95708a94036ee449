"""`slowfast describe`: what a video shows, in words."""

from slowfast_cli.options import Answering, Watched, answering


@answering
def describe(video: Watched, how: Answering) -> None:
    """Say what a video shows."""
    conversation = how.watch(video)
    from slowfast_mllm.engine import DESCRIBE

    how.answer(conversation, DESCRIBE)

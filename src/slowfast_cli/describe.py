"""`slowfast describe`: what a video shows, in words."""

from slowfast_cli.answering import Answering, answering, tell_looks
from slowfast_cli.options import LookTwice, Watched


@answering
def describe(video: Watched, look_twice: LookTwice = False, *, how: Answering) -> None:
    """Say what a video shows."""
    from slowfast_mllm.questions import DESCRIBE

    told = how.told(video)
    if not look_twice:
        how.answer(how.watch(video, quickly=not told), DESCRIBE, **told)
        return
    answer, _ = how.answer_twice(video, DESCRIBE, **told)
    if not how.json:
        tell_looks(answer)

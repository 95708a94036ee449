"""Entry point of `slowfast`: the list of verbs, and how every error ends.

Exit codes: 0 success, 1 the work failed (one line on stderr), 2 wrong usage, 130 Ctrl-C.
"""

import logging
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from slowfast_cli import loading
from slowfast_cli.ask import ask
from slowfast_cli.bench import bench
from slowfast_cli.caption import caption
from slowfast_cli.chat import chat
from slowfast_cli.choose import choose
from slowfast_cli.classify import classify
from slowfast_cli.compare import compare
from slowfast_cli.convert import convert
from slowfast_cli.cuts import cuts
from slowfast_cli.data import data
from slowfast_cli.describe import describe
from slowfast_cli.evaluate import evaluate
from slowfast_cli.events import events
from slowfast_cli.export import export
from slowfast_cli.facts import facts
from slowfast_cli.ground import ground
from slowfast_cli.index import index
from slowfast_cli.info import info
from slowfast_cli.keys import keys
from slowfast_cli.models import models
from slowfast_cli.schema import schema
from slowfast_cli.score import score
from slowfast_cli.search import search
from slowfast_cli.serve import serve
from slowfast_cli.stop import stop
from slowfast_cli.terminal import brief_refusals, escape_what_does_not_fit, say
from slowfast_cli.train import train

_INTERRUPTED = 130  # with which Typer leaves at a Ctrl-C, without a word


class _Verbs(TyperGroup):
    """The verbs; what is wrong with an argument is told without repeating all of a long one."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with brief_refusals():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with brief_refusals():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    name="slowfast",
    help="Ask a video a question, with a Slow-Fast video language model.",
    epilog='Example: slowfast ask clip.mp4 "What colour is the star?"',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        say(f"slowfast-mllm {version('slowfast-mllm')}")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and leave."
    ),
) -> None:
    pass


for verb, example in (
    (ask, 'slowfast ask clip.mp4 "What happens?" --num-frames 32 --json'),
    (describe, "slowfast describe clip.mp4 --start 10 --end 20"),
    (chat, "slowfast chat clip.mp4"),
    (caption, "slowfast caption videos/ -o captions.jsonl"),
    (choose, 'slowfast choose clip.mp4 "What color is the heart?" Red. White. Blue.'),
    (classify, "slowfast classify clip.mp4 --labels camera-motion"),
    (score, 'slowfast score clip.mp4 "a red triangle"'),
    (events, "slowfast events clip.mp4 --json"),
    (ground, 'slowfast ground clip.mp4 "a red triangle" --plot curve.png'),
    (search, 'slowfast search videos/ "a red triangle" --open'),
    (compare, "slowfast compare take1.mp4 take2.mp4"),
    (index, "slowfast index clip.mp4 -o clip.sfmem"),
    (serve, "slowfast serve --port 8000"),
    (stop, "slowfast stop"),
    (info, "slowfast info clip.mp4 --json"),
    (models, "slowfast models --json"),
    (cuts, "slowfast cuts clip.mp4"),
    (facts, "slowfast facts clip.mp4"),
    (schema, "slowfast schema cuts"),
    (train, "slowfast train recipes/default_model.yaml --output runs/default"),
    (convert, "slowfast convert path/to/official-checkpoint path/to/native"),
    (export, "slowfast export slowfast-mini exported"),
):
    app.command(epilog=f"Example: {example}")(verb)
app.command("eval", epilog="Example: slowfast eval --tasks videomme --limit 50 -o scores")(evaluate)
app.add_typer(bench, name="bench")
app.add_typer(data, name="data")
app.add_typer(keys, name="keys")


def main() -> None:
    """Run the command line; expected failures end in one line, never in a traceback."""
    try:
        _run()
    except SystemExit as end:
        if loading.is_shared:
            # Threads of gloo (torch 2.13) may abort a process that has done its work, as it ends.
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(end.code if isinstance(end.code, int) else 0)
        raise


def _run() -> None:
    escape_what_does_not_fit()
    # Two lines of every warning on a terminal help nobody; the library's own messages stay.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # each try to reach it would be two more
    # Torch's threads soon sleep where they wait: on busy cores, spinning ones keep others from the
    # work. OpenMP reads this when torch is loaded, so it must stand before; decoders inherit it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # Numpy multiplies little here: more threads would wait for one another, busily.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.getLogger("bitsandbytes").setLevel("ERROR")  # peft brings it in, and it warns of itself
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            say("Interrupted.", err=True)
        raise
    except BrokenPipeError:  # the reader, e.g. `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("SLOWFAST_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        if not isinstance(error, (ValueError, OSError, RuntimeError)) or not text:
            text = f"{type(error).__name__}: {text} (SLOWFAST_TRACEBACK=1 shows where)"
        say(f"Error: {text}", err=True)
        sys.exit(1)

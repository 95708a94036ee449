"""`slowfast bench`: what the method costs, and how models do beside each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slowfast_cli.bench_compare import compare
from slowfast_cli.bench_needle import needle
from slowfast_cli.bench_scale import scale
from slowfast_cli.loading import working
from slowfast_cli.options import Json
from slowfast_cli.plots import new_figure, refuse_wrong_plot
from slowfast_cli.terminal import say, say_json

if TYPE_CHECKING:
    from slowfast_mllm.evaluate.costs import Cost

bench = typer.Typer(
    help="Count what the method costs; put models beside each other.", no_args_is_help=True
)
bench.command(
    epilog="Example: slowfast bench compare --models slowfast-mini smolvlm2-500m --data q.jsonl"
)(compare)
bench.command(epilog="Example: slowfast bench needle --frames 64 --frames 256 --plot needle.png")(
    needle
)
bench.command(epilog="Example: slowfast bench scale --steps 3 --plot scale.png")(scale)


@bench.command(epilog="Example: slowfast bench flops --plot flops.png")
def flops(
    json: Json = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, into this PNG.")] = None,
) -> None:
    """FLOPs of a question by number of frames: Qwen2-7B with ConvNeXt-XXL at 576 px.

    Slow-Fast, beside all frames in self-attention, and beside projecting slow
    keys and values again for every generated token, as the official code does.
    """
    refuse_wrong_plot(plot)
    with working("Counting"):
        from slowfast_mllm.evaluate.costs import FRAMES, count_costs, published_config

        costs = [count_costs(published_config(n), n) for n in FRAMES]
    if json:
        say_json([cost.to_dict() for cost in costs])
    else:
        _print(costs)
    if plot is not None:
        _draw(costs, plot)


def _print(costs: "list[Cost]") -> None:
    say("TFLOP of                 one prefill                     one more token")
    say(
        "frames   vision  Slow-Fast  self-attention  |  Slow-Fast  text alone  self-attention  "
        "projecting again"
    )
    for c in costs:
        say(
            f"{c.num_frames:6} {c.vision / 1e12:8.1f} {(c.prefill + c.memory) / 1e12:10.2f}"
            f" {c.self_attention_prefill / 1e12:15.1f}  | {c.decode / 1e12:10.4f}"
            f" {c.text_only_decode / 1e12:11.4f} {c.self_attention_decode / 1e12:15.4f}"
            f" {c.projecting_again_decode / 1e12:17.4f}"
        )
    few, many = costs[0], next(c for c in costs if c.num_frames == 128)
    growth = (many.prefill + many.memory) / (few.prefill + few.memory) - 1
    say(
        f"\nFrom {few.num_frames} to {many.num_frames} frames the prefill grows by {growth:.1%}; a "
        f"token at {many.num_frames} frames costs {many.decode / many.text_only_decode - 1:.1%} "
        "more than without video."
    )


def _draw(costs: "list[Cost]", path: Path) -> None:
    figure = new_figure(10, 4)
    prefill, decode = figure.subplots(1, 2)
    frames = [c.num_frames for c in costs]
    lines = (
        (prefill, "all frames in self-attention", [c.self_attention_prefill for c in costs]),
        (prefill, "Slow-Fast", [c.prefill + c.memory for c in costs]),
        (decode, "Slow-Fast, projecting again", [c.projecting_again_decode for c in costs]),
        (decode, "all frames in self-attention", [c.self_attention_decode for c in costs]),
        (decode, "Slow-Fast", [c.decode for c in costs]),
        (decode, "language model alone", [c.text_only_decode for c in costs]),
    )
    for axes, label, values in lines:
        axes.plot(frames, [value / 1e12 for value in values], marker="o", label=label)
    for axes, title in ((prefill, "prefill"), (decode, "one more token")):
        axes.set(title=title, xlabel="frames", ylabel="TFLOP", xscale="log", yscale="log")
        axes.set_xticks(frames, [str(n) for n in frames], rotation=45)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)

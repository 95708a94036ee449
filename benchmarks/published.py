"""The ten benchmarks of the published checkpoints in lmms-eval, beside the numbers of their page.

    python benchmarks/published.py videomme mlvu --model slowfast-64 --limit 50
    python benchmarks/published.py --model slowfast-96 --output scores

Needs lmms-eval (docs/evaluation.md), the network for its data sets, and a GPU for such a model.
With --limit it is no measurement. One result is one JSON object with the protocol of the run.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_mllm import load
from slowfast_mllm.evaluate.lmms_models import ChatSlowFast, run_tasks


@dataclass(frozen=True)
class Benchmark:
    """One column of the page.

    Attributes:
        task, metric: what lmms-eval calls them; of a group, the mean of its tasks' is taken.
        per_unit: what the metric is multiplied with to be percent.
        published: percent of the checkpoints with 64 and 96 frames; the page that was read has
            none of the one with 128.
        beside: what is to be known of it.
    """

    task: str
    metric: str
    per_unit: int
    published: dict[str, float]
    beside: str = ""


# From the table "Models & Performance" of SHI-Labs/Slow-Fast-Video-Multimodal-LLM.
BENCHMARKS = {
    "videomme": Benchmark(
        "videomme", "videomme_perception_score", 1, {"slowfast-64": 60.2, "slowfast-96": 60.3}
    ),
    "videomme-sub": Benchmark(
        "videomme_w_subtitle",
        "videomme_perception_score",
        1,
        {"slowfast-64": 63.0, "slowfast-96": 63.4},
        "the task itself reads the clip with decord to choose subtitles",
    ),
    "mlvu": Benchmark(
        "mlvu_dev", "mlvu_percetion_score", 1, {"slowfast-64": 67.3, "slowfast-96": 68.1}
    ),
    "mvbench": Benchmark(
        "mvbench", "mvbench_accuracy", 1, {"slowfast-64": 68.9, "slowfast-96": 68.6}
    ),
    "egoschema": Benchmark(
        "egoschema_subset",
        "score",
        100,
        {"slowfast-64": 59.2, "slowfast-96": 59.8},
        "answers of the full set are scored by the data set's own server (task egoschema); the "
        "500 public ones are another measure",
    ),
    "longvideobench": Benchmark(
        "longvideobench_val_v", "lvb_acc", 100, {"slowfast-64": 56.6, "slowfast-96": 58.0}
    ),
    "perceptiontest": Benchmark(
        "perceptiontest_val_mc", "accuracy", 100, {"slowfast-64": 70.3, "slowfast-96": 70.2}
    ),
    "nextqa": Benchmark(
        "nextqa_mc_test", "exact_match", 100, {"slowfast-64": 83.5, "slowfast-96": 83.1}
    ),
    "activitynetqa": Benchmark(
        "activitynetqa",
        "gpt_eval_accuracy",
        1,
        {"slowfast-64": 54.8, "slowfast-96": 54.5},
        "a judge behind an API scores it; another judge gives another number",
    ),
    "tempcompass": Benchmark(
        "tempcompass",
        "avg_accuracy",
        1,
        {"slowfast-64": 68.9, "slowfast-96": 67.7},
        "a judge behind an API scores what cannot be parsed; the mean of four tasks",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--model", default="slowfast-64")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output", type=Path, help="folder for one JSON file each")
    options = parser.parse_args()
    if wrong := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"{wrong[0]}: choose of {', '.join(BENCHMARKS)}.")
    if options.output is not None:
        options.output.mkdir(exist_ok=True)
    assistant = load(options.model)
    for name in options.names or BENCHMARKS:
        examined = ChatSlowFast(assistant=assistant, batch_size=options.batch_size)
        print(json.dumps(result(name, examined, options)), flush=True)


def result(name: str, examined: ChatSlowFast, options: argparse.Namespace) -> dict[str, Any]:
    """What a benchmark gave, beside what is published, or why it gave nothing."""
    benchmark = BENCHMARKS[name]
    told: dict[str, Any] = {
        "benchmark": name,
        "measured": None,
        "published": benchmark.published.get(options.model),
        "beside": benchmark.beside,
    }
    try:
        run = run_tasks(examined, [benchmark.task], options.limit)
    except ValueError as error:
        return told | {"error": str(error)}
    samples = run.pop("samples")
    scores = [each[benchmark.metric] for each in run["scores"].values() if benchmark.metric in each]
    if scores:
        told["measured"] = round(statistics.mean(scores) * benchmark.per_unit, 1)
    told |= {"limit": options.limit, **run}
    if options.output is not None:
        path = options.output / f"{name}.json"
        path.write_text(json.dumps({**told, "samples": samples}, indent=1, default=str))
    return told


if __name__ == "__main__":
    main()

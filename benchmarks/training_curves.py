"""Plot the loss of every stage of a run of `slowfast train` as one picture.

python benchmarks/training_curves.py runs/default --output docs/default-model-curves.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from slowfast_mllm.train.run_folder import last_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if not options.run.is_dir():
        raise SystemExit(f"{options.run}: no such folder.")
    stages = sorted(
        (folder for folder in options.run.iterdir() if last_checkpoint(folder) is not None),
        key=lambda folder: (folder / "runs").stat().st_ctime,
    )
    if not stages:
        raise SystemExit(f"{options.run}: no stage with a checkpoint.")
    figure = Figure(figsize=(4.5 * len(stages), 3), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        state = Path(last_checkpoint(stage) or "") / "trainer_state.json"
        logged = [row for row in json.loads(state.read_text())["log_history"] if "loss" in row]
        axes.plot([row["step"] for row in logged], [float(row["loss"]) for row in logged])
        axes.set(title=stage.name, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()

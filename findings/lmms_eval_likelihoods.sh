#!/usr/bin/env bash
# lmms-eval 0.7.3: what `loglikelihood` of a model returns. Its base class documents a list of pairs
# (log probability, is greedy) and says that tasks should prefer it. Of such a pair the evaluator
# makes one string, "(-0.1, True)", before a task sees it, so every task of `multiple_choice` fails
# when it takes the pairs apart; wrapped in the class for generated texts, a pair comes through. Then
# the choice with the SMALLEST value is taken: a model that tells log probabilities, as documented,
# is scored as if it had chosen what it finds least likely.
# A guess would be: documented pairs come through, and the likeliest choice is taken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 \
    datasets==5.2.0 evaluate==0.4.6 "filelock<4" loguru==0.7.3 pytablewriter==1.2.1 pytz \
    sacrebleu==2.6.0 tenacity==9.2.1 pillow==13.0.0 av==18.1.0 pyyaml==6.0.4
"$folder/venv/bin/pip" install --quiet --no-deps lmms-eval==0.7.3
mkdir "$folder/tasks"
for n in 1 2 3 4; do echo "{\"question\": \"What is $n?\"}"; done >"$folder/tasks/data.jsonl"
cat >"$folder/tasks/utils.py" <<'PYTHON'
def nothing(doc):
    return []


def right(doc):
    return 0
PYTHON
cat >"$folder/tasks/choices.yaml" <<YAML
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: $folder/tasks/data.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_visual: !function utils.nothing
doc_to_text: question
doc_to_choice: ["right", "wrong"]
doc_to_target: !function utils.right
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
YAML
cat >"$folder/show.py" <<'PYTHON'
import os
import sys
from importlib.metadata import version

folder = sys.argv[1]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": folder}
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager


class Sure(lmms):
    """It finds "right" likely, log probability -0.1, and "wrong" not, -5."""

    def __init__(self, made_of):
        super().__init__()
        self.made_of = made_of

    def loglikelihood(self, requests):
        likely = {" right": -0.1, " wrong": -5.0}
        return [self.made_of((likely[r.args[1]], r.args[1] == " right")) for r in requests]

    generate_until = generate_until_multi_round = None


def score(made_of):
    try:
        results = simple_evaluate(
            model=Sure(made_of),
            tasks=["choices"],
            task_manager=TaskManager("ERROR", include_path=f"{folder}/tasks"),
            bootstrap_iters=0,
        )
    except Exception as error:
        attempt = getattr(error, "last_attempt", None)
        cause = attempt.exception() if attempt else error
        return f"{type(cause).__name__}: {cause}"
    return results["results"]["choices"]["acc,none"]


print("lmms-eval", version("lmms-eval"))
pairs = score(lambda pair: pair)
wrapped = score(GenerationResult)
losses = score(lambda pair: GenerationResult((-pair[0], pair[1])))
print("pairs of log probabilities, as documented:", pairs)
print("the same, each in a GenerationResult:     accuracy", wrapped)
print("their negatives in one, so losses:         accuracy", losses)
as_told = isinstance(pairs, str) and wrapped == 0 and losses == 1
print("as described" if as_told else "CHANGED")
sys.exit(not as_told)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }

#!/usr/bin/env bash
# lmms-eval 0.7.3, its `openai` model: where a server refuses a request five times, the answer is
# "[LMMS_EVAL_REQUEST_FAILED after 5 retries] ...". The harness's own reader of choices, with which
# Video-MME and MLVU are scored, finds choice D in that mark ("...FAILED after"). So a run in which no
# request was ever answered has the score of somebody who always says D, 25 % where choices are
# balanced, and ends with exit code 0.
# A guess would be: requests that failed are wrong, left out, or end the run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 \
    datasets==5.2.0 evaluate==0.4.6 "filelock<4" loguru==0.7.3 pytablewriter==1.2.1 pytz \
    sacrebleu==2.6.0 tenacity==9.2.1 pillow==13.0.0 av==18.1.0 pyyaml==6.0.4 openai==3.57.0 \
    python-dotenv requests
"$folder/venv/bin/pip" install --quiet --no-deps lmms-eval==0.7.3
mkdir "$folder/tasks"
for letter in A B C D A B C D; do
    echo "{\"question\": \"Which of A, B, C, D?\", \"answer\": \"$letter\"}"
done >"$folder/tasks/data.jsonl"
cat >"$folder/tasks/utils.py" <<'PYTHON'
from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer


def nothing(doc):
    return []


def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    said = extract_mcq_answer(results[0], choices=["A", "B", "C", "D"])
    return {"right": float(said == doc["answer"])}
PYTHON
cat >"$folder/tasks/questions.yaml" <<YAML
task: questions
dataset_path: json
dataset_kwargs: {data_files: {test: $folder/tasks/data.jsonl}}
test_split: test
output_type: generate_until
generation_kwargs: {max_new_tokens: 8}
doc_to_visual: !function utils.nothing
doc_to_text: !function utils.question
doc_to_target: answer
process_results: !function utils.score
metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]
YAML
cat >"$folder/show.py" <<'PYTHON'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

folder = Path(sys.argv[1])
refused = []


class Refuses(BaseHTTPRequestHandler):
    """No request gets an answer."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        refused.append(self.path)
        data = json.dumps({"error": {"message": "no such model"}}).encode()
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
arguments = f"model_version=m,base_url=http://127.0.0.1:{server.server_port}/v1,api_key=none"
run = subprocess.run(
    [sys.executable, "-m", "lmms_eval", "--model", "openai", "--model_args", arguments]
    + ["--tasks", "questions", "--include_path", f"{folder}/tasks", "--batch_size", "1"]
    + ["--output_path", f"{folder}/out", "--log_samples"],
    env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder)},
    capture_output=True,
    text=True,
)
files = [*Path(folder, "out").rglob("*results.json")]
if not files:
    print(run.stdout[-2000:], run.stderr[-2000:])
    sys.exit("CHANGED: no results")
results = json.loads(files[0].read_text())
samples = next(Path(folder, "out").rglob("*samples*.jsonl")).read_text().splitlines()
said = [json.loads(line)["filtered_resps"] for line in samples]
score = results["results"]["questions"]["right,none"]
print("lmms-eval", version("lmms-eval"))
print(f"8 questions, {len(refused)} attempts, all refused; exit code {run.returncode}")
print("answer in the samples:", said[0])
mark = said[0][0] if isinstance(said[0], list) else said[0]
print("read out of it:", extract_mcq_answer(mark))
print("score:", score)
as_told = run.returncode == 0 and score == 0.25
print("as described" if as_told else "CHANGED")
sys.exit(not as_told)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"

#!/usr/bin/env bash
# ONNX Runtime: sessions that share the global pool of threads spin where they wait, whatever
# `session.intra_op.allow_spinning` says; in Python nothing else says it. Many small sessions can
# have one pool, or threads that sleep, but not both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install onnxruntime==1.32.0 onnx==1.23.2 numpy
cat > "$work/spin.py" <<'PY'
import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

shared = sys.argv[1] == "shared"
if shared:
    onnxruntime.set_global_thread_pool_sizes(2, 1)
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
if shared:
    options.use_per_session_threads = False
else:
    options.intra_op_num_threads = 2
weight = np.ones((1024, 1024), np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "product",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1024])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1024])],
    [helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.tobytes(), raw=True)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
)
x = np.ones((8, 1024), np.float32)
burnt = 0.0
for _ in range(200):
    session.run(None, {"x": x})
    before = time.process_time()
    time.sleep(0.005)
    burnt += time.process_time() - before
print(f"{burnt:.3f}")
PY
own=$("$work/venv/bin/python" "$work/spin.py" own)
shared=$("$work/venv/bin/python" "$work/spin.py" shared)
"$work/venv/bin/python" -c "import onnxruntime; print('onnxruntime', onnxruntime.__version__)"
echo "CPU seconds burnt in 200 sleeps of 5 ms after a run, allow_spinning=0:"
echo "a pool of the session's own: $own; the shared pool: $shared"
python3 -c "import sys; sys.exit(not $shared > 10 * max($own, 0.005))" ||
  { echo "changed: the shared pool sleeps as well"; exit 1; }

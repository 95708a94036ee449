#!/usr/bin/env bash
# torch 2.13, onnxscript 0.7: adaptive_avg_pool1d to a fixed number of steps, exported with a free
# length. The export succeeds, and the graph is right for the length that it was traced with; for
# others it pools by the kernel of that length, and gives another number of steps, without a word.
# A guess would be: right for any length, or refused, since torch.export itself is right for any.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat >"$folder/show.py" <<'PYTHON'
import sys

import onnxruntime
import torch


class Pool(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool1d(x, 8)


free = ({2: torch.export.Dim.DYNAMIC},)
traced = torch.randn(1, 5, 32)
torch.onnx.export(Pool(), (traced,), sys.argv[1], dynamic_shapes=free, dynamo=True, verbose=False)
exported = torch.export.export(Pool(), (traced,), dynamic_shapes=free).module()
graph = onnxruntime.InferenceSession(sys.argv[1])
name = graph.get_inputs()[0].name
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
steps = {}
for length in (32, 64, 23):
    x = torch.randn(1, 5, length)
    found = torch.from_numpy(graph.run(None, {name: x.numpy()})[0])
    wanted = Pool()(x)
    assert torch.allclose(exported(x), wanted, atol=1e-6)
    steps[length] = found.shape[2]
    same = found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-6)
    print(f"length {length}: torch {wanted.shape[2]} steps, ONNX {found.shape[2]}, equal: {same}")
assert steps == {32: 8, 64: 16, 23: 5}
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/pool.onnx" 2>/dev/null

#!/usr/bin/env bash
# transformers 5.24, load_video and VideoMetadata.timestamps: "timestamps of the sampled frames in
# seconds" are position / average rate, not the presentation times that the file holds and that the
# decoder has just handed out. In a clip whose rate varies (phones, screen recordings) they are
# seconds off, and processors write them into the prompt (Qwen3-VL, SmolVLM).
# A guess would be: the times of the frames that were decoded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 av==18.1.0 pillow==13.0.0
cat >"$folder/show.py" <<'PYTHON'
import sys

import av
import numpy as np
import transformers
from transformers.video_utils import load_video

path = sys.argv[1] + "/varying.mp4"
# A second at 25 frames a second, then ten at one frame a second.
with av.open(path, "w") as container:
    stream = container.add_stream("mpeg4", rate=1000)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for i, milliseconds in enumerate([*range(0, 1000, 40), *range(1000, 11000, 1000)]):
        picture = np.full((64, 64, 3), i * 7 % 255, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = milliseconds
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
with av.open(path) as container:
    shown = [frame.time for frame in container.decode(video=0)]
_, metadata = load_video(path, backend="pyav", num_frames=8)
told = [float(t) for t in metadata.timestamps]
true = [shown[i] for i in metadata.frames_indices]
print("transformers", transformers.__version__, "PyAV", av.__version__)
print("told ", [round(t, 2) for t in told])
print("shown", [round(t, 2) for t in true])
worst = max(abs(a - b) for a, b in zip(told, true))
print(f"furthest off: {worst:.2f} s")
assert worst > 2, "the times are those of the file now"
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"

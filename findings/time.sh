#!/usr/bin/env bash
# A bare MPEG-1 stream (.m1v) with B frames, read by FFmpeg through PyAV: frames come in the right
# order, but their time stamps start 0, 2, 3, 1, 5: the first pictures' are swapped and one is left
# out for good. The same pictures as MPEG-2 (.m2v) have stamps that rise by one. A reader that
# trusts stamps, or sorts frames by them, shows the beginning in the wrong order and ends one frame
# late; counting frames at the rate of the sequence header is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"])
seen = {}
for codec in ("mpeg1video", "mpeg2video"):
    path = f"{sys.argv[1]}/clip.{codec}"
    with av.open(path, "w", format=codec) as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "2", "qscale": "2"}
        for number in range(12):
            grey = np.full((48, 64, 3), 20 * number + 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        step = float(1 / container.streams.video[0].codec_context.framerate)
        frames = [
            (round(frame.time / step), round(float(frame.to_ndarray(format="rgb24").mean())))
            for frame in container.decode(video=0)
        ]
    stamps, greys = zip(*frames)
    assert list(greys) == sorted(greys), "frames in another order"
    seen[codec] = list(stamps)
    print(codec, "stamps in frames:", *stamps)
assert seen["mpeg1video"][:5] == [0, 2, 3, 1, 5], "changed: MPEG-1 stamps"
assert seen["mpeg2video"] == list(range(1, 13)), "changed: MPEG-2 stamps"
PY

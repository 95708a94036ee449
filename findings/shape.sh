#!/usr/bin/env bash
# Broadcasts switch between 4:3 and 16:9 without changing the size of their coded pictures. One would
# expect a decoded frame to tell its sample aspect ratio, as AVFrame does. PyAV's frames have none:
# the stream keeps the first one, and the codec context, the only other place, has the next one
# before the last frame of the old shape has come out (by the delay of reordering).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q av==18.1.0 numpy==2.3.4
"$folder/env/bin/python" - <<'PYTHON'
import io
from fractions import Fraction

import av
import numpy as np


def clip(aspect, first):
    """Twelve frames of MPEG-2 in MPEG-TS whose samples have this aspect."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(first, first + 12):
            grey = np.full((80, 96, 3), 100 if first == 0 else 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


narrow, wide = Fraction(10, 9), Fraction(40, 27)
print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)
seen = []
with av.open(io.BytesIO(clip(narrow, 0) + clip(wide, 12))) as container:
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    for frame in container.decode(stream):
        grey = int(frame.to_ndarray(format="rgb24").mean())
        seen.append((grey > 150, stream.codec_context.sample_aspect_ratio, stream.sample_aspect_ratio))
for number in range(9, 15):
    is_wide, context, kept = seen[number]
    print(f"frame {number}: coded as {wide if is_wide else narrow}, context {context}, stream {kept}")
early = [number for number, (is_wide, context, _) in enumerate(seen) if (context == wide) != is_wide]
print("frames whose context tells the other one's aspect:", early)
assert not hasattr(av.VideoFrame, "sample_aspect_ratio")
assert {kept for _, _, kept in seen} == {narrow}
assert early == [11], early
PYTHON

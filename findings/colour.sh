#!/usr/bin/env bash
# PyAV 18.1 (FFmpeg 8), old QuickTime codecs after a seek: grey pictures of "Animation" (qtrle)
# decode black, because the demuxer hands out their palette with the first packet alone and never
# again, and pictures of "RPZA" keep parts of others, because FFmpeg writes every packet of it as a
# key frame although most are predicted. No error, no flag, in both cases.
# A guess would be: a frame that follows a seek to its key frame is the frame of a straight read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import io

import av
import numpy as np


def movie(encoder: str, pixels: str) -> bytes:
    """12 frames: a bright square moves over a gradient; a key frame every 4."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream(encoder, rate=10, options={"g": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(12):
            picture = np.tile(np.arange(64, dtype=np.uint8)[:, None] + 60, (48, 1, 3))
            picture[10:26, 4 * number : 4 * number + 16] = 250
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


print("PyAV", av.__version__)
for encoder, pixels in (("qtrle", "gray"), ("rpza", "rgb555le")):
    data = movie(encoder, pixels)
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        keys = [packet.pts for packet in packets if packet.is_keyframe]
    with av.open(io.BytesIO(data)) as container:
        straight = {f.pts: f.to_ndarray(format="rgb24") for f in container.decode(video=0)}
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        key = keys[len(keys) // 2]
        container.seek(key, stream=stream)
        frame = next(f for f in container.decode(stream) if f.pts == key)
    seen = frame.to_ndarray(format="rgb24").astype(int)
    difference = np.abs(seen - straight[key]).max()
    print(f"{encoder}: {len(keys)} of {len(packets)} packets marked as key frames; mean level "
          f"{straight[key].mean():.0f} in a straight read, {seen.mean():.0f} after a seek; "
          f"largest difference {difference}")
    assert difference > 100, "the seek gives the picture now"
    if encoder == "qtrle":
        assert seen.max() == 0, "not black any more"
    else:
        assert len(keys) == len(packets), "key frames are told now"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"

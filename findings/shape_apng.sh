#!/usr/bin/env bash
# An animated PNG may carry a picture for viewers that know no animations, which is none of its
# frames; its acTL chunk counts the frames alone, and browsers and FFmpeg never show it. Pillow
# counts it in n_frames, and its iterator gives it first, so that every frame number is one off and
# a clip of three frames has four. (PIL.PngImagePlugin.PngImageFile.default_image tells.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==12.0.0 av==18.1.0 numpy==2.3.4
"$folder/venv/bin/python" - <<'PY'
import io
import struct

import av
import PIL
from PIL import Image, ImageSequence

pictures = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (250, 10, 20, 30)]
buffer = io.BytesIO()
pictures[0].save(
    buffer, "PNG", save_all=True, default_image=True, append_images=pictures[1:], duration=100
)
data = buffer.getvalue()
(counted,) = struct.unpack_from(">I", data, data.index(b"acTL") + 4)
with Image.open(io.BytesIO(data)) as image:
    greys = [frame.convert("L").getpixel((0, 0)) for frame in ImageSequence.Iterator(image)]
    print("Pillow", PIL.__version__, "n_frames", image.n_frames, "greys", greys)
    assert (image.n_frames, image.default_image) == (4, True)
with av.open(io.BytesIO(data), format="apng") as container:
    shown = [int(f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
print("acTL", counted, "FFmpeg", len(shown), "greys", shown)
assert counted == len(shown) == 3
assert greys == [250, 10, 20, 30]
PY

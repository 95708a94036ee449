#!/usr/bin/env bash
# Pillow 13: a grey TIFF of 32 bits without a sign (the kind that TIFF means where the tag is left
# out, as tifffile does) opens in mode "I", which has one, so that the brighter half comes as negative
# numbers, and convert("L") shows white as black. view(uint32) brings the numbers back.
# A guess would be: refused, or values that keep their order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6 tifffile==2026.1.14
cat >"$folder/show.py" <<'PYTHON'
import io

import numpy as np
import PIL
import tifffile
from PIL import Image

values = np.linspace(0, 2**32 - 1, 8).astype(np.uint32)
buffer = io.BytesIO()
tifffile.imwrite(buffer, np.tile(values, (4, 1)))
image = Image.open(io.BytesIO(buffer.getvalue()))
seen = np.asarray(image)[0]
print("Pillow", PIL.__version__, "mode", image.mode, "sample format", image.tag_v2.get(339))
print("stored", values.tolist())
print("opened", seen.tolist())
print("as L  ", np.asarray(image.convert("L"))[0].tolist())
assert image.mode == "I" and seen[-1] == -1 and image.tag_v2.get(339, (1,)) == (1,)
assert np.array_equal(seen.view(np.uint32), values)
assert np.asarray(image.convert("L"))[0, -1] == 0, "white is no longer black"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"

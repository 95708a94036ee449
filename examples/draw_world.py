"""Draw sample clips of the procedural world, with a question and its answer each, as one picture.

python examples/draw_world.py docs/world.jpg
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from slowfast_mini import world

SAMPLES, SHOWN, SIZE = 12, 8, 112
MARGIN = 22


def main(path: str) -> None:
    """One row a clip: eight of its frames, and under them what is asked of it."""
    kinds = [kind for kind in world.TYPES if kind not in ("unknown", "shape", "describe")]
    sheet = Image.new("RGB", (SHOWN * SIZE, SAMPLES * (SIZE + MARGIN)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, seed in enumerate(range(SAMPLES)):
        script = world.sample_script(seed)
        times = world.frame_times(script.duration, 32)
        # Another kind of question for every clip, as far as it goes.
        asked = world.questions(script, seed, times)
        asked.sort(key=lambda qa: kinds.index(qa.type) if qa.type in kinds else len(kinds))
        qa = asked[0]
        if qa.type in kinds:
            kinds.remove(qa.type)
        brief = [event.time for event in (script.flash, script.needle) if event is not None]
        shown = {int(np.searchsorted(times, at)) for at in brief}
        for frame in np.linspace(0, 31, SHOWN + 1).astype(int)[1:]:
            if len(shown) < SHOWN:
                shown.add(int(frame))
        top = row * (SIZE + MARGIN)
        frames = world.render(script, times[sorted(shown)], SIZE)
        for column, frame in enumerate(frames):
            sheet.paste(Image.fromarray(frame), (column * SIZE, top))
        pen.text((4, top + SIZE + 3), f"{qa.question}  {qa.answer}", "black", font)
    sheet.save(path, quality=85)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="the picture to write")
    main(parser.parse_args().path)

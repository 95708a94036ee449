"""What a search found, as one page of HTML with pictures in it that needs nothing beside."""

import base64
import html
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_mllm.tasks.search import Hit, Moment, Search
from slowfast_mllm.video import read_video, resizing

_PICTURES = 4  # of each moment
_HEIGHT = 120  # pixels
_MOST = 6  # moments of a video
_STYLE = (
    "body{font:16px system-ui,sans-serif;margin:2em}img{height:120px;margin:2px}"
    "h2{font-size:1em;margin:1.5em 0 .3em}p{margin:.3em 0;color:#555}"
)


def contact_sheet(found: Search, folder: Path) -> str:
    """A page of the videos that were found, with pictures of their moments.

    Args:
        folder: the one that was searched.
    """
    title = html.escape(found.question)
    hits = [_of_hit(hit, folder) for hit in found.hits]
    none = f"<p>Not found in {found.searched} videos.</p>"
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"{''.join(hits) or none}</body></html>\n"
    )


def _of_hit(hit: Hit, folder: Path) -> str:
    file = folder / hit.path
    surest = sorted(hit.moments, key=lambda moment: -moment.score)[:_MOST]
    return f"<h2>{html.escape(hit.path)} &middot; {hit.score:.1%}</h2>" + "".join(
        _of_moment(file, moment) for moment in surest
    )


def _of_moment(file: Path, moment: Moment) -> str:
    where = html.escape(f"{file.absolute().as_uri()}#t={moment.start:g},{moment.end:g}")
    told = f"{moment.start:.1f} to {moment.end:.1f} s &middot; {moment.score:.1%}"
    try:
        pictures = "".join(map(_img, _pictures(file, moment)))
    except ValueError as error:  # changed since
        pictures = html.escape(str(error))
    return f'<p><a href="{where}">{told}</a></p><div>{pictures}</div>'


def _pictures(file: Path, moment: Moment) -> NDArray[np.uint8]:
    end = moment.end if moment.end > moment.start else None
    sampled = read_video(
        file,
        num_frames=_PICTURES,
        start=moment.start,
        end=end,
        transform=resizing(_shape, Image.Resampling.BICUBIC),
    )
    return sampled.frames


def _img(picture: NDArray[np.uint8]) -> str:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _shape(height: int, width: int) -> tuple[int, int]:
    return _HEIGHT, max(1, round(width * _HEIGHT / height))

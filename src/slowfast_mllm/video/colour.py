"""What a stream tells of its colours, and what is assumed where it tells nothing.

Names are those of ffprobe. Untagged pictures are taken as BT.601 in limited range at any size,
high definition too, where most players take BT.709: so did the reader of the published
checkpoints' training data (decord 0.6: clips of 360, 720 and 1080 lines, coded by either matrix,
tagged as either or not at all, in limited and full range, come out of it bit for bit as here). Tags
are obeyed. Gamma and primaries are left as they are, but for HDR, see `hdr.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from av.video.frame import VideoFrame

from slowfast_mllm.video import hdr

_UNSPECIFIED = 2
_RGB, _FULL = 0, 2
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    9: "log100", 10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1",
    14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
_MATRICES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc",
    13: "chroma-derived-c", 14: "ictcp", 15: "ipt-c2",
}  # fmt: skip
# Of no luma and chroma: FFmpeg's converter has no way back from them.
_PERCEPTUAL = (14, 15)
_OTHER_HUES = (
    "colours are coded as ICtCp or Dolby Vision's own (profile 5), which is not undone: hues are "
    "wrong; give an HDR10, HLG or SDR copy"
)


@dataclass(frozen=True)
class Colour:
    """The colours of a clip's first frame, in ffprobe's names.

    Attributes:
        primaries: What red, green and blue are, e.g. `bt709`.
        transfer: How light is coded, e.g. `smpte2084` (PQ).
        matrix: How luma and chroma are made of red, green and blue; `gbr` where they are not.
        range: `limited` or `full`.
        assumed: Which of the four the stream does not tell.
        warnings: One line each: where light is mapped, or colours come out wrong.
    """

    primaries: str
    transfer: str
    matrix: str
    range: str
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def colour_of(frame: VideoFrame) -> Colour:
    """What the frame is taken as when it is turned into RGB."""
    light = hdr.is_hdr(frame)
    rgb = frame.format.is_rgb or frame.format.has_palette
    told = {
        "primaries": int(frame.color_primaries),
        "transfer": int(frame.color_trc),
        "matrix": _RGB if rgb else int(frame.colorspace),
        "range": _FULL if rgb else int(frame.color_range),
    }
    assumed = tuple(
        name for name, value in told.items() if value == (0 if name == "range" else _UNSPECIFIED)
    )
    return Colour(
        _named(told["primaries"], _PRIMARIES, "bt2020" if light else "bt709"),
        _named(told["transfer"], _TRANSFERS, "bt709"),
        _named(told["matrix"], _MATRICES, "bt2020nc" if light else "smpte170m"),
        "full" if told["range"] == _FULL else "limited",
        assumed,
        (
            *((hdr.tone_mapping_note(told["transfer"]),) if light else ()),
            *((_OTHER_HUES,) if told["matrix"] in _PERCEPTUAL else ()),
        ),
    )


def _named(number: int, names: dict[int, str], assumed: str) -> str:
    return assumed if number == _UNSPECIFIED else names.get(number, str(number))

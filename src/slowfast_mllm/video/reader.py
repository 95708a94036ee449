"""Reading sampled frames from a video file, by seeking where that is exact, else from the start.

The two ways give the same frames bit for bit. Files whose packets do not tell for certain what
will be shown (MPEG-TS, damaged or cut files, streams without stamps) are decoded as a whole, and
the frame count, the time stamps and the warnings are then those of what really came out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast_mllm.video.index import StreamIndex, index_stream
from slowfast_mllm.video.media import Damage, Media, decoded_frames, open_video, set_threads
from slowfast_mllm.video.picture import UNCHANGED, Picture, RgbConverter, Transform, allocate
from slowfast_mllm.video.result import SampledVideo, VideoError, VideoInfo
from slowfast_mllm.video.sampling import Indices, SampleRequest
from slowfast_mllm.video.seeking import SeekingFailed, decode_by_seeking
from slowfast_mllm.video.timeline import Timeline

# A probe decodes files up to this many pixels (a tenth of a second of work, less than a program
# takes to start) to count what comes out; above it, a clean mp4, mkv, webm or avi is taken at its
# packets' word.
_PROBE_PIXELS = 50_000_000
_MAX_PASSES = 3

See = Callable[[Picture], None]
# Given a position and a function that makes the picture there: most passes want few of them.
_Visit = Callable[[int, Callable[[], Picture]], None]


def probe_file(media: Media) -> VideoInfo:
    """Facts about a video file without keeping a frame.

    Raises:
        VideoError: Not a video, no video stream, or not one frame that can be decoded.
    """
    index = index_stream(media)
    width, height = index.shape.stored
    if index.exact and index.timeline and len(index.stamps) * width * height > _PROBE_PIXELS:
        return _describe(media, index, index.timeline, [])
    result = _decode_reliably(media, index, lambda fps: lambda position, picture: None)
    return _describe(media, index, _require_frames(result, media), result.warnings())


def walk_file(
    media: Media, begin: Callable[[float], See], transform: Transform = UNCHANGED
) -> tuple[Timeline, VideoInfo]:
    """Show every frame of a video file, one after the other, to what `begin` gives.

    Args:
        begin: See `walk_video`.

    Raises:
        VideoError: See `probe_file`.
    """

    def visit(fps: float) -> _Visit:
        see = begin(fps)
        return lambda position, picture: see(picture())

    index = index_stream(media)
    result = _decode_reliably(media, index, visit, transform)
    timeline = _require_frames(result, media)
    return timeline, _describe(media, index, timeline, result.warnings())


def _decode_reliably(
    media: Media,
    index: StreamIndex,
    begin: Callable[[float], _Visit],
    transform: Transform = UNCHANGED,
) -> _WholeResult:
    """A pass over the whole file that counts, which may be the second one."""
    fps = index.timeline.fps if index.timeline else 0.0
    parallel = not index.warnings
    result = _decode_whole(media, index, begin(fps), parallel, transform)
    if not result.reliable:
        result = _decode_whole(media, index, begin(fps), parallel=False, transform=transform)
    return result


def read_file(
    media: Media, request: SampleRequest, transform: Transform = UNCHANGED
) -> SampledVideo:
    """The frames of a video file that `request` chooses.

    Raises:
        VideoError: See `probe_file`; or no frame within the bounds, or too large a result.
    """
    index = index_stream(media)
    if index.exact and index.timeline is not None:
        chosen = _choose(request, index.timeline, media)
        wanted, rows = np.unique(chosen, return_inverse=True)
        size = transform.size(index.shape.shown)
        output = allocate(chosen.size, size, media.name)[: wanted.size]
        try:
            said = decode_by_seeking(media, index, wanted.tolist(), output, transform)
        except SeekingFailed:
            pass
        else:
            info = _describe(media, index, index.timeline, said)
            return _assemble(output, rows, chosen, index.timeline, info)
    return _read_from_start(media, index, request, transform)


def _choose(request: SampleRequest, timeline: Timeline, media: Media) -> Indices:
    return request.indices(timeline.timestamps, timeline.duration, media.name)


def _read_from_start(
    media: Media, index: StreamIndex, request: SampleRequest, transform: Transform
) -> SampledVideo:
    """Choose by what is known, decode everything, and again where it turns out otherwise."""
    damaged = bool(index.warnings)
    expected = None if damaged else index.timeline
    for _ in range(_MAX_PASSES):
        chosen = np.empty(0, np.int64)
        if expected is not None:
            chosen = _choose(request, expected, media)
        wanted, rows = np.unique(chosen, return_inverse=True)
        size = transform.size(index.shape.shown)
        output = allocate(chosen.size, size, media.name)[: wanted.size]
        keep = _keeping(wanted.tolist(), output)
        result = _decode_whole(media, index, keep, parallel=not damaged, transform=transform)
        if expected is not None and result.agrees_with(expected) and result.reliable:
            info = _describe(media, index, result.timeline, result.warnings())
            return _assemble(output, rows, chosen, result.timeline, info)
        damaged = damaged or bool(result.damage.decode_errors)
        expected = _require_frames(result, media)
    raise VideoError(
        f"{media.name}: gives other frames each time it is decoded; "
        "the file is damaged, convert it to mp4 first"
    )


@dataclass(frozen=True)
class _WholeResult:
    """What one pass over the whole file gave."""

    timeline: Timeline
    damage: Damage
    fitted: list[str]
    parallel: bool

    @property
    def reliable(self) -> bool:
        """Frame threads lose frames next to an error, so such a pass does not count."""
        return not (self.parallel and self.damage.decode_errors)

    def warnings(self) -> list[str]:
        return [*self.damage.warnings(), *self.fitted]

    def agrees_with(self, expected: Timeline) -> bool:
        return np.array_equal(self.timeline.timestamps, expected.timestamps)


def _keeping(wanted: list[int], output: Picture) -> _Visit:
    """Puts the frames at the positions `wanted` into the rows of `output`."""
    row_of = {position: row for row, position in enumerate(wanted)}

    def keep(position: int, picture: Callable[[], Picture]) -> None:
        if position in row_of:
            output[row_of[position]] = picture()

    return keep


def _decode_whole(
    media: Media,
    index: StreamIndex,
    visit: _Visit,
    parallel: bool,
    transform: Transform = UNCHANGED,
) -> _WholeResult:
    """Decode from the first to the last frame; `visit` may look at each."""
    to_rgb = RgbConverter(index.shape, transform)
    damage = Damage()
    stamps: list[int | None] = []
    with open_video(media) as (container, stream):
        set_threads(stream, 0 if parallel else 1)
        for position, frame in enumerate(decoded_frames(container, stream, damage)):
            stamps.append(frame.pts)
            to_rgb.see(frame)
            visit(position, lambda frame=frame: transform.apply(to_rgb(frame)))  # type: ignore[misc]
    timeline = index.clock.timeline(stamps)
    return _WholeResult(timeline, damage, to_rgb.warnings(), parallel)


def _require_frames(result: _WholeResult, media: Media) -> Timeline:
    if result.timeline.timestamps.size == 0:
        raise VideoError(f"{media.name}: no frame can be decoded; the file is damaged")
    return result.timeline


def _describe(
    media: Media, index: StreamIndex, timeline: Timeline, warnings: list[str]
) -> VideoInfo:
    width, height = index.shape.shown
    return VideoInfo(
        path=media.name,
        num_frames=timeline.timestamps.size,
        duration=timeline.duration,
        fps=timeline.fps,
        width=width,
        height=height,
        codec=index.codec,
        rotation=index.shape.orientation.degrees,
        has_audio=index.has_audio,
        colour_primaries=index.colour.primaries,
        colour_transfer=index.colour.transfer,
        colour_matrix=index.colour.matrix,
        colour_range=index.colour.range,
        colour_assumed=index.colour.assumed,
        warnings=(*index.warnings, *warnings, *timeline.warnings, *index.notes),
    )


def _assemble(
    frames: Picture, rows: Indices, chosen: Indices, timeline: Timeline, info: VideoInfo
) -> SampledVideo:
    repeated = rows.size != frames.shape[0]
    return SampledVideo(
        frames=frames[rows] if repeated else frames,
        timestamps=timeline.timestamps[chosen],
        frame_indices=chosen,
        info=info,
    )

"""Where a file's sound track is to be heard. What is heard is not asked: only how loud it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from numpy.typing import NDArray

from slowfast_mllm.video.media import Media, open_media
from slowfast_mllm.video.result import VideoError

_SILENT = 1e-3  # of full scale, root mean square: -60 dB, as FFmpeg's silencedetect has it
_PAUSE = 1.0  # seconds; what is shorter is a pause in what is heard
_MAX_ERRORS = 8


def heard(media: Media, first: float) -> list[tuple[float, float]] | None:
    """Seconds between which a file's best sound track is to be heard.

    Args:
        media: A file with a video stream.
        first: Seconds at which its first picture is shown, which is the same clock.

    Returns:
        Parts in order; without any, the track is silent. None: there is no track.

    Raises:
        VideoError: There is one that cannot be decoded.
    """
    with open_media(media) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            return None
        if stream.codec_context is None:
            raise VideoError(f"{media.name}: no decoder for its sound track in this FFmpeg")
        video = container.streams.best("video")
        zero = 0.0
        if video is not None and video.start_time is not None and video.time_base:
            zero = float(video.start_time * video.time_base) - first
        parts: list[tuple[float, float]] = []
        for frame in _frames(container, stream):
            if frame.time is None or _loudness(frame) < _SILENT:
                continue
            start = max(0.0, frame.time - zero)
            end = start + frame.samples / frame.sample_rate
            if parts and start - parts[-1][1] < _PAUSE:
                start = parts.pop()[0]
            parts.append((start, end))
        return parts


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """What can be decoded of a track."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    errors = 0
    packets = container.demux(stream)
    while errors < _MAX_ERRORS:
        try:
            yield from (frame for packet in packets for frame in packet.decode())
            return
        except (av.error.FFmpegError, IndexError):
            errors += 1
            packets = container.demux(stream)


def _loudness(frame: AudioFrame) -> float:
    samples: NDArray[Any] = frame.to_ndarray().astype(np.float32)
    if frame.format.name.startswith("u8"):
        samples = samples / 128 - 1
    elif frame.format.name.startswith("s"):
        samples = samples / 2 ** (8 * frame.format.bytes - 1)
    return float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0

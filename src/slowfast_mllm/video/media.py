"""Opening a video safely, and walking its packets: the only place where FFmpeg is handed input.

A source is a local regular file or bytes, never a URL or an FFmpeg protocol string, and only
demuxers that keep to the one file they were given may look at it: playlists and scripts (HLS,
DASH, concat, image patterns) are refused, so nothing else is read and nothing is fetched.
Damage is counted, not raised. What is presented when is not decided here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from slowfast_mllm.video.picture import MAX_SIDE
from slowfast_mllm.video.result import VideoError

_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,nut,mxf,rm,ivf,h264,hevc,vvc,m4v,"
    "mjpeg,obu,yuv4mpegpipe,dv,wtv,vc1,h263,h261,3gp,swf"
)
_OPEN_OPTIONS = {
    "format_whitelist": _DEMUXERS,
    "protocol_whitelist": "file",
    "max_streams": "64",
    "max_pixels": str(MAX_SIDE * MAX_SIDE),
}
# Four days at 24 frames per second; more packets than that come from damage or malice.
_MAX_PACKETS = 1 << 23
_MAX_READ_ERRORS = 8


@dataclass(frozen=True)
class Media:
    """A video that FFmpeg can open any number of times, also from several threads.

    Attributes:
        name: What messages call it.
        path: Absolute path of a local regular file, or None.
        data: The whole file where there is no path.
    """

    name: str
    path: str | None = None
    data: bytes = b""

    def open(self) -> BinaryIO:
        """A fresh binary handle at the first byte."""
        return open(self.path, "rb") if self.path is not None else io.BytesIO(self.data)


@dataclass
class Damage:
    """What went wrong while packets were read and decoded."""

    decode_errors: int = 0
    corrupt_frames: int = 0
    empty_packets: int = 0
    read_errors: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        counts = (self.decode_errors, self.corrupt_frames, self.empty_packets)
        return any(counts) or bool(self.read_errors)

    def warnings(self) -> list[str]:
        """One line for each kind of damage that a viewer would notice."""
        lines = []
        if self.decode_errors:
            lines.append(f"damaged: {self.decode_errors} coded pictures could not be decoded")
        if self.corrupt_frames:
            lines.append(f"damaged: {self.corrupt_frames} frames are shown with errors")
        if self.read_errors:
            lines.append(f"damaged: reading stopped or skipped ({self.read_errors[-1]})")
        return lines


@contextmanager
def open_video(media: Media) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its best video stream (FFmpeg's choice, never cover art).

    Raises:
        VideoError: Not a video that can be read; also for FFmpeg errors raised in the block.
    """
    target: Any = f"file:{media.path}" if media.path is not None else io.BytesIO(media.data)
    try:
        with av.open(target, mode="r", options=_OPEN_OPTIONS, metadata_errors="replace") as opened:
            yield opened, _best_stream(opened, media.name)
    except av.error.ArgumentError as error:
        raise VideoError(
            f"{media.name}: not a video format that is read here (playlists and scripts that "
            "name other files are refused); convert it to mp4 or webm"
        ) from error
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{media.name}: not a readable video ({_cause(error)}); "
            "check that the file is complete, or convert it to mp4 or webm"
        ) from error


def set_threads(stream: VideoStream, count: int) -> None:
    """Let FFmpeg decode with `count` threads (0: as many as it likes).

    Threads that take a frame each wait for one another: on some damaged HEVC streams, for ever.
    HEVC gets threads within a frame only.
    """
    stream.thread_type = "SLICE" if stream.codec_context.name == "hevc" else "AUTO"
    stream.thread_count = count


def _best_stream(container: InputContainer, name: str) -> VideoStream:
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best.disposition & Disposition.dependent:
        raise VideoError(f"{name}: a picture in tiles (HEIC); convert it to jpg or png")
    if not isinstance(best, VideoStream) or best.disposition & Disposition.attached_pic:
        kinds = sorted({stream.type for stream in container.streams if stream is not best})
        held = ", ".join([*kinds, "a cover picture"] if best else kinds) or "nothing"
        raise VideoError(f"{name}: no video stream, it holds {held}; give a file with pictures")
    if best.codec_context is None:
        raise VideoError(
            f"{name}: no decoder for its video stream in this FFmpeg; convert it to H.264"
        )
    for stream in container.streams:
        if stream.index != best.index:
            stream.discard = Discard.all
    best.codec_context.options = {"max_pixels": _OPEN_OPTIONS["max_pixels"]}
    return best


def _cause(error: av.error.FFmpegError) -> str:
    return " ".join((error.strerror or type(error).__name__).split())


def video_packets(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[Packet[VideoStream]]:
    """All packets with payload from the current position on; read errors are stepped over."""
    count = 0
    while len(damage.read_errors) < _MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
                elif packet.pts is not None or packet.dts is not None:
                    damage.empty_packets += 1
                count += 1
                if count > _MAX_PACKETS:
                    damage.read_errors.append(f"more than {_MAX_PACKETS} packets")
                    return
            return
        except av.error.FFmpegError as error:
            damage.read_errors.append(_cause(error))
        except IndexError:
            # At the end of the file PyAV trips over streams that appeared on the way.
            return


def decode_packet(
    stream: VideoStream, packet: Packet[VideoStream] | None, damage: Damage
) -> list[VideoFrame]:
    """The frames that come out for one packet (None: those still held back at the end)."""
    try:
        frames = stream.decode(packet)
    except av.error.FFmpegError:
        damage.decode_errors += 1
        return []
    damage.corrupt_frames += sum(frame.is_corrupt for frame in frames)
    return frames


def decoded_frames(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[VideoFrame]:
    """All frames from the current position to the end, in presentation order."""
    for packet in video_packets(container, stream, damage):
        yield from decode_packet(stream, packet, damage)
    yield from decode_packet(stream, None, damage)

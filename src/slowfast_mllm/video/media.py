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

# Demuxers that find pictures in the one file they were given, and never open another file, URL or
# device by what it says. FFmpeg's others do (hls, dash, concat, image2, sdp, vobsub, mlv), are
# devices (lavfi, x11grab), hold no pictures, make them of text (tty), or take any bytes for them
# (rawvideo). FFmpeg judges by content first: a name here never changes which one it chooses.
DEMUXERS = (
    # Phones, cameras, the web, discs and broadcasts.
    "mov,matroska,avi,mpegts,mpegtsraw,mpeg,flv,live_flv,kux,asf,asf_o,ogg,gif,apng,nut,mxf,gxf,"
    "lxf,rm,ivr,ivf,dv,wtv,ty,pva,pmp,nsv,nuv,swf,vivo,vividas,yuv4mpegpipe,mpjpeg,"
    # Bare streams.
    "h261,h263,h264,hevc,vvc,evc,m4v,mpegvideo,mjpeg,mjpeg_2000,obu,av1,vc1,vc1test,cavsvideo,avs2,"
    "avs3,apv,dirac,dnxhd,ipu,"
    # Recorders, film and science.
    "dhav,hxvs,iv8,ifv,luodat,lvf,lmlm4,mxg,nc,cine,r3d,ser,simbiosis_imx,fits,"
    # Games and old machines.
    "4xm,anm,avs,bethsoftvid,bfi,bink,bmv,c93,cdg,cdxl,dcstr,dfa,dsicin,dxa,ea,ea_cdata,film_cpk,"
    "filmstrip,flic,gdv,hnm,idcin,iff,ipmovie,iss,jv,mgsts,mm,mods,moflex,msnwctcp,mtv,mv,mvi,paf,"
    "pdv,psxstr,rl2,roq,rpl,sga,siff,smjpeg,smk,smush,thp,tiertexseq,tmv,txd,usm,vmd,wc3movie,"
    "wsvqa,xmv,yop,"
    # Single pictures of film and print that Pillow is not asked to read.
    "cri_pipe,dds_pipe,dpx_pipe,exr_pipe,hdr_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,jpegxs_pipe,"
    "phm_pipe,psd_pipe,qoi_pipe"
)
_OPEN_OPTIONS = {
    "format_whitelist": DEMUXERS,
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
def open_media(media: Media) -> Iterator[InputContainer]:
    """The container.

    Raises:
        VideoError: Nothing that can be read; also for FFmpeg errors raised in the block.
    """
    target: Any = f"file:{media.path}" if media.path is not None else io.BytesIO(media.data)
    try:
        with av.open(target, mode="r", options=_OPEN_OPTIONS, metadata_errors="replace") as opened:
            yield opened
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


@contextmanager
def open_video(media: Media) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its best video stream (FFmpeg's choice, never cover art; of those alike the
    first that is marked as the default one, or the first).

    Raises:
        VideoError: Not a video that can be read; also for FFmpeg errors raised in the block.
    """
    with open_media(media) as opened:
        yield opened, _best_stream(opened, media.name)


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
    alike = streams_alike(container, best)
    best = next((s for s in alike if s.disposition & Disposition.default), alike[0])
    for stream in container.streams:
        if stream.index != best.index:
            stream.discard = Discard.all
    best.codec_context.options = {"max_pixels": _OPEN_OPTIONS["max_pixels"]}
    return best


def streams_alike(container: InputContainer, stream: VideoStream) -> list[VideoStream]:
    """The video streams that are as good as `stream`, itself among them, in the file's order.

    Among them FFmpeg would choose the one that takes more bits.
    """

    def kind(other: VideoStream) -> tuple[Any, ...]:
        context = other.codec_context
        size = context and (context.name, context.width, context.height)
        return (size, other.disposition & ~Disposition.default, bool(other.frames))

    return [other for other in container.streams.video if kind(other) == kind(stream)]


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

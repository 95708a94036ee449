"""What a file holds, from its packets alone: one pass that decodes no more than the first frame.

It also judges itself: `exact` says whether the packets tell the presented frames for certain, so
that single frames can be reached by seeking. Everything else is decoded from the start instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from slowfast_mllm.video.aperture import shown_window
from slowfast_mllm.video.clock import (
    find_joins,
    in_decode_order,
    is_bare,
    pictures_are_reordered,
    rate_of,
    zero_of,
)
from slowfast_mllm.video.colour import Colour, colour_of
from slowfast_mllm.video.media import (
    Damage,
    Media,
    decode_packet,
    open_video,
    streams_alike,
    video_packets,
)
from slowfast_mllm.video.picture import PictureShape, check_size, shape_of
from slowfast_mllm.video.result import VideoError
from slowfast_mllm.video.stereo import Window
from slowfast_mllm.video.timeline import Clock, Timeline
from slowfast_mllm.video.truncation import missing_bytes

# Containers that store a presentation stamp for every picture and find key frames by it.
_SEEKABLE_FORMATS = ("mov", "matroska", "avi")
# Bit of the first byte of a VP8 packet: the picture is shown, not only referred to.
_VP8_SHOWN = 0x10
# Codecs that can predict and yet are often written without it. Of others that can, a file of key
# frames alone is one that does not tell them, like FFmpeg's own RPZA.
_ALL_KEYS_POSSIBLE = (
    *("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"),
    *("cinepak", "flashsv", "flashsv2", "wmv3", "vc1", "theora"),
)
# Where FFmpeg keeps the key's number of an encrypted Matroska track.
_KEY_ID = "enc_key_id"


@dataclass(frozen=True)
class StreamIndex:
    """The packets of one video stream.

    Attributes:
        stamps: Presentation stamps of the presented pictures, sorted; empty unless all are known.
        keys: Presentation stamps of the key frames, sorted.
        clock: How stamps become seconds.
        timeline: The stamps as seconds, where they are known.
        shape: The shape of the first frame.
        colour: The colours of the first frame.
        codec: FFmpeg's name of the coding format.
        droppable: Whether pictures that nothing refers to can be left undecoded.
        has_audio: Whether there is an audio stream.
        exact: Whether `stamps` are the presented frames for certain.
        warnings: One line each: what is damaged.
        notes: One line each: what of the file is not looked at, or not as it is.
    """

    stamps: tuple[int, ...]
    keys: tuple[int, ...]
    clock: Clock
    timeline: Timeline | None
    shape: PictureShape
    colour: Colour
    codec: str
    droppable: bool
    has_audio: bool
    exact: bool
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Packets:
    """What is gathered from the packets one by one."""

    shown: list[tuple[int | None, int | None]] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    first_is_key: bool = False
    in_doubt: bool = False
    encrypted: bool = False
    delayed: bool = True
    count: int = 0

    def add(self, packet: Packet[VideoStream], codec: str) -> None:
        stamp = packet.pts
        self.first_is_key = packet.is_keyframe if self.count == 0 else self.first_is_key
        self.count += 1
        if packet.is_keyframe and stamp is not None:
            self.keys.append(stamp)
            self.encrypted |= packet.has_sidedata("encryption_info")
        if not packet.is_discard:
            self.shown.append((stamp, packet.duration))
        self.delayed &= stamp != packet.dts
        hidden = codec == "vp8" and not memoryview(packet)[0] & _VP8_SHOWN
        self.in_doubt |= stamp is None or packet.is_corrupt or hidden

    def keys_are_told(self, codec: str) -> bool:
        """Whether key frames are marked: all are where a writer forgot to say which."""
        return self.count == 1 or len(self.keys) < self.count or codec in _ALL_KEYS_POSSIBLE

    @property
    def stamps(self) -> list[int | None]:
        """Of the shown pictures, in the order of the file."""
        return [stamp for stamp, _ in self.shown]

    def sorted_stamps(self) -> tuple[int, ...]:
        return tuple(sorted(stamp for stamp, _ in self.shown if stamp is not None))

    def last_duration(self, stream_end: int | None) -> int | None:
        """How long the last picture is shown.

        A packet's duration is off where pictures are reordered and the rate varies, and the
        stream's end is off where an edit list hides some of it: the shorter one is believed.
        One tick is what FFmpeg puts where a recorder says nothing.
        """
        timed = [(stamp, length) for stamp, length in self.shown if stamp is not None]
        if not timed:
            return None
        stamp, length = max(timed, key=lambda pair: pair[0])
        said = length if length and length > 1 else 0
        ends = [said, stream_end - stamp if stream_end is not None else 0]
        return min((end for end in ends if end > 0), default=None)


def index_stream(media: Media) -> StreamIndex:
    """Walk all packets of the best video stream of `media`.

    Raises:
        VideoError: Not a video, no video stream, or not one frame that can be decoded.
    """
    damage = Damage()
    packets = _Packets()
    missing = missing_bytes(media)
    with open_video(media) as (container, stream):
        check_size(stream.codec_context.width, stream.codec_context.height, media.name)
        codec = stream.codec_context.codec.canonical_name
        window = _shown_window(media, container, stream)
        first: VideoFrame | None = None
        for packet in video_packets(container, stream, damage):
            packets.add(packet, codec)
            first = first or _first_frame(stream, packet, damage)
        first = first or _first_frame(stream, None, damage)
        if packets.encrypted or _KEY_ID in stream.metadata:
            raise VideoError(
                f"{media.name}: encrypted (DRM), which only a player with its key can show; "
                "give a copy without"
            )
        if first is None:
            raise VideoError(_no_frames(media.name, packets.count, codec))
        shape = shape_of(first, stream.sample_aspect_ratio, media.name, window)
        colour = colour_of(first)
        warnings = []
        if missing:
            warnings.append(f"the file ends early: {missing} bytes are missing")
        if not packets.first_is_key:
            warnings.append("starts between key frames: what comes before the first is left out")
        stamps = packets.sorted_stamps()
        clock = _clock(media, container, stream, packets)
        complete = len(stamps) == len(packets.shown) > 0
        exact = complete and not (missing or damage) and _is_exact(container, packets, codec)
        # A palette comes with the first packet alone, and is lost by a seek.
        exact = exact and not first.format.has_palette
        exact = exact and (stream.codec_context.codec.intra_only or packets.keys_are_told(codec))
        if exact and clock.in_decode_order:
            exact = packets.delayed and not pictures_are_reordered(media)
        return StreamIndex(
            stamps=stamps if complete else (),
            keys=tuple(sorted(packets.keys)),
            clock=clock,
            timeline=_expected(clock, packets, complete),
            shape=shape,
            colour=colour,
            codec=codec,
            droppable=_is_droppable(codec, stream.codec_context.extradata),
            has_audio=bool(container.streams.audio),
            exact=exact,
            warnings=tuple(warnings),
            notes=(*_track_notes(container, stream), *shape.notes, *colour.warnings),
        )


def _shown_window(media: Media, container: InputContainer, stream: VideoStream) -> Window | None:
    number = container.streams.video.index(stream)
    size = stream.codec_context.width, stream.codec_context.height
    return shown_window(media, number, size)


def _track_notes(container: InputContainer, stream: VideoStream) -> list[str]:
    alike = streams_alike(container, stream)
    if len(alike) == 1:
        return []
    return [f"{len(alike)} video tracks alike: number {alike.index(stream) + 1} is looked at"]


def _clock(
    media: Media, container: InputContainer, stream: VideoStream, packets: _Packets
) -> Clock:
    stamps = packets.stamps
    reordered = in_decode_order(stream, stamps)
    return Clock(
        unit=stream.time_base,
        zero=zero_of(container, stream, stamps, reordered),
        last_duration=packets.last_duration(_end_of(container, stream)),
        rate=rate_of(stream),
        in_decode_order=reordered,
        joins=find_joins(media, container.format.name, stream.time_base, stamps),
        bare=is_bare(stream),
    )


def _expected(clock: Clock, packets: _Packets, complete: bool) -> Timeline | None:
    if complete:
        return clock.timeline(packets.sorted_stamps())
    return clock.timeline(packets.stamps) if clock.bare and packets.shown else None


def _end_of(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.start_time is None or stream.duration is None:
        return None
    if container.format.name == "asf":  # it tells the end of the file, which sound may last to
        return None
    return stream.start_time + stream.duration


def _first_frame(
    stream: VideoStream, packet: Packet[VideoStream] | None, damage: Damage
) -> VideoFrame | None:
    return next(iter(decode_packet(stream, packet, damage)), None)


def _no_frames(name: str, packets: int, codec: str) -> str:
    if packets == 0:
        return f"{name}: the video stream holds no frames; the recording may not have finished"
    return (
        f"{name}: none of its {packets} {codec} pictures can be decoded; "
        "the file is damaged, get it again or convert it"
    )


def _is_exact(container: InputContainer, packets: _Packets, codec: str) -> bool:
    name = container.format.name
    if not name.startswith(_SEEKABLE_FORMATS) or packets.in_doubt or not packets.first_is_key:
        return False
    stamps = [stamp for stamp, _ in packets.shown if stamp is not None]
    ascending = all(a < b for a, b in pairwise(stamps))
    if name.startswith("avi"):
        # AVI has no presentation stamps: FFmpeg's guess holds only without reordering, and
        # MPEG-4 files may pack two pictures into one packet.
        return ascending and codec != "mpeg4"
    unique = ascending or max(Counter(stamps).values()) == 1
    # Pictures shown before the key frame that they were coded after cannot be decoded.
    return unique and min(stamps) >= min(packets.keys)


def _is_droppable(codec: str, extradata: bytes | None) -> bool:
    if codec == "hevc":
        # With several temporal layers, pictures marked as non-reference may still be referred
        # to from the layer above; hvcC tells the number of layers in its 22nd byte.
        return bool(extradata and len(extradata) > 22 and extradata[21] >> 3 & 7 == 1)
    return codec in ("h264", "mpeg4", "mpeg2video")

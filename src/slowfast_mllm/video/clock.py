"""What a file's streams and stamps tell of its clock: where it starts, at what rate frames come,
whether stamps are in the order of coding, and where parts were joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_mllm.video.media import (
    Damage,
    Media,
    decode_packet,
    open_video,
    video_packets,
)

# FFmpeg's unit for streams without a container.
_BARE_UNIT = Fraction(1, 1_200_000)
_HIGHEST_RATE = 240  # above it MPEG-4 tells the unit that it counts in
# Encoders of sound give up to so many seconds of silence before their first word. What is signed
# as such is below 0; the rest must not move pictures that were recorded at the same time.
_PRIMING = Fraction(1, 20)
# Clocks of transport streams start anywhere, and each programme has its own.
_LONGEST_LEAD = Fraction(10)
_TRANSPORT = ("mpegts", "mpeg")
# A jump ahead is looked into where it is longer than this, in seconds and in usual steps.
_JUMP_SECONDS = 30
_JUMP_STEPS = 100
_LOOKED_AT = 100
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, and of it before the sync byte
_TS_WRAP = 1 << 33


def rate_of(stream: VideoStream) -> Fraction | None:
    """Nominal frames per second; None where nothing tells."""
    if not is_bare(stream):
        return stream.average_rate
    told, rate = stream.codec_context.framerate, stream.guessed_rate
    return rate if told and rate and rate <= _HIGHEST_RATE else None


def is_bare(stream: VideoStream) -> bool:
    """Whether the stream came without a container: its average rate is then FFmpeg's invention."""
    return stream.time_base == _BARE_UNIT


def zero_of(
    container: InputContainer,
    stream: VideoStream,
    stamps: Sequence[int | None],
    reordered: bool,
) -> Fraction | None:
    """Seconds, by the stamps of `stream`, at which the clock of the file starts.

    Args:
        stamps: Of the pictures, in the order of the file.
        reordered: Whether they are in the order of coding: the first is late by the time that
            decoders need to put pictures in order.

    Returns:
        The start of the sound, or of another picture, where that is clearly earlier; else None.
    """
    known = [stamp for stamp in stamps[:_LOOKED_AT] if stamp is not None]
    if not stream.time_base or not known:
        return None
    first = min(known)
    late = first - stream.start_time if reordered and stream.start_time is not None else 0
    begins = (first - late) * stream.time_base
    others = [
        max(Fraction(0), other.start_time * other.time_base)
        for other in container.streams
        if other.type in ("audio", "video")
        and other.index != stream.index
        and other.start_time is not None
        and other.time_base
        and not other.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    if container.format.name in _TRANSPORT:
        others = [other for other in others if begins - other <= _LONGEST_LEAD]
    zero = min(others, default=begins)
    return zero + late * stream.time_base if begins - zero > _PRIMING else None


def in_decode_order(stream: VideoStream, stamps: Sequence[int | None]) -> bool:
    """Whether stamps that rise from packet to packet may belong to pictures in another order.

    Args:
        stream: After its first picture was decoded.
        stamps: Presentation stamps in the order of the file.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    return stream.codec_context.has_b_frames and all(a <= b for a, b in pairwise(known))


def pictures_are_reordered(media: Media) -> bool:
    """Whether the first hundred pictures come out in another order than that of their stamps."""
    damage = Damage()
    last = -_TS_WRAP
    with open_video(media) as (container, stream):
        packets = zip(range(_LOOKED_AT), video_packets(container, stream, damage), strict=False)
        for packet in [*(packet for _, packet in packets), None]:
            for frame in decode_packet(stream, packet, damage):
                if frame.pts is None or frame.pts < last:
                    return True
                last = frame.pts
    return False


def find_joins(
    media: Media, container_format: str, unit: Fraction | None, stamps: Sequence[int | None]
) -> tuple[int, ...]:
    """Stamps in the middle of jumps ahead at which a transport stream was joined from parts.

    A jump in other containers is meant: nobody knows better than their tables. In a transport
    stream it is a gap in the recording or a slow picture too, as long as sound or the programme's
    own clock goes on meanwhile, or other steps are about as long.

    Args:
        stamps: Of the pictures, in the order of the file.
    """
    if container_format not in _TRANSPORT or not unit:
        return ()
    known = [stamp for stamp in stamps if stamp is not None]
    steps = np.abs(np.diff(known))
    if not steps.size:
        return ()
    least = max(float(_JUMP_SECONDS / unit), _JUMP_STEPS * float(np.median(steps)))
    jumps = [(a, b) for a, b in pairwise(known) if b - a > least]
    if not jumps:
        return ()
    ticks = np.sort(np.concatenate([_sound(media, unit), _programme_clock(media)]))
    joins = []
    for before, after in jumps:
        quarter = (after - before) // 4
        # Stamps count on where the 33 bits of the file begin again.
        since = (ticks - (before + quarter)) % _TS_WRAP
        if not np.any(since < 2 * quarter):
            joins.append((before + after) // 2)
    return tuple(joins)


def _sound(media: Media, unit: Fraction) -> NDArray[np.int64]:
    """Stamps of the packets of sound."""
    ticks = []
    with open_video(media) as (container, _):
        streams = container.streams.audio
        for stream in streams:
            stream.discard = Discard.default
        with suppress(FFmpegError, IndexError):  # damaged: what was read of it counts
            for packet in container.demux(*streams) if streams else ():
                if packet.pts is not None and packet.time_base:
                    ticks.append(round(packet.pts * packet.time_base / unit))
    return np.array(ticks, dtype=np.int64)


def _programme_clock(media: Media) -> NDArray[np.int64]:
    """The clock references of a transport stream, 90,000 a second; none of other formats."""
    if media.path is not None:
        data: NDArray[np.uint8] = np.memmap(media.path, np.uint8, mode="r")
    else:
        data = np.frombuffer(media.data, np.uint8)
    for size, offset in _TS_PACKETS:
        packets = data[: data.size // size * size].reshape(-1, size)[:, offset : offset + 12]
        if packets.size and np.mean(packets[:, 0] == 0x47) > 0.9:
            break
    else:
        return np.empty(0, np.int64)
    # An adaptation field of at least 7 bytes whose flags announce a reference.
    has = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] >= 7) & (packets[:, 5] & 0x10 != 0)
    high = packets[has][:, 6:11].astype(np.int64)
    return high[:, 0] << 25 | high[:, 1] << 17 | high[:, 2] << 9 | high[:, 3] << 1 | high[:, 4] >> 7

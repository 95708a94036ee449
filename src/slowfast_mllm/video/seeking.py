"""Decoding single frames of an exactly indexed file: one seek for each key frame that is needed.

Wanted frames are grouped by the key frame before them. Within a group, pictures that nothing
refers to are left undecoded unless wanted; the groups are shared by two threads, each with a
container of its own. Whatever is not as the index says ends in `SeekingFailed`, and the caller
decodes from the start instead: nothing is ever guessed here.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from slowfast_mllm.video.fitting import fitting_warnings
from slowfast_mllm.video.index import StreamIndex
from slowfast_mllm.video.media import (
    Damage,
    Media,
    decode_packet,
    open_video,
    set_threads,
    video_packets,
)
from slowfast_mllm.video.picture import Picture, RgbConverter, Transform
from slowfast_mllm.video.result import VideoError

_WORKERS = 2
# A seek that lands further before its key frame than this is no help.
_MAX_SKIPPED = 256


class SeekingFailed(Exception):  # noqa: N818 - a signal to the caller, not an error to report
    """The file does not do what its packets promised."""


# A key frame's stamp, and for the wanted frames after it: stamp -> row of the output.
_Group = tuple[int, dict[int, int]]


def decode_by_seeking(
    media: Media, index: StreamIndex, wanted: list[int], output: Picture, transform: Transform
) -> list[str]:
    """Fill `output` (len(wanted), H, W, 3) with the frames at the positions `wanted`.

    Args:
        media: The file.
        index: Its index; must be `exact`.
        wanted: Positions in presentation order, sorted, each once.
        output: Where row i receives frame `wanted[i]`.
        transform: What is done to each frame before.

    Returns:
        A line where frames of another size had to be fitted in.

    Raises:
        SeekingFailed: A frame did not appear where it should; `output` is then undefined.
    """
    groups = deque(_group(index, wanted))
    workers = min(_WORKERS, len(groups), _available_cpus())
    threads = max(1, _available_cpus() // workers)

    converters = [RgbConverter(index.shape, transform) for _ in range(workers)]

    def work(to_rgb: RgbConverter) -> None:
        _decode_groups(media, index, groups, output, threads, to_rgb, transform)

    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="video") as pool:
            list(pool.map(work, converters))
    except VideoError as error:
        raise SeekingFailed(str(error)) from error
    others = set().union(*(to_rgb.others for to_rgb in converters))
    return fitting_warnings(others, index.shape.shown)


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _group(index: StreamIndex, wanted: list[int]) -> list[_Group]:
    groups: list[_Group] = []
    for row, position in enumerate(wanted):
        stamp = index.stamps[position]
        key = index.keys[bisect_right(index.keys, stamp) - 1]
        if not groups or groups[-1][0] != key:
            groups.append((key, {}))
        groups[-1][1][stamp] = row
    return groups


def _decode_groups(
    media: Media,
    index: StreamIndex,
    groups: deque[_Group],
    output: Picture,
    threads: int,
    to_rgb: RgbConverter,
    transform: Transform,
) -> None:
    with open_video(media) as (container, stream):
        set_threads(stream, threads)
        while True:
            try:
                key, rows = groups.popleft()
            except IndexError:
                return
            try:
                for frame in _frames_of_group(container, stream, index, key, rows):
                    picture = transform.apply(to_rgb(frame))
                    output[rows.pop(cast(int, frame.pts))] = picture
            except BaseException:
                # The other worker need not go on with what will be thrown away.
                groups.clear()
                raise


def _frames_of_group(
    container: InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    key: int,
    rows: dict[int, int],
) -> Iterator[VideoFrame]:
    """The frames whose stamps are in `rows`, which the caller empties as they come."""
    last = max(rows)
    for frame in _decode_from(container, stream, index, key, rows):
        if frame.pts in rows:
            yield frame
            if not rows:
                return
        elif frame.pts is None or frame.pts > last:
            raise SeekingFailed(f"stamp {last} passed by")
    raise SeekingFailed(f"stamp {last} not found")


def _decode_from(
    container: InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    key: int,
    wanted: dict[int, int],
) -> Iterator[VideoFrame]:
    damage = Damage()
    context = stream.codec_context
    container.seek(key, stream=stream)
    for packet in _packets_from(key, video_packets(container, stream, damage)):
        if index.droppable:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from decode_packet(stream, packet, damage)
        if damage:
            raise SeekingFailed("damaged")
    yield from decode_packet(stream, None, damage)


def _packets_from(
    key: int, packets: Iterator[Packet[VideoStream]]
) -> Iterator[Packet[VideoStream]]:
    for skipped, packet in enumerate(packets):
        if packet.is_keyframe and packet.pts == key:
            yield packet
            break
        if skipped >= _MAX_SKIPPED:
            break
    else:
        raise SeekingFailed(f"key frame {key} not found")
    yield from packets

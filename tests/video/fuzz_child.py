"""Reads mutated clips until done, in a process of its own: `fuzz_child.py FOLDER SEED CASES`.

Every outcome but frames or a one-line VideoError ends the process with a message, as do a case
that takes too long (the watchdog thread works even inside FFmpeg) and memory beyond the limit.
The number of the case at work is kept in FOLDER/case.txt and its bytes in FOLDER/case.bin, so
that whoever started the process can say which one broke it.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
from pathlib import Path

import numpy as np
from video_clips import KINDS, encode_clip, encode_pictures

from slowfast_mllm.video import VideoError, probe_video, read_video

_SECONDS_PER_CASE = 90
_MEMORY = 6 << 30
_NASTY = (b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00")


def mutated(rng: np.random.Generator, clip: bytes) -> bytes:
    """`clip` with one to three kinds of damage."""
    data = bytearray(clip)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        # Half of the damage goes to the first or last bytes, where the structure is.
        edge = int(rng.integers(0, min(len(data), 600)))
        anywhere = int(rng.integers(0, len(data)))
        at = [edge, len(data) - 1 - edge, anywhere, anywhere][rng.integers(0, 4)]
        match rng.integers(0, 7):
            case 0:
                del data[at:]
            case 1:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                for place in rng.integers(0, len(data), rng.integers(1, 64)):
                    data[place] = int(rng.integers(0, 256))
            case 3:
                data[at : at + 4] = _NASTY[rng.integers(0, len(_NASTY))]
            case 4:
                data[at : at + 200] = rng.bytes(len(data[at : at + 200]))
            case 5:
                del data[at : at + int(rng.integers(1, 300))]
            case _:
                data[at:at] = data[at : at + int(rng.integers(1, 300))]
    return bytes(data)


def read_in_some_way(rng: np.random.Generator, data: bytes, path: Path) -> None:
    """One of the ways a clip is used; raises whatever the reader raises."""
    source: bytes | Path = data
    if rng.integers(0, 2):
        path.write_bytes(data)
        source = path
    match rng.integers(0, 4):
        case 0:
            probe_video(source)
        case 1:
            video = read_video(source, num_frames=5)
            assert video.frames.shape[0] == 5
        case 2:
            read_video(source, fps=5, max_frames=8, start=0.2, end=0.9)
        case _:
            video = read_video(source, max_frames=12)
            assert np.all(np.diff(video.timestamps) >= 0)
            assert np.all(
                (video.frame_indices >= 0) & (video.frame_indices < video.info.num_frames)
            )


def main(folder: Path, seed: int, cases: int) -> None:
    """Run the cases; a shared folder of odd files joins the clips made here."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    clips = [encode_clip(kind) for kind in KINDS] + list(encode_pictures().values())
    odd = Path(__file__).resolve().parents[3] / "shared" / "videos" / "odd"
    if odd.is_dir():
        clips += [file.read_bytes() for file in sorted(odd.iterdir()) if file.suffix != ".json"]
    refused = 0
    for case in range(cases):
        rng = np.random.default_rng([seed, case])
        data = mutated(rng, clips[rng.integers(0, len(clips))])
        (folder / "case.bin").write_bytes(data)
        (folder / "case.txt").write_text(f"seed {seed}, case {case}")
        faulthandler.dump_traceback_later(_SECONDS_PER_CASE, exit=True)
        try:
            read_in_some_way(rng, data, folder / "clip.bin")
        except VideoError as error:
            if "\n" in str(error):
                raise AssertionError("more than one line") from error
            refused += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{cases} cases, {refused} refused")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

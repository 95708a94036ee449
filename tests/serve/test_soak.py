"""A short time of misuse; `benchmarks/soak.py` by itself is the long one."""

import collections
import importlib.util
import random
import threading
from pathlib import Path

import httpx
from serving import CLIP


def test_every_request_is_answered_or_refused_with_a_reason(url: str) -> None:
    place = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    spec = importlib.util.spec_from_file_location("soak", place)
    assert spec
    assert spec.loader
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    clips = [soak.small_clip(1), soak.small_clip(2), CLIP.read_bytes()]
    ends: collections.Counter[str] = collections.Counter()

    def work(seed: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            client = soak.Client(http, random.Random(seed), clips, ends)
            for _ in range(12):
                client.one()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.total() >= 48
    assert [end for end in ends if "NO ANSWER" in end or "WITHOUT REASON" in end] == []

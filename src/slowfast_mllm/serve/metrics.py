"""What an operator watches: counters and histograms, as Prometheus reads them."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_TOKEN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry, "namespace": "slowfast"}
        self.requests = Counter(
            "requests",
            "Requests that were answered, by path and status.",
            ["path", "status"],
            **here,
        )
        self.in_house = Gauge("requests_in_house", "Requests that wait or are answered.", **here)
        self.refused = Counter("requests_refused", "Sent away because the house is full.", **here)
        self.gone = Counter("clients_gone", "Requests whose client went away.", **here)
        self.read = Histogram(
            "read_seconds", "Reading and fitting the frames of a video.", buckets=_SECONDS, **here
        )
        self.encode = Histogram(
            "encode_seconds", "Making a memory of the frames.", buckets=_SECONDS, **here
        )
        self.first = Histogram(
            "first_token_seconds",
            "From when its video is at hand to the first token.",
            buckets=_SECONDS,
            **here,
        )
        self.token = Histogram("token_seconds", "A token after the first.", buckets=_TOKEN, **here)
        self.tokens = Counter("tokens", "Tokens read (prompt) and written.", ["kind"], **here)
        self.memories = Counter(
            "memories",
            "Where memories of videos came from: ram, disk, encoded.",
            ["origin"],
            **here,
        )
        self.held = Gauge("memories_bytes", "Of memories in RAM.", **here)
        self.batches = Histogram(
            "batch_sizes", "Answers written together, at each step.",
            buckets=(1, 2, 4, 8, 16, 32), **here,
        )  # fmt: skip
        self.decoders_lost = Counter(
            "decoders_lost", "Decoding processes that died or were ended.", **here
        )
        self.jobs = Histogram("job_seconds", "Jobs, by name.", ["name"], buckets=_SECONDS, **here)

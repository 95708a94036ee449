"""Connections on which nothing is asked are closed: enough of them take all files that a process
may have open, and then nobody gets in."""

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_Protocol: Any = AutoHTTPProtocol


def impatient(seconds: float) -> Any:
    """What uvicorn is to speak HTTP with (`http`): it closes a connection on which no request
    came in so many seconds."""

    class Impatient(_Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_silent)

        def _close_silent(self) -> None:
            if self.cycle is None:  # the first request's
                self.transport.close()

    return Impatient

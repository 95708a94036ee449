"""The server on Ray Serve: replicas of the model, and one front that sends each request to one.

`serve run slowfast_mllm.serve.ray:app place=/srv/slowfast max_replicas=4`
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from prometheus_client import generate_latest
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from slowfast_mllm.serve.errors import ApiError
from slowfast_mllm.serve.front import Message, create_front
from slowfast_mllm.serve.settings import LOCAL_NAMES, Settings, read_settings

_VERSION = version("slowfast-mllm")
_ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


class Arguments(BaseModel):
    """What `app` is built from. Paths are those of the machines that the replicas run on.

    Attributes:
        place: folder of uploads and memories, which all replicas and the front see.
        config: TOML file of further `Settings`, read where the application is built.
        model, device, dtype, quantize: as of `load`.
        min_replicas, max_replicas: between which Serve adds and removes replicas.
        target_ongoing_requests: that a replica has when it is neither bored nor late; None: as many
            as it answers together.
        num_cpus, num_gpus: of one replica; it computes with as many threads at most.
    """

    model_config = ConfigDict(extra="forbid")

    place: Path
    config: Path | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: Literal["int8", "int4", "nf4"] | None = None
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    target_ongoing_requests: float | None = Field(None, gt=0)
    num_cpus: float = Field(1, gt=0)
    num_gpus: float = Field(0, ge=0)

    def settings(self) -> Settings:
        """The server's.

        Raises:
            ValueError: the file of them cannot be used.
        """
        settings = Settings(place=self.place.absolute())
        if self.config is not None:
            settings = replace(settings, **read_settings(self.config))
        if settings.keys is None and not settings.names:  # see `slowfast serve`
            settings = replace(settings, names=LOCAL_NAMES)
        return settings


class Model:
    """A replica: a whole server of its own, that is asked by the front instead of by a socket."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, built: str, how: dict[str, Any], settings: Settings
    ) -> None:
        check_version(built)
        # Here, and not above: the front, which loads no model, begins sooner and takes less.
        from slowfast_mllm.engine import load
        from slowfast_mllm.serve.app import create_app

        self._app = create_app(await asyncio.to_thread(load, **how), settings)
        self._life = self._app.router.lifespan_context(self._app)
        await self._life.__aenter__()

    async def __del__(self) -> None:
        if hasattr(self, "_life"):
            await self._life.__aexit__(None, None, None)

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """The messages with which the application answers a request, as they come.

        Args:
            scope: of ASGI, as far as it can be sent.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        whole: list[Message] = [{"type": "http.request", "body": body}]
        gone = asyncio.Event()

        async def receive() -> Message:
            if whole:
                return whole.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.put_nowait(message)

        task = asyncio.ensure_future(self._app(scope, receive, send))
        task.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                yield message
        finally:
            gone.set()  # the application gives up what nobody waits for

    async def told(self) -> tuple[str, bytes]:
        """Its name, and its metrics as Prometheus reads them."""
        name = serve.get_replica_context().replica_id.unique_id
        return name, generate_latest(self._app.state.house.metrics.registry)


@serve.ingress()
class Front:
    """Takes requests in, keeps uploads, and asks the replica that holds a video's memory."""

    async def __init__(  # type: ignore[misc]
        self, built: str, settings: Settings, model: Any
    ) -> None:
        check_version(built)
        self._settings = settings
        self._model = model

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_front(self._settings, self._answers, self._told)

    async def _answers(
        self, key: str, scope: dict[str, Any], body: bytes
    ) -> AsyncIterator[Message]:
        to = self._model.options(method_name="answer", session_id=key, stream=True)
        try:
            coming = to.remote(scope, body)
            try:
                async for message in coming:
                    yield message
            finally:
                coming.cancel()
        except BackPressureError as error:
            raise ApiError(
                429,
                "as many requests as the replicas hold are in the house; try again later",
                "busy",
                headers={"Retry-After": "1"},
            ) from error
        except RayTaskError:  # a fault of ours
            raise
        except (RayError, RayServeException) as error:
            raise ApiError(
                503,
                "the replica that was to answer is gone; ask again, another one will",
                "replica_gone",
                headers={"Retry-After": "1"},
            ) from error

    async def _told(self) -> list[tuple[str, bytes]]:
        """Of those that answer: one that has just died, or hangs, is left out."""
        try:
            coming = self._model.broadcast("told")
            found = await coming.results_async(timeout_s=5, return_exceptions=True)
        except (RayServeException, TimeoutError):  # there is none
            return []
        return [one for one in found if not isinstance(one, BaseException)]


def app(arguments: Arguments) -> serve.Application:
    """The application, for `serve.run`, `serve run` and Serve's config files.

    Raises:
        ValueError: its settings cannot be used.
    """
    settings = arguments.settings()
    if arguments.max_replicas < arguments.min_replicas:
        raise ValueError(
            f"max_replicas={arguments.max_replicas}: give at least min_replicas, "
            f"{arguments.min_replicas}."
        )
    how = arguments.model_dump(include={"model", "device", "dtype", "quantize"})
    model = serve.deployment(
        Model,
        ray_actor_options={"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus},
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.target_ongoing_requests or settings.max_batch,
        },
        max_ongoing_requests=settings.max_waiting,
        max_queued_requests=settings.max_waiting,
        graceful_shutdown_timeout_s=settings.deadline,
        max_constructor_retry_count=2,
        request_router_config={"request_router_class": _ROUTER},
    ).bind(_VERSION, how, settings)
    # One: an upload in parts is known to the front that began it. It computes nothing.
    front = serve.deployment(
        Front,
        num_replicas=1,
        max_ongoing_requests=10_000,
        graceful_shutdown_timeout_s=settings.deadline,
        ray_actor_options={"num_cpus": 0},
    )
    return front.bind(_VERSION, settings, model)


def check_version(built: str) -> None:
    """Refuse to begin on a machine with another version than that of who built the application."""
    if built != _VERSION:
        raise ValueError(
            f"this worker has slowfast-mllm {_VERSION}, and the application was built with "
            f"{built}; install the same on all machines."
        )

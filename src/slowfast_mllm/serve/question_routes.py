"""Routes of questions and jobs: `/v1/chat/completions`, `/v1/responses`, `/v1/jobs`, and of videos
that are looked at ahead."""

from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response

from slowfast_mllm.serve.arguments import Described, Looking, arguments_of, listed
from slowfast_mllm.serve.chat import ChatRequest, Completions
from slowfast_mllm.serve.desk import Desk
from slowfast_mllm.serve.guard import unless_gone
from slowfast_mllm.serve.jobs import Jobs
from slowfast_mllm.serve.responses import Responses, ResponsesRequest, in_its_names
from slowfast_mllm.serve.streams import event_stream


def question_routes(desk: Callable[[], Desk], who: Any) -> APIRouter:
    """The routes.

    Args:
        desk: gives that of the running server.
        who: gives the owner of a request.
    """
    routes = APIRouter()

    @routes.post("/v1/chat/completions", tags=["questions"])
    async def chat(request: Request, body: ChatRequest, owner: str = who) -> Response:
        """Ask about a video, in one turn or several."""
        completions = Completions(desk())
        said = await to_thread.run_sync(completions.check, body)
        if body.stream:
            return await event_stream(request, completions.events(body, said, owner))
        return JSONResponse(await unless_gone(request, completions.whole(body, said, owner)))

    @routes.post("/v1/responses", tags=["questions"])
    async def respond(request: Request, body: ResponsesRequest, owner: str = who) -> Response:
        """Ask about a video, in the form of OpenAI's newer API."""
        completions = Completions(desk())
        responses = Responses(completions)
        with in_its_names(body):
            asked = body.as_chat()
            said = await to_thread.run_sync(completions.check, asked)
        if body.stream:
            return await event_stream(request, responses.events(body, asked, said, owner))
        return JSONResponse(await unless_gone(request, responses.whole(body, asked, said, owner)))

    @routes.get("/v1/jobs", tags=["jobs"])
    async def jobs(owner: str = who) -> dict[str, Any]:
        """The jobs, with the JSON Schemas of their arguments and results."""
        return {"object": "list", "data": listed()}

    @routes.post("/v1/jobs/{job}", tags=["jobs"])
    async def do(
        request: Request, job: str, body: Annotated[dict[str, Any], Body()], owner: str = who
    ) -> Response:
        """Do a job with a video; see `GET /v1/jobs`."""
        arguments = arguments_of(job).model_validate(body)
        if isinstance(arguments, Described) and arguments.stream:
            return await event_stream(request, Jobs(desk()).events(arguments, owner))
        return JSONResponse(await unless_gone(request, Jobs(desk()).done(job, arguments, owner)))

    @routes.post("/v1/videos/{name}/memory", tags=["jobs"])
    async def remember(
        request: Request, name: str, body: Looking | None = None, owner: str = who
    ) -> Response:
        """Look at an uploaded video ahead of its first question."""
        wanted = (body or Looking()).looking()
        return JSONResponse(await unless_gone(request, _remembered(desk(), name, wanted, owner)))

    @routes.get("/v1/videos/{name}/memory", tags=["jobs"])
    async def looks(name: str, owner: str = who) -> dict[str, Any]:
        """How far the look at an uploaded video is, if there is one just now: `read` is the share
        that was read, from 0 to 1, and null before and after that."""
        look = desk().memories.look(desk().sources.files.get(name, owner).sha256)
        told = {"looking": look is not None, "read": look and look.read}
        return {"object": "video.look", "video": name, **told}

    return routes


async def _remembered(desk: Desk, name: str, wanted: dict[str, Any], owner: str) -> dict[str, Any]:
    async with desk.place(), desk.source(name, owner) as source:
        seen = await desk.memories.of(source, desk.sampling(wanted))
    return {
        "object": "video.memory",
        "video": name,
        "duration": seen.info.duration,
        "frames": {"indices": seen.frame_indices, "timestamps": seen.timestamps},
        "warnings": list(seen.info.warnings),
        "timing": seen.timing,
    }

"""`slowfast serve`: the HTTP API and the page."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.options import (
    Compile,
    Device,
    Dtype,
    Model,
    Quantize,
    Yes,
    cache_folder,
    load_model,
)
from slowfast_cli.terminal import say

_SAFETY, _LIMITS = "Who may do what", "Limits"


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at. Default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0: any that is free.")] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="Ask for API keys of this file (`slowfast keys add`).", rich_help_panel=_SAFETY
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<host>",
            help="Fetch videos by URL from this host; several may be given. Default: from none.",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<folder>",
            help="Read file:// URLs of videos in this folder; several may be given.",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder for uploads and memories. Default: in the user's cache."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(help="Answers written together.", rich_help_panel=_LIMITS)
    ] = 16,
    max_waiting: Annotated[
        int, typer.Option(help="Requests in the house at once.", rich_help_panel=_LIMITS)
    ] = 64,
    max_upload: Annotated[
        int, typer.Option(help="MiB of a video.", rich_help_panel=_LIMITS)
    ] = 1024,
    max_frames: Annotated[
        int, typer.Option(help="Frames looked at for a question.", rich_help_panel=_LIMITS)
    ] = 256,
    deadline: Annotated[
        float, typer.Option(help="Seconds for a request.", rich_help_panel=_LIMITS)
    ] = 300.0,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    compile: Compile = False,
    yes: Yes = False,
    daemon: Annotated[
        bool,
        typer.Option("--daemon", help="In the background; `slowfast stop` ends it."),
    ] = False,
) -> None:
    """Serve the model over HTTP: OpenAI's API, every job, and a page at /."""
    for folder in allow_folder or ():
        if not folder.is_dir():
            raise typer.BadParameter(f"--allow-folder={folder}: no such folder.")
    if daemon:
        from slowfast_cli.daemon import start

        start([word for word in sys.argv[2:] if word != "--daemon"], host, port)
        return
    try:
        import uvicorn

        from slowfast_mllm.serve.app import create_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed; `pip install 'slowfast-mllm[serve]'`."
        ) from error
    from slowfast_mllm.serve.settings import MIB, Settings

    place = data or (cache_folder() or Path.cwd() / ".slowfast") / "serve"
    settings = Settings(
        place=place,
        keys=keys,
        hosts=tuple(allow_host or ()),
        folders=tuple(allow_folder or ()),
        max_batch=max_batch,
        max_waiting=max_waiting,
        max_upload=max_upload * MIB,
        max_frames=max_frames,
        deadline=deadline,
    )
    assistant = load_model(
        model, True, yes=yes, device=device, dtype=dtype, quantize=quantize, compile=compile
    )
    app = create_app(assistant, settings)
    say(f"Serving {assistant.name} at http://{host}:{port} (process {os.getpid()})", err=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)

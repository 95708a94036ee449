"""`slowfast serve`: the HTTP API and the page."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.loading import cache_folder, load_model
from slowfast_cli.options import Compile, Device, Dtype, Model, Quantize, Yes
from slowfast_cli.terminal import say

_SAFETY = "Who may do what"


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at. Default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")
    ] = 8000,
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
    examples: Annotated[
        Path | None,
        typer.Option(metavar="<folder>", help="The page offers the videos of this folder."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of this server's uploads and memories. Default: in the user's cache."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with limits and other settings (docs/serving.md lists them).",
        ),
    ] = None,
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
    from slowfast_mllm.serve.settings import LOCAL_NAMES, Settings, read_settings

    named = [("allow-folder", folder) for folder in allow_folder or ()]
    named += [] if examples is None else [("examples", examples)]
    for option, folder in named:
        if not folder.is_dir():
            raise typer.BadParameter(f"--{option}={folder}: no such folder.")
    if keys is not None and not keys.is_file():
        raise typer.BadParameter(f"--keys={keys}: no such file; `slowfast keys add` makes one.")
    if keys is None and host not in LOCAL_NAMES:
        say(f"Warning: whoever reaches {host} may ask; --keys asks for a key.", err=True)
    if daemon:
        from slowfast_cli.daemon import start

        start([word for word in sys.argv[2:] if word != "--daemon"], host, port)
        return
    try:
        import fastapi  # noqa: F401 - what is missing is told first
        import uvicorn
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed; `pip install 'slowfast-mllm[serve]'`."
        ) from error
    from slowfast_mllm.serve.place import held, refuse_taken

    place = data or (cache_folder() or Path.cwd() / ".slowfast") / "serve" / str(port)
    settings = Settings(
        place=place,
        keys=keys,
        hosts=tuple(allow_host or ()),
        folders=tuple(allow_folder or ()),
        names=LOCAL_NAMES if keys is None and host in LOCAL_NAMES else (),
        examples=examples,
    )
    if config is not None:
        settings = replace(settings, **read_settings(config))
    url = f"http://{host}:{port}"
    with held(settings.place, url):
        refuse_taken(host, port)
        from slowfast_mllm.serve.app import create_app
        from slowfast_mllm.serve.connections import impatient

        assistant = load_model(
            model, True, yes=yes, device=device, dtype=dtype, quantize=quantize, compile=compile
        )
        app = create_app(assistant, settings)
        say(f"Serving {assistant.name} at {url} (process {os.getpid()})", err=True)
        uvicorn.run(
            app,
            host=host,
            port=port,
            http=impatient(settings.body_seconds),
            log_level="warning",
            server_header=False,
        )

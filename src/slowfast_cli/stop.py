"""`slowfast stop`: end a server that runs in the background."""

from typing import Annotated

import typer


def stop(
    port: Annotated[
        int | None, typer.Option(help="Of the server. Default: of the only one.")
    ] = None,
) -> None:
    """End a server that `slowfast serve --daemon` began; what runs is finished first."""
    from slowfast_cli import daemon

    found = [one for one in daemon.running() if port in (None, one.port)]
    if not found:
        where = "" if port is None else f" at port {port}"
        raise ValueError(f"no server runs in the background{where}; nothing is stopped.")
    if len(found) > 1:
        ports = ", ".join(f"--port {one.port}" for one in found)
        raise typer.BadParameter(f"{len(found)} servers run: say which ({ports}).")
    daemon.stop(found[0])

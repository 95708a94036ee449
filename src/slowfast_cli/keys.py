"""`slowfast keys`: who may ask a server."""

from pathlib import Path
from typing import Annotated

import typer

from slowfast_cli.loading import cache_folder
from slowfast_cli.terminal import say

keys = typer.Typer(
    help="API keys of a server: add, list and revoke them; it need not be restarted.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Who or what it is for.")]
File = Annotated[
    Path | None, typer.Option(help="The file of keys. Default: in the user's cache folder.")
]


def keys_file(given: Path | None) -> Path:
    """The file that is meant where none is named."""
    folder = cache_folder()
    if given is None and folder is None:
        raise typer.BadParameter("name the file of keys: --file keys.tsv")
    return given or (folder or Path()) / "keys"


@keys.command(epilog="Example: slowfast keys add laptop")
def add(name: Name, file: File = None) -> None:
    """Make a key and print it; it is shown this once."""
    from slowfast_mllm.serve.keys import Keys

    path = keys_file(file)
    say(Keys(path).add(name))
    say(f"Kept as a digest in {path}; serve with --keys {path}", err=True)


@keys.command(name="list", epilog="Example: slowfast keys list")
def list_(file: File = None) -> None:
    """Print name and day of each key."""
    from slowfast_mllm.serve.keys import Keys

    for key in Keys(keys_file(file)).all():
        say(f"{key.name}\t{key.made}")


@keys.command(epilog="Example: slowfast keys revoke laptop")
def revoke(name: Name, file: File = None) -> None:
    """Make a key worthless, at once."""
    from slowfast_mllm.serve.keys import Keys

    Keys(keys_file(file)).revoke(name)

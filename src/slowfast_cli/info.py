"""`slowfast info`: facts about a video, or about a checkpoint before it is loaded."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from slowfast_cli.options import Json


def info(
    target: Annotated[str, typer.Argument(help="A video, or a checkpoint (folder or hub id).")],
    json: Json = False,
) -> None:
    """Show facts about a video or a checkpoint."""
    facts = _facts(target)
    if json:
        typer.echo(json_module.dumps(facts, ensure_ascii=False, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):{width}}  {_shown(value)}")


def _facts(target: str) -> dict[str, Any]:
    path = Path(target)
    if (path / "config.json").is_file() or (not path.exists() and target.count("/") == 1):
        from slowfast_mllm.engine import describe_config

        return describe_config(target)
    from slowfast_mllm.video import probe_video

    return probe_video(target).to_dict()


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)

"""`slowfast models`: which models there are, what they need and can do, and which are here."""

from dataclasses import asdict

from slowfast_cli.options import Json
from slowfast_cli.terminal import say, say_json


def models(json: Json = False) -> None:
    """List models that --model takes by a short name; folders and other hub ids work too.

    GB are those of the download and of the weights in bfloat16, on top of which
    come frames and answers: `slowfast info MODEL --num-frames 64` estimates that
    for Slow-Fast models. Families that are not listed are tried, too.
    """
    from slowfast_mllm.engine.catalog import KNOWN, is_cached

    facts = [
        {**asdict(known), "weights_gb": known.weights_gb, "can": known.can,
         "cached": is_cached(known.id)}
        for known in KNOWN
    ]  # fmt: skip
    if json:
        say_json(facts)
        return
    wide = max(len(known.alias) for known in KNOWN)
    say(f"{'name':{wide}}  billion  download  weights  here  {'licence':13}  can")
    for known, fact in zip(KNOWN, facts, strict=True):
        here = "yes" if fact["cached"] else "-"
        say(
            f"{known.alias:{wide}}  {known.billions:7.2f}  {known.download_gb:5.1f} GB  "
            f"{known.weights_gb:4.1f} GB  {here:4}  {known.licence:13}  {', '.join(known.can)}"
        )
    say("\nWithout --model: slowfast-mini, which comes with the program.")

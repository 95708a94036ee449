"""What OpenAI's and vLLM's APIs know and this server does not do: refused by name, with advice;
values that ask for nothing pass in silence, as clients write them."""

from collections.abc import Mapping
from typing import Any

from slowfast_mllm.serve.errors import wrong

_LEAVE = "leave it out"
_FORM = 'for an answer in a form of yours, use response_format with "type": "json_schema"'
_TEMPERATURE = "leave it out; temperature, top_p and stop are there"
_ALL_TURNS = "nothing is kept here: send all turns"
# Field -> values that ask for nothing (null does of all), and what to do instead of others.
_ELSEWHERE: dict[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((), "answers are text"),
    "background": ((False,), "ask without it, or with stream"),
    "conversation": ((), _ALL_TURNS),
    "frequency_penalty": ((0,), _TEMPERATURE),
    "function_call": (("none", "auto"), _FORM),
    "functions": (([],), _FORM),
    "guided_json": ((), _FORM),
    "include": (([],), _LEAVE),
    "logit_bias": (({},), _TEMPERATURE),
    "max_tool_calls": ((), _LEAVE),
    "min_p": ((0,), _TEMPERATURE),
    "modalities": (([], ["text"]), 'answers are text; say ["text"]'),
    "prediction": ((), _LEAVE),
    "presence_penalty": ((0,), _TEMPERATURE),
    "previous_response_id": ((), _ALL_TURNS),
    "prompt": ((), "say it in messages or input"),
    "reasoning": (({},), "leave it out; a model that thinks does, as long as the answer may be"),
    "reasoning_effort": (("none",), "leave it out; a model that thinks does"),
    "repetition_penalty": ((1,), _TEMPERATURE),
    "tool_choice": (("none", "auto"), _FORM),
    "tools": (([],), _FORM),
    "top_k": ((-1, 0), _TEMPERATURE),
    "verbosity": ((), "leave it out; max_completion_tokens bounds an answer"),
    "web_search_options": ((), _LEAVE),
}


def without_elsewhere(body: Any) -> Any:
    """The body of a request without what asks for nothing.

    Raises:
        ApiError: something is asked for that is not done here.
    """
    if not isinstance(body, Mapping):
        return body
    for name in _ELSEWHERE.keys() & body.keys():
        neutral, advice = _ELSEWHERE[name]
        if body[name] is not None and body[name] not in neutral:
            told = f"{name}: not done by this server; {advice}"
            raise wrong(told, name, "unsupported_parameter")
    return {name: value for name, value in body.items() if name not in _ELSEWHERE}

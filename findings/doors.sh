#!/usr/bin/env bash
# transformers: a video or image that is a dataclass (or has model_dump) reaches a processor as a
# dict, where it stands in a chat message. apply_chat_template turns dataclasses in messages into
# dicts before it collects the media, and only objects of other kinds are "left untouched". Decoders
# do return dataclasses: torchcodec's FrameBatch is one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "transformers==5.24.0" "jinja2==3.1.6"
cd "$work"
cat > look.py <<'PY'
from dataclasses import dataclass

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ProcessorMixin


@dataclass
class Frames:
    """As a decoder returns them."""

    data: list
    pts_seconds: list


class PlainFrames:
    """The same without the decorator."""

    def __init__(self, data, pts_seconds):
        self.data, self.pts_seconds = data, pts_seconds


class Processor(ProcessorMixin):
    """Says of which type the video is that it is called with."""

    def __init__(self, tokenizer, chat_template=None):
        super().__init__(tokenizer, chat_template=chat_template)

    def __call__(self, text=None, videos=None, **_):
        ((video,),) = videos if isinstance(videos[0], list) else [videos]
        return {"input_ids": [], "video": video}


tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "look": 1}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
processor = Processor(
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"),
    chat_template="{% for m in messages %}{{ m.role }} look{% endfor %}",
)
print("transformers", transformers.__version__)
seen = {}
for kind in (Frames, PlainFrames):
    video = kind([0, 1], [0.0, 0.5])
    messages = [{"role": "user", "content": [{"type": "video", "video": video}]}]
    out = processor.apply_chat_template(messages, tokenize=True, return_dict=True)
    seen[kind.__name__] = type(out["video"]).__name__
    print(f"{kind.__name__} in a message reaches the processor as {seen[kind.__name__]}")
raise SystemExit(seen != {"Frames": "dict", "PlainFrames": "PlainFrames"})
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" look.py

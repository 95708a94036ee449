"""Which keys a record, its turns and their parts may have; all others are refused by name."""

from collections.abc import Iterable, Mapping
from typing import Any

from slowfast_mllm.processing.clips import SAMPLING
from slowfast_mllm.processing.keys import unknown_key
from slowfast_mllm.train.record import RecordError

OF_RECORDS = (
    *("messages", "conversations", "conversation", "prompt", "chosen", "rejected", "system"),
    *("video", "videos", "image", "images", *SAMPLING),
)
OF_TURNS = ("role", "content", "from", "value", "loss", "weight")
OF_PARTS = {
    "text": ("type", "text"),
    "image": ("type", "image", "path", "url"),
    "video": ("type", "video", "path", "url", *SAMPLING),
}
# What data sets say about their records, and nothing that training could mean by it. Carried along
# like these is what begins with an underscore.
CARRIED = frozenset({
    "id", "idx", "index", "uid", "uuid", "record_id", "sample_id", "question_id",
    "conversation_id", "prompt_id", "video_id", "image_id", "clip_id", "name", "title",
    "source", "data_source", "dataset", "dataset_name", "subset", "split", "license",
    "author", "created", "created_at", "date", "timestamp", "version", "metadata", "meta",
    "info", "extra", "tags", "keywords", "category", "categories", "subcategory", "topic",
    "domain", "task", "task_name", "task_type", "type", "question_type", "capability",
    "difficulty", "level", "language", "lang", "locale", "quality", "score", "scores",
    "score_chosen", "score_rejected", "annotator", "model", "generator", "comment",
    "comments", "note", "notes", "duration", "width", "height", "resolution",
    "aspect_ratio", "size", "num_turns", "num_tokens", "hash", "md5", "sha256",
})  # fmt: skip


def check_keys(given: Mapping[str, Any], known: Iterable[str], where: str) -> set[str]:
    """The keys that are carried along; a key whose value is None counts as absent.

    Raises:
        RecordError: a key is neither known nor carried along.
    """
    names = {key for key, value in given.items() if value is not None}
    known = list(known)
    carried = {k for k in names if (k in CARRIED or k.startswith("_")) and k not in known}
    if wrong := unknown_key(names - carried, known):
        raise RecordError(f"{where}: {wrong} What begins with _ is carried along unread.")
    return carried

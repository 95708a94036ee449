"""What is asked about everyday things that a detector follows through a clip, and answered."""

from slowfast_mini.things.facts import Thing, ThingFacts, gather_things, sure_of
from slowfast_mini.things.names import BROADER, CLASSES, UNKNOWN_THINGS, find_names, named_things
from slowfast_mini.things.questions import TYPES, is_known_now, thing_questions
from slowfast_mini.things.scoring import score_thing

__all__ = [
    "BROADER",
    "CLASSES",
    "TYPES",
    "UNKNOWN_THINGS",
    "Thing",
    "ThingFacts",
    "find_names",
    "gather_things",
    "is_known_now",
    "named_things",
    "score_thing",
    "sure_of",
    "thing_questions",
]

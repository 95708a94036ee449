"""The wording of the questions and answers about this world in English."""

from __future__ import annotations

from collections.abc import Callable

from slowfast_mllm.world.language import Language, Reference

_MOVES = {
    "still": "stays still",
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
}
_CAMERA_MOVES = {
    "still": "stays still",
    "pan left": "pans to the left",
    "pan right": "pans to the right",
    "tilt up": "tilts up",
    "tilt down": "tilts down",
    "zoom in": "zooms in",
    "zoom out": "zooms out",
    "roll clockwise": "rolls clockwise",
    "roll counterclockwise": "rolls counterclockwise",
}
_DIRECTIONS = {
    "still": "It stays still",
    "left": "To the left",
    "right": "To the right",
    "up": "Up",
    "down": "Down",
}
_FADES = {
    "none": "It does not fade",
    "in": "It fades in from black",
    "out": "It fades out to black",
}
_CUTS = ("There are no cuts", "There is 1 cut", "There are 2 cuts")
_HAPPENINGS = {
    "text": "the text",
    "picture": "the inserted picture",
    "cut": "the cut",
    "change": "the change of color",
}


def _indefinite(reference: Reference) -> str:
    """For example "a red star"; a plural where all of a shape or colour are meant."""
    kind, *values = reference
    if kind == "all shape":
        return "crosses" if values[0] == "cross" else f"{values[0]}s"
    if kind == "all color":
        return f"{values[0]} objects"
    return _article(f"{values[0]} object" if kind == "color" else " ".join(values))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _definite(reference: Reference) -> str:
    """For example "the red star" or "the object that moves up"."""
    kind, *values = reference
    if kind == "motion":
        return f"the object that {_MOVES[values[0]]}"
    if kind == "changing":
        return "the object that changes color"
    return " ".join(["the", *values] if kind in ("shape", "both") else ["the", *values, "object"])


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"


def _jumps(count: int) -> str:
    return ("It does not jump", "Once", "Twice")[count] if count < 3 else f"{count} times"


def _describe(camera: str, *objects: tuple[tuple[str, ...], str, str, bool]) -> str:
    """``objects`` are colours, shape, motion, and whether it jumps."""
    parts = []
    for colors, shape, motion, jumps in objects:
        turns = f" that turns {colors[-1]}" if len(colors) > 1 else ""
        does = "jumps" if jumps else _MOVES[motion]
        parts.append(f"{_article(f'{colors[0]} {shape}')}{turns} {does}")
    text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    if camera != "still":
        text += f" while the camera {_CAMERA_MOVES[camera]}"
    return text[0].upper() + text[1:]


_SENTENCES: dict[str, Callable[..., str]] = {
    "color": lambda color: color.capitalize(),
    "shape": lambda shape: f"A {shape}",
    "direction": lambda motion: _DIRECTIONS[motion],
    "count": str,
    "object": lambda color, shape: f"The {color} {shape}",
    "picture": lambda color, shape: _article(f"{color} {shape}").capitalize(),
    "happening": lambda kind: _HAPPENINGS[kind].capitalize(),
    "start": lambda: "At the start",
    "when": lambda whole: f"At {_seconds(whole)}",
    "duration": lambda whole: f"For {_seconds(whole)}",
    "jumps": _jumps,
    "change": lambda color, shape, new: f"The {color} {shape} turns {new}",
    "no change": lambda: "No object changes its color",
    "no picture": lambda: "No other picture is shown",
    "camera": lambda motion: f"It {_CAMERA_MOVES[motion]}",
    "cuts": lambda count: _CUTS[count],
    "text": lambda glyph: f"It says {glyph}",
    "no text": lambda: "No text is shown",
    "fade": lambda kind: _FADES[kind],
    "yes": lambda: "Yes",
    "no": lambda: "No",
    "nothing": lambda: "No, nothing happens",
    "not seen": lambda: "I do not see one",
    "describe": _describe,
    "unknown": lambda: "I was not taught to tell that",
}


# {x}, {a} and {b} are things such as "the red circle"; the last wording of each is held out.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "color": (
        "What color is {x}?",
        "What colour is {x}?",
        "Which color does {x} have?",
        "Which colour does {x} have?",
        "What is the color of {x}?",
        "Tell me the color of {x}.",
        "{x}: what color is it?",
    ),
    "color first": (
        "What color is {x} at first?",
        "What colour does {x} have at the beginning?",
        "What color is {x} before it changes?",
        "Which color does {x} start with?",
    ),
    "color last": (
        "What color does {x} change to?",
        "What colour does {x} turn into?",
        "What color is {x} at the end?",
        "Which color does {x} have after the change?",
    ),
    "shape": (
        "What shape is {x}?",
        "What is the shape of {x}?",
        "Which shape does {x} have?",
        "What kind of shape is {x}?",
        "Tell me the shape of {x}.",
        "What shape does {x} have?",
    ),
    "direction": (
        "Which way does {x} move?",
        "In which direction does {x} move?",
        "Where does {x} go?",
        "What direction is {x} moving?",
        "How does {x} move?",
        "Where is {x} moving to?",
        "Does {x} move, and which way?",
    ),
    "count": (
        "How many objects are there?",
        "How many objects appear in the video?",
        "How many different objects are shown in total?",
        "Count the objects in the video.",
        "How many things appear in the whole clip?",
        "What is the number of objects in the video?",
    ),
    "count some": (
        "How many {plural} are there?",
        "How many {plural} appear in the video?",
        "Count the {plural}.",
        "How many {plural} can you see in total?",
    ),
    "order": (
        "Which comes first, {a} or {b}?",
        "What appears first, {a} or {b}?",
        "Which one appears earlier, {a} or {b}?",
        "Does {a} or {b} come first?",
        "Which is seen first: {a} or {b}?",
    ),
    "order later": (
        "Which comes later, {a} or {b}?",
        "What appears last, {a} or {b}?",
        "Which one shows up second, {a} or {b}?",
        "Does {a} or {b} come later?",
    ),
    "order last": (
        "Which object is the last one?",
        "Which object appears last?",
        "What is the last object to appear?",
        "Which object comes last?",
    ),
    "order after": (
        "Which object appears after {x}?",
        "Which object comes right after {x}?",
        "Which object appears next after {x}?",
        "What is the next object to appear after {x}?",
    ),
    "when": (
        "When does {x} appear?",
        "At what time does {x} appear?",
        "When do you first see {x}?",
        "When does {x} come into view?",
        "At which second does {x} show up?",
        "When is {x} first visible?",
    ),
    "when text": (
        "When does the text appear?",
        "When is the text shown?",
        "At what time does a letter or number flash?",
        "When does the character flash on the screen?",
    ),
    "when cut": (
        "When is the cut?",
        "When does the scene change?",
        "At what time is there a cut?",
        "At which second does the scene cut?",
    ),
    "camera": (
        "How does the camera move?",
        "What does the camera do?",
        "Which way does the camera move?",
        "Is the camera moving?",
        "What is the camera motion?",
        "Describe the camera movement.",
    ),
    "cuts": (
        "How many cuts are there?",
        "How many times does the scene change?",
        "Is there a cut in the video?",
        "Are there any cuts?",
        "Count the scene cuts.",
        "How many scene changes are in the video?",
    ),
    "text": (
        "What text is shown?",
        "What does the text say?",
        "Which letter or number flashes?",
        "What character is shown on the screen?",
        "Is there any text in the video?",
        "What is written in the video?",
        "Which letter or digit can be read?",
    ),
    "fade": (
        "Does the video fade?",
        "Is there a fade?",
        "Does the video fade in or out?",
        "Is there a fade to or from black?",
        "How does the video fade?",
        "Does it fade in from black or out to black?",
    ),
    "presence": (
        "Is there {any}?",
        "Is there {any} in the video?",
        "Do you see {any}?",
        "Can you see {any} anywhere?",
        "Does {any} appear?",
        "Does the video show {any}?",
    ),
    "describe": (
        "Describe the video.",
        "What happens in the video?",
        "What is happening?",
        "What do you see?",
        "Describe what you see in one sentence.",
        "What is the video about?",
        "Give me a short description.",
        "Summarize the clip.",
    ),
    "order events": (
        "What comes first, {a} or {b}?",
        "Which happens first, {a} or {b}?",
        "Which is earlier, {a} or {b}?",
        "Of {a} and {b}, which one is first?",
    ),
    "when gone": (
        "When does {x} disappear?",
        "At what time does {x} go away?",
        "When do you last see {x}?",
        "When is {x} gone?",
    ),
    "when change": (
        "When does {x} change color?",
        "At what time does {x} turn to another color?",
        "When does the color of {x} change?",
    ),
    "when picture": (
        "When is another picture shown for a moment?",
        "When does a single picture flash up?",
        "At what time is another picture inserted?",
    ),
    "speed": (
        "Which is faster, {a} or {b}?",
        "Which moves faster, {a} or {b}?",
        "What moves more quickly: {a} or {b}?",
        "Is {a} or {b} faster?",
    ),
    "speed slower": (
        "Which is slower, {a} or {b}?",
        "Which moves more slowly, {a} or {b}?",
        "Is {a} or {b} slower?",
    ),
    "duration": (
        "How long is {x} visible?",
        "For how long do you see {x}?",
        "How many seconds is {x} there?",
        "How long does {x} stay?",
    ),
    "repeat": (
        "How many times does {x} jump?",
        "How often does {x} jump?",
        "Count the jumps of {x}.",
        "What is the number of jumps of {x}?",
    ),
    "change": (
        "What changes its color?",
        "Which object changes color, and to which?",
        "Does anything change color?",
        "What change of color happens?",
        "Which object turns to another color?",
    ),
    "needle": (
        "Another picture is shown for a moment: what is on it?",
        "What does the picture show that flashes up?",
        "What is on the inserted picture?",
        "Is another picture inserted, and what does it show?",
        "For a moment the video shows something else: what is it?",
    ),
    "happens": (
        "Does anything happen in the video?",
        "Does anything happen?",
        "Is there anything going on?",
        "Is anything happening at all?",
    ),
    "moves": (
        "Does anything move?",
        "Is anything moving in the video?",
        "Do you see any movement?",
        "Is something in motion?",
    ),
    "enters": (
        "Does an object appear later on?",
        "Does a new object come into view?",
        "Does any object enter after the start?",
        "Does a further object join during the video?",
    ),
    "leaves": (
        "Does an object disappear?",
        "Does any object leave before the end?",
        "Does an object go away?",
        "Is there an object that vanishes?",
    ),
}

_UNKNOWN = (
    "Who is in the video?",
    "How many people are there?",
    "Is there a person in the video?",
    "What is the man doing?",
    "What is the woman wearing?",
    "What is the person saying?",
    "What does the speaker say at the end?",
    "Can you transcribe the speech?",
    "What sound do you hear?",
    "Is there music in the video?",
    "What song is playing?",
    "How loud is it?",
    "What language is spoken?",
    "Where was this filmed?",
    "What country is this?",
    "Which city is shown?",
    "What building is that?",
    "Is this indoors or outdoors?",
    "Is it day or night?",
    "What is the weather like?",
    "Is it raining?",
    "What season is it?",
    "How cold is it there?",
    "How does the person feel?",
    "Is the person happy or sad?",
    "What is the mood of the video?",
    "Is the video funny?",
    "What is the story?",
    "Why did they do that?",
    "What happens next after the video ends?",
    "What happened before the video started?",
    "Who made this video?",
    "When was this recorded?",
    "What camera was used?",
    "What brand is the phone?",
    "What logo is on the shirt?",
    "How much does it cost?",
    "What is the price on the tag?",
    "What is the name of the dog?",
    "What animal is in the video?",
    "Is there a cat?",
    "What breed is the dog?",
    "How many birds are flying?",
    "What car is this?",
    "What is the license plate number?",
    "How fast is the car going?",
    "Does the driver stop at the light?",
    "What color is the car?",
    "What colour is her hair?",
    "What color are the man's shoes?",
    "What food is being cooked?",
    "What are the ingredients?",
    "Is the soup tasty?",
    "What drink is on the table?",
    "Which team is winning?",
    "What is the score of the game?",
    "Who scored the goal?",
    "What sport are they playing?",
    "What is the player's number?",
    "How old is the child?",
    "Is the baby crying?",
    "What is written in the newspaper?",
    "What is the title of the book?",
    "What page is open?",
    "Is the door open or closed?",
    "What is in the box?",
    "What is behind the wall?",
    "What time does the clock show?",
    "What year is it?",
    "Is this a movie or a game?",
    "Which film is this from?",
    "Who is the actor?",
    "What is the actor's name?",
    "Is this person famous?",
    "Do they know each other?",
    "Are they friends?",
    "What are they talking about?",
    "Did the person lie?",
    "Is it dangerous?",
    "Is this legal?",
    "What tool is the worker holding?",
    "What is she holding in her left hand?",
    "Which hand is raised?",
    "What is the surgeon doing?",
    "Is the patient okay?",
    "What plant is that?",
    "Are the flowers fresh?",
    "How tall is the tree?",
    "How deep is the water?",
    "What material is the floor made of?",
    "What does it smell like?",
    "What is the capital of France?",
    "What is two plus three?",
    "Can you write me a poem?",
    "Tell me a joke.",
    "How are you today?",
    "What is your name?",
    "Summarize the lecture.",
    "What does the slide say about revenue?",
    "How do I fix this bike?",
    "What exercise is this?",
    "How many push-ups does he do?",
    "What instrument is played?",
    "What was the last word spoken?",
)

_PATTERNS = (
    "Is there a {thing} in the video?",
    "What is the {thing} doing?",
    "How many {thing}s can you see?",
    "What color is the {thing}?",
    "what colour is the {thing}",
    "Where is the {thing}?",
    "Does the {thing} move?",
    "When does the {thing} appear?",
    "Which way does the {thing} go?",
    "Describe the {thing}.",
    "Who owns the {thing}?",
    "What shape is the {thing}?",
    "Do you see the {thing}?",
)

_THINGS = (
    "person man woman girl boy dog cat horse bird fish cow car truck bus train plane boat bike "
    "house tree flower chair table lamp phone computer book bottle cup plate knife spoon pizza "
    "cake apple banana hat shirt shoe bag ball guitar piano robot drone bridge tower mountain "
    "river cloud door window clock mirror player teacher doctor driver singer baby elephant "
    "lion spider snake sandwich keyboard umbrella helmet ladder rocket candle"
)

ENGLISH = Language(
    templates=_TEMPLATES,
    happenings=_HAPPENINGS,
    definite=_definite,
    indefinite=_indefinite,
    sentences=_SENTENCES,
    mark=".",
    unknown=_UNKNOWN,
    patterns=_PATTERNS,
    things=tuple(_THINGS.split()),
    careless=True,
)

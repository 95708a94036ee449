"""Questions about what this world does not contain; the honest answer is always the same."""

from __future__ import annotations

import numpy as np

UNKNOWN_ANSWER = "I was not taught to tell that."

_FIXED = (
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
    "lion spider snake sandwich keyboard camera screen umbrella helmet ladder rocket candle"
)


def sample_unknown(rng: np.random.Generator) -> str:
    """A question that cannot be answered from what this world can show."""
    if rng.random() < 0.6:
        question = str(rng.choice(_FIXED))
    else:
        thing = str(rng.choice(_THINGS.split()))
        question = str(rng.choice(_PATTERNS)).format(thing=thing)
        if thing[0] in "aeiou":
            question = question.replace(f" a {thing}", f" an {thing}")
    return question

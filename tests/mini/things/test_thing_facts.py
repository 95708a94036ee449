"""What tracks tell by rule: named where sure, silent where not."""

import numpy as np
import pytest
from thing_tokens import NAMES, Box, tokens, track

from slowfast_mini.things import ThingFacts, gather_things

FRAMES = 16


def facts(*tracks: dict[int, np.ndarray], num_frames: int = FRAMES, **options: bool) -> ThingFacts:
    times = np.arange(num_frames) * 0.5
    return gather_things(tokens(num_frames, *tracks), times, num_frames * 0.5, **options)


@pytest.mark.parametrize(
    ("frames", "score", "seen", "perhaps"),
    [
        (3, 0.5, True, False),
        (2, 0.5, False, True),
        (16, 0.49, False, True),
        (1, 0.4, False, False),
    ],
)
def test_seen_where_three_frames_of_sixteen_are_sure(
    frames: int, score: float, seen: bool, perhaps: bool
) -> None:
    found = facts(track("dog", range(frames), score=score))
    assert ("dog" in found.seen) == seen
    assert ("dog" in found.perhaps) == perhaps
    assert ("dog" in found.absent) == (not seen and not perhaps)


def test_a_picture_needs_one_sure_frame() -> None:
    assert list(facts(track("dog", [0], score=0.6), num_frames=1).seen) == ["dog"]


def test_a_track_that_flickers_between_cat_and_dog_is_one_animal() -> None:
    animal = track("dog", range(FRAMES), score=0.7)
    for frame in range(0, FRAMES, 3):
        animal[frame][NAMES.index("dog")], animal[frame][NAMES.index("cat")] = 0.3, 0.7
    found = facts(animal)
    assert list(found.seen) == ["dog"]
    assert "cat" not in found.absent  # nor is it denied


def test_things_are_counted_where_they_are_seen_and_people_over_all_frames() -> None:
    dogs = [track("dog", range(6)), track("dog", range(6), (0.2, 0.5, 0.1, 0.1))]
    assert facts(*dogs).seen["dog"].count == 2
    people = [track("person", range(FRAMES)), track("person", range(6), (0.2, 0.5, 0.1, 0.3))]
    assert facts(*people).people == 1
    assert facts(*dogs).people == 0


def test_when_it_comes_and_goes_and_comes_again() -> None:
    thing = facts(track("dog", [*range(4, 7), *range(10, 14)])).seen["dog"]
    assert [(i.first, i.last) for i in thing.intervals] == [(2.0, 3.0), (5.0, 6.5)]
    assert thing.appears == 1.75
    assert thing.leaves == 6.75
    assert thing.seconds == pytest.approx(3.25 - 1.75 + 6.75 - 4.75)


def test_short_gaps_and_misses_at_the_ends_are_closed() -> None:
    thing = facts(track("dog", [*range(1, 7), *range(8, 15)])).seen["dog"]
    assert len(thing.intervals) == 1
    assert thing.appears is None
    assert thing.leaves is None


@pytest.mark.parametrize(("x", "side"), [(0.1, "left"), (0.5, "middle"), (0.9, "right")])
def test_sides(x: float, side: str) -> None:
    thing = facts(track("dog", range(FRAMES), (x, 0.5, 0.1, 0.1))).seen["dog"]
    assert (thing.side, thing.first_side, thing.last_side) == (side, side, side)


def test_what_crosses_the_picture_is_on_no_side() -> None:
    crossing = track("dog", range(FRAMES), lambda t: (0.05 + 0.06 * t, 0.5, 0.1, 0.1))
    thing = facts(crossing).seen["dog"]
    assert (thing.side, thing.first_side, thing.last_side) == (None, "left", "right")


@pytest.mark.parametrize(
    ("step", "growth", "motion", "moves"),
    [
        ((0.03, 0.0), 1.0, "right", True),
        ((-0.03, 0.005), 1.0, "left", True),
        ((0.0, 0.03), 1.0, "down", True),
        ((0.0, -0.03), 1.0, "up", True),
        ((0.0, 0.0), 1.06, "nearer", True),
        ((0.0, 0.0), 0.94, "away", True),
        ((0.001, 0.0), 1.0, "still", False),
        ((0.02, 0.02), 1.0, None, True),  # askew
        ((0.006, 0.0), 1.0, None, None),  # is that moving?
    ],
)
def test_direction(
    step: tuple[float, float], growth: float, motion: str | None, moves: bool | None
) -> None:
    def box(t: int) -> Box:
        size = 0.2 * growth ** (t - 8)
        return 0.5 + step[0] * (t - 8), 0.5 + step[1] * (t - 8), size, size

    thing = facts(track("car", range(FRAMES), box)).seen["car"]
    assert (thing.motion, thing.moves) == (motion, moves)


@pytest.mark.parametrize(
    ("name", "rgb", "color"),
    [
        ("car", (0.8, 0.1, 0.1), "red"),
        ("cup", (0.95, 0.95, 0.95), "white"),
        ("dog", (0.1, 0.1, 0.1), "black"),
        ("banana", (0.93, 0.82, 0.2), "yellow"),
        ("car", (0.15, 0.5, 0.5), None),  # teal
        ("dog", (0.71, 0.65, 0.57), None),  # a white one with brown patches
        ("person", (0.8, 0.1, 0.1), None),
        ("bicycle", (0.8, 0.1, 0.1), None),  # one sees through it
    ],
)
def test_plain_colors(name: str, rgb: tuple[float, float, float], color: str | None) -> None:
    assert facts(track(name, range(FRAMES), rgb=rgb)).seen[name].color == color


def test_near_means_side_by_side() -> None:
    found = facts(
        track("dog", range(FRAMES), (0.3, 0.5, 0.2, 0.2)),
        track("person", range(FRAMES), (0.45, 0.5, 0.15, 0.5)),
        track("car", range(FRAMES), (0.9, 0.5, 0.1, 0.1)),
    ).seen
    assert found["dog"].near == ("person",)
    assert found["car"].near == ()


def test_other_shapes_are_told() -> None:
    with pytest.raises(ValueError, match=r"objects \(4, 10, 80\) and times \(4,\)"):
        gather_things(np.zeros((4, 10, 80)), np.arange(4.0), 2.0)

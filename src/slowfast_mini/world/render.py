"""Draw a script: pixels of any number of frames at any size, all frames at once.

Every frame depends on the script and its own time only, so the same time gives the same picture
whichever other times are drawn with it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from slowfast_mini.world.backgrounds import Window, dull_color, photo, texture
from slowfast_mini.world.colors import RGB
from slowfast_mini.world.geometry import State, camera_at, distractor_center, during, evaluate
from slowfast_mini.world.script import Distractor, Flash, Needle, Object, Script, stream
from slowfast_mini.world.sprites import EXTENT, glyph_masks, sample_table, shape_table

Floats = npt.NDArray[np.float64]

_NOISE_BANK = 1 << 20
_ADAPTS = 0.2  # seconds in which a camera sets its exposure


@dataclass(frozen=True)
class Look:
    """How a clip is lit and filmed; one random draw per clip.

    ``tone`` is (gamma, gain, lift), ``tint`` a factor per channel, ``soft`` the width of edges
    in pixels of a 96 pixel frame, ``noise`` the sensor noise, ``blur`` the deviation of the defocus
    in pixels of a 96 pixel frame, ``flicker`` (amplitude, hertz, phase) of the exposure,
    ``exposures`` (time, gain from then on) of a camera that sets it anew by itself, ``quality``
    that of JPEG, 0 for none, and ``posts`` (place, width, grey, upright) what stands between
    camera and world.
    """

    tone: tuple[float, float, float]
    tint: RGB
    soft: float
    noise: float
    vignette: float
    blur: float
    flicker: tuple[float, float, float]
    quality: int
    posts: tuple[tuple[float, float, float, bool], ...]
    exposures: tuple[tuple[float, float], ...]

    def apply(self, colors: torch.Tensor) -> torch.Tensor:
        """Tone and tint of colours (..., 3, H, W) in [0, 1]."""
        gamma, gain, lift = self.tone
        tint = torch.tensor(self.tint)[:, None, None]
        return (colors.clamp(0, 1) ** gamma * (gain * tint) + lift).clamp(0, 1)

    def color(self, rgb: RGB) -> torch.Tensor:
        """One colour (3,) as it looks in this clip."""
        return self.apply(torch.tensor(rgb, dtype=torch.float32)[:, None, None])[:, 0, 0]


def sample_look(seed: int) -> Look:
    """The look of the clip with this number."""
    rng = stream(seed, "look")
    gain = rng.uniform(0.78, 1.0)
    tint = 1.0 + rng.uniform(-0.05, 0.05, size=3)
    return Look(
        tone=(rng.uniform(0.8, 1.25), gain, rng.uniform(0.0, min(0.06, 1.0 - gain))),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        soft=float(rng.uniform(0.8, 2.0)),
        noise=float(rng.choice([0.0, 0.5, 1.0]) * rng.uniform(0.01, 0.04)),
        vignette=float(rng.uniform(0.0, 0.35)) if rng.random() < 0.5 else 0.0,
        blur=float(rng.uniform(0.4, 1.1)) if rng.random() < 0.3 else 0.0,
        flicker=(
            float(rng.uniform(0.02, 0.12)) if rng.random() < 0.3 else 0.0,
            float(rng.uniform(0.05, 0.4)),
            float(rng.uniform(0.0, 6.3)),
        ),
        quality=int(rng.integers(15, 60)) if rng.random() < 0.3 else 0,
        posts=tuple(
            (
                float(rng.uniform(0.05, 0.95)),
                float(rng.uniform(0.02, 0.05)),
                float(rng.uniform(0.15, 0.8)),
                bool(rng.random() < 0.7),
            )
            for _ in range(int(rng.choice([0, 1, 2], p=[0.84, 0.1, 0.06])))
        ),
        exposures=_sample_exposures(rng),
    )


def _sample_exposures(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    if rng.random() >= 0.18:
        return ()
    times = 0.4 + np.cumsum(rng.uniform(0.5, 4.0, size=int(rng.integers(1, 4))))
    return tuple((float(t), float(rng.uniform(0.6, 1.25))) for t in times)


def render(
    script: Script, timestamps: Floats, size: int, photos: tuple[str, ...] = ()
) -> npt.NDArray[np.uint8]:
    """Frames (T, size, size, 3), uint8 RGB, of the clip at ``timestamps`` (T,) in seconds.

    ``photos`` are picture files for the backgrounds of half of the shots.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    look = sample_look(script.seed)
    state = evaluate(script, times)
    with torch.inference_mode():
        frames = _backgrounds(script, state, look, size, photos)
        pixels = frames.numpy()
        for blob in script.distractors:
            _draw_distractor(pixels, script, blob, times, state, look)
        for index, obj in enumerate(script.objects):
            _draw_object(pixels, script, index, obj, times, state, look)
        for place, width, grey, upright in look.posts:
            span = slice(round((place - width / 2) * size), round((place + width / 2) * size) + 1)
            at = (..., span) if upright else (..., span, slice(None))
            pixels[at] = look.color((grey,) * 3).numpy()[:, None, None]
        if script.needle is not None:
            _draw_needle(pixels, script, script.needle, state, look)
        if script.flash is not None:
            _draw_flash(pixels, script.flash, times, look)
        return film(frames, script, times, state, look)


def _window(script: Script) -> Window:
    """The part of the world that the camera can see in any shot."""
    times = np.array([t for s in script.shots for t in (s.start, s.end)])
    shot = np.repeat(np.arange(len(script.shots)), 2)
    offset, zoom, turn = camera_at(script, times, shot, shake=False)
    corner = (np.abs(np.cos(turn)) + np.abs(np.sin(turn))).max()
    pushed = max((abs(way) for _, *push in script.camera.jolts for way in push), default=0.0)
    half = 0.5 * corner / zoom.min() + script.camera.shake + pushed + 0.01
    low, high = 0.5 + offset.min(axis=0) - half, 0.5 + offset.max(axis=0) + half
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _backgrounds(
    script: Script,
    state: State,
    look: Look,
    size: int,
    photos: tuple[str, ...],
) -> torch.Tensor:
    """The plane of each frame's shot seen by the camera, float32 (T, 3, size, size)."""
    offset, zoom, turn = state.offset, state.zoom, state.turn
    window = _window(script)
    frames = torch.empty(len(zoom), 3, size, size)
    # Pixel centres, so that pictures of different sizes show the same place.
    axis = (np.arange(size) + 0.5) / size - 0.5
    for shot in np.unique(state.shot):
        rows = np.flatnonzero(state.shot == shot)
        seed = script.shots[shot].seed
        if photos and seed % 2:
            plane = photo(photos[seed // 2 % len(photos)], seed, window, round(size * 0.9))
        else:
            plane = texture(seed, window, round(size * 0.9))
        plane = look.apply(plane)
        used = rows[:1] if script.camera.rests else rows
        screen = torch.from_numpy(axis / zoom[used, None]).float()
        x, y = screen[:, None, :], screen[:, :, None]
        # Back from the screen to the world: the picture's turn undone.
        cos = torch.from_numpy(np.cos(turn[used])).float()[:, None, None]
        sin = torch.from_numpy(np.sin(turn[used])).float()[:, None, None]
        where = []
        for dim, world in enumerate((cos * x + sin * y, cos * y - sin * x)):
            world = world + torch.from_numpy(0.5 + offset[used, dim]).float()[:, None, None]
            span = window[dim + 2] - window[dim]
            where.append(2 * (world - window[dim]) / span - 1)
        grid = torch.stack(where, dim=-1)
        seen = F.grid_sample(
            plane.expand(len(used), -1, -1, -1), grid, padding_mode="border", align_corners=True
        )
        frames[torch.from_numpy(rows)] = seen
    return frames


def _patch(
    center: Floats, reach: float, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, Floats]:
    """Pixel rows (n, p, 1) and columns (n, 1, p) around centres (n, 2) and their offsets (px)."""
    half = int(np.ceil(reach)) + 1
    base = np.floor(center * size).astype(np.int64)
    steps = np.arange(-half, half + 1)
    rows = base[:, 1, None, None] + steps[None, :, None]
    columns = base[:, 0, None, None] + steps[None, None, :]
    dy = rows + 0.5 - center[:, 1, None, None] * size
    dx = columns + 0.5 - center[:, 0, None, None] * size
    return rows, columns, dx, dy


def _blend(
    pixels: npt.NDArray[np.float32],
    frame: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    alpha: npt.NDArray[np.float32],
    color: npt.NDArray[np.float32],
) -> None:
    """Lay colour (n, 3, p, p) with coverage (n, p, p) over pixels (T, 3, S, S), clipped."""
    size = pixels.shape[-1]
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size) & (alpha > 0.004)
    n, r, c = np.nonzero(inside)
    flat = pixels.reshape(len(pixels), 3, -1)
    at_frame, at = frame[n], rows[n, r, 0] * size + columns[n, 0, c]
    weight = alpha[n, r, c]
    for channel in range(3):
        old = flat[at_frame, channel, at]
        flat[at_frame, channel, at] = old + weight * (color[n, channel, r, c] - old)


def _draw_object(
    pixels: npt.NDArray[np.float32],
    script: Script,
    index: int,
    obj: Object,
    times: Floats,
    state: State,
    look: Look,
) -> None:
    """Draw one object into all the frames in which it is present."""
    frame = np.flatnonzero(state.alive[:, index])
    if len(frame) == 0:
        return
    rng = stream(script.seed, f"paint{index}")
    body = look.color(obj.rgb).numpy()[None].repeat(len(frame), axis=0)
    if obj.change is not None:
        body[times[frame] >= obj.change.time] = look.color(obj.change.rgb).numpy()
    outline = _outline_width(rng, obj.color, obj.change.color if obj.change else obj.color)
    radius = 0.5 * state.size[frame, index] * pixels.shape[-1]
    center = state.center[frame, index]
    angle = obj.angle + state.turn[frame]
    _draw_shape(pixels, frame, obj.shape, center, radius, angle, body, outline, look, rng)


def _draw_needle(
    pixels: npt.NDArray[np.float32], script: Script, needle: Needle, state: State, look: Look
) -> None:
    """Put the inserted picture in the place of the frames that show it."""
    frame = np.flatnonzero(state.needle)
    if len(frame) == 0:
        return
    rng = stream(script.seed, "paint needle")
    size = pixels.shape[-1]
    pixels[frame] = look.apply(texture(needle.seed, (0.0, 0.0, 1.0, 1.0), size)).numpy()
    body = look.color(needle.rgb).numpy()[None].repeat(len(frame), axis=0)
    outline = _outline_width(rng, needle.color, needle.color)
    radius = np.full(len(frame), 0.5 * needle.size * size)
    center, still = np.full((len(frame), 2), 0.5), np.zeros(len(frame))
    _draw_shape(pixels, frame, needle.shape, center, radius, still, body, outline, look, rng)


def _draw_shape(
    pixels: npt.NDArray[np.float32],
    frame: npt.NDArray[np.int64],
    shape: str,
    center: Floats,
    radius: Floats,
    angle: Floats,
    body: npt.NDArray[np.float32],
    outline: float,
    look: Look,
    rng: np.random.Generator,
) -> None:
    """Draw a shape into frames (n,): ``center`` (n, 2) in frame sides, ``radius`` (n,) in pixels,
    ``angle`` (n,), ``body`` (n, 3) its colour, ``outline`` in pixels of a 96 pixel frame.
    """
    size = pixels.shape[-1]
    scale = size / 96.0
    outline *= scale
    rows, columns, dx, dy = _patch(center, float(radius.max()) * 1.2 + outline, size)
    unit = radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = (cos * dx + sin * dy) / unit, (cos * dy - sin * dx) / unit
    distance = sample_table(shape_table(shape), x, y, EXTENT)[0].numpy() * unit
    soft = max(look.soft * scale, 0.8)
    fill = np.clip(0.5 - distance / soft, 0.0, 1.0).astype(np.float32)
    turn, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.16)
    shade = (1.0 - depth * (1 + x * np.cos(turn) + y * np.sin(turn)) / 2).astype(np.float32)
    color = body[:, :, None, None] * shade[:, None]
    alpha = fill
    if outline > 0:
        luma = body @ np.array([0.3, 0.59, 0.11], np.float32)
        rim = np.where(luma > 0.42, 0.05, 0.95).astype(np.float32)[:, None, None, None]
        alpha = np.clip(0.5 - (distance - outline) / soft, 0.0, 1.0).astype(np.float32)
        color = rim + fill[:, None] * (color - rim)
    _blend(pixels, frame, rows, columns, alpha, color)


def _draw_distractor(
    pixels: npt.NDArray[np.float32],
    script: Script,
    blob: Distractor,
    times: Floats,
    state: State,
    look: Look,
) -> None:
    """Draw a blob with a soft edge and a pattern that moves along with it."""
    rng = np.random.default_rng([blob.seed, 3])
    size = pixels.shape[-1]
    center = distractor_center(script, blob, times, state.shot)
    radius = (0.5 * blob.size * size * state.zoom)[:, None, None]
    rows, columns, dx, dy = _patch(center, float(radius.max()) * 1.1, size)
    stretch = float(rng.uniform(1.0, 2.2))
    x, y = dx / radius, dy / radius
    around = np.sqrt(x**2 + (stretch * y) ** 2)
    table = torch.from_numpy(rng.random((1, 1, 9, 9), dtype=np.float32))
    pattern = sample_table(table, np.clip(x, -1, 1), np.clip(y, -1, 1), 1.0)[0].numpy()
    # The pattern may eat into the outline: no two blobs are of one shape.
    alpha = np.clip((0.95 - around - 0.5 * pattern) * 6.0, 0.0, 1.0).astype(np.float32)
    color = look.apply(torch.from_numpy(dull_color(rng))[:, None, None]).numpy()[None]
    color = color * (0.55 + 0.8 * pattern)[:, None]
    _blend(pixels, np.arange(len(times)), rows, columns, alpha, color)


def _outline_width(rng: np.random.Generator, *colors: str) -> float:
    """Outline in pixels at 96, 0 for none.

    White, black and purple always need one: backgrounds come closest to these.
    """
    width = float(rng.uniform(0.9, 1.7))
    needed = {"white", "black", "purple"} & set(colors)
    return width if rng.random() < 0.5 or needed else 0.0


def _draw_flash(pixels: npt.NDArray[np.float32], flash: Flash, times: Floats, look: Look) -> None:
    """Draw the glyph over everything in the frames that see it."""
    frame = np.flatnonzero(during(flash, times))
    if len(frame) == 0:
        return
    size = pixels.shape[-1]
    radius = 0.5 * flash.size * size
    center = np.tile(np.array(flash.position), (len(frame), 1))
    rows, columns, dx, dy = _patch(center, radius, size)
    masks = glyph_masks(flash.glyph, "plate" if flash.plate else "halo")
    ink, under = sample_table(masks, dx / radius, dy / radius, 1.0).numpy()
    edge = np.clip(radius + 0.5 - np.maximum(np.abs(dx), np.abs(dy)), 0.0, 1.0)
    backing = look.color(flash.backing).numpy()[None, :, None, None]
    front = look.color(flash.color).numpy()[None, :, None, None]
    color = backing + ink[:, None] * (front - backing)
    alpha = (np.maximum(ink, under) * edge).astype(np.float32)
    _blend(pixels, frame, rows, columns, alpha, color)


@cache
def _noise_bank() -> torch.Tensor:
    """Normal noise shared by all clips, read at an offset that depends on clip and time."""
    return torch.from_numpy(np.random.default_rng(96).standard_normal(_NOISE_BANK, np.float32))


@cache
def _distance_squared(size: int) -> torch.Tensor:
    """Squared distance (size, size) from the centre, 1 in the corners."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    return (axis[:, None] ** 2 + axis[None, :] ** 2) / 2


def film(
    frames: torch.Tensor, script: Script, times: Floats, state: State, look: Look
) -> npt.NDArray[np.uint8]:
    """Fade, flicker, vignette, blur, noise, 8 bits and channels last, and compression."""
    size = frames.shape[-1]
    strength, hertz, phase = look.flicker
    gain = state.gain * (1 - strength * (1 + np.sin(2 * np.pi * hertz * times + phase)) / 2)
    level = 1.0
    for time, after in look.exposures:
        gain = gain * np.interp(times, (time, time + _ADAPTS), (1.0, after / level))
        level = after
    light = torch.from_numpy(gain).float()[:, None, None, None] * 255.0
    if look.vignette > 0:
        light = light * (1 - look.vignette * _distance_squared(size))
    frames *= light
    if look.blur > 0:
        frames = _blurred(frames, look.blur * size / 96.0)
    if look.noise > 0:
        bank, length = _noise_bank(), size * size
        for row, time in enumerate(times):
            # A millisecond clock: the same time has the same noise in every call.
            start = (script.seed * 7919 + round(time * 1000) * 104729) % (_NOISE_BANK // 2)
            grain = bank[start : start + length] if length <= _NOISE_BANK // 2 else None
            if grain is None:
                grain = bank.repeat(1 + length // _NOISE_BANK)[:length]
            frames[row] += 255.0 * look.noise * grain.view(1, size, size)
    done = frames.clamp_(0, 255).to(torch.uint8)
    pictures = done.permute(0, 2, 3, 1).contiguous().numpy()
    return _compressed(pictures, look.quality) if look.quality else pictures


def _blurred(frames: torch.Tensor, deviation: float) -> torch.Tensor:
    """Frames (T, 3, S, S) under a Gaussian."""
    reach = int(np.ceil(2.5 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    padded = F.pad(frames, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    once = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return F.conv2d(once, weights.view(1, 1, -1, 1))[:, 0].unflatten(0, frames.shape[:2])


def _compressed(pictures: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Each picture (T, S, S, 3) written as JPEG and read again."""
    result = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        result[row] = np.asarray(Image.open(file))
    return result

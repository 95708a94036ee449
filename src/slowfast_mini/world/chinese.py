"""The wording of the questions and answers about this world in Traditional Chinese."""

from __future__ import annotations

from collections.abc import Callable

from slowfast_mini.world.language import Language, Reference
from slowfast_mini.world.wording_files import FOLDER, read_wordings

COLOR_NAMES = {
    "red": "紅色",
    "orange": "橘色",
    "yellow": "黃色",
    "green": "綠色",
    "blue": "藍色",
    "purple": "紫色",
    "white": "白色",
    "black": "黑色",
}
SHAPE_NAMES = {
    "circle": "圓形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "星形",
    "cross": "十字形",
    "ring": "環形",
    "heart": "心形",
    "moon": "月亮形",
}
CAMERA_NAMES = {
    "still": "鏡頭不動",
    "pan left": "鏡頭向左搖",
    "pan right": "鏡頭向右搖",
    "tilt up": "鏡頭向上搖",
    "tilt down": "鏡頭向下搖",
    "zoom in": "鏡頭拉近",
    "zoom out": "鏡頭拉遠",
    "roll clockwise": "鏡頭順時針旋轉",
    "roll counterclockwise": "鏡頭逆時針旋轉",
}
_MOVES = {
    "still": "不動",
    "left": "向左移動",
    "right": "向右移動",
    "up": "向上移動",
    "down": "向下移動",
}
_FADES = {"none": "沒有淡入或淡出", "in": "從黑畫面淡入", "out": "淡出到黑畫面"}
_HAPPENINGS = {
    "text": "文字出現",
    "picture": "圖片插入",
    "cut": "畫面切換",
    "change": "物體變色",
}


_SYNONYMS = {
    "物體": ("東西", "圖形"),
    "圓形": ("圓",),
    "正方形": ("方形", "方塊"),
    "星形": ("星星",),
    "十字形": ("十字",),
    "環形": ("圓環", "環"),
    "心形": ("愛心",),
    "月亮形": ("月亮",),
    "色的": ("色",),
}


def _indefinite(reference: Reference) -> str:
    """For example "紅色的星形"; Chinese has neither articles nor plurals."""
    kind, *values = reference
    if kind.endswith("shape"):
        return SHAPE_NAMES[values[0]]
    if kind.endswith("color"):
        return f"{COLOR_NAMES[values[0]]}的物體"
    return _look(*values)


def _look(color: str, shape: str) -> str:
    return f"{COLOR_NAMES[color]}的{SHAPE_NAMES[shape]}"


def _definite(reference: Reference) -> str:
    """For example "紅色的星形" or "向上移動的物體"."""
    kind, *values = reference
    if kind == "motion":
        return f"{_MOVES[values[0]]}的物體"
    if kind == "changing":
        return "變色的物體"
    return _indefinite(reference) if values else "那個物體"


def _describe(camera: str, *objects: tuple[tuple[str, ...], str, str, bool]) -> str:
    parts = []
    for colors, shape, motion, jumps in objects:
        turns = f"變成{COLOR_NAMES[colors[-1]]}，" if len(colors) > 1 else ""
        does = "跳動" if jumps else _MOVES[motion]
        parts.append(f"{_look(colors[0], shape)}{turns}{does}")
    text = "，".join(parts)
    return text if camera == "still" else f"{text}，{CAMERA_NAMES[camera]}"


_SENTENCES: dict[str, Callable[..., str]] = {
    "color": lambda color: COLOR_NAMES[color],
    "shape": lambda shape: SHAPE_NAMES[shape],
    "direction": lambda motion: _MOVES[motion],
    "count": lambda count: f"{count} 個",
    "object": _look,
    "picture": _look,
    "happening": lambda kind: _HAPPENINGS[kind],
    "start": lambda: "一開始",
    "when": lambda whole: f"第 {whole} 秒",
    "duration": lambda whole: f"{whole} 秒",
    "jumps": lambda count: f"跳了 {count} 次" if count else "沒有跳",
    "change": lambda color, shape, new: f"{_look(color, shape)}變成{COLOR_NAMES[new]}",
    "no change": lambda: "沒有物體變色",
    "no picture": lambda: "沒有別的圖片",
    "camera": lambda motion: CAMERA_NAMES[motion],
    "cuts": lambda count: f"有 {count} 次剪接" if count else "沒有剪接",
    "text": lambda glyph: f"寫著 {glyph}",
    "no text": lambda: "沒有文字",
    "fade": lambda kind: _FADES[kind],
    "yes": lambda: "有",
    "no": lambda: "沒有",
    "nothing": lambda: "沒有，什麼都沒發生",
    "not seen": lambda: "我沒有看到",
    "describe": _describe,
    "unknown": lambda: "這個我沒有學過",
}

_TAUGHT, _HELD_OUT = read_wordings(FOLDER / "zh-TW")

CHINESE = Language(
    taught=_TAUGHT,
    held_out=_HELD_OUT,
    synonyms=_SYNONYMS,
    happenings=_HAPPENINGS,
    definite=_definite,
    indefinite=_indefinite,
    sentences=_SENTENCES,
    mark="。",
)

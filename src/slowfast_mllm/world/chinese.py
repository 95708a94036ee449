"""The wording of the questions and answers about this world in Traditional Chinese."""

from __future__ import annotations

from collections.abc import Callable

from slowfast_mllm.world.language import Language, Reference

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

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "color": (
        "{x}是什麼顏色？",
        "{x}的顏色是什麼？",
        "請說出{x}的顏色。",
        "{x}有什麼顏色？",
        "{x}的顏色是哪一種？",
        "請問{x}是什麼顏色？",
        "告訴我{x}的顏色。",
        "{x}是哪種顏色？",
    ),
    "color first": (
        "{x}一開始是什麼顏色？",
        "{x}變色之前是什麼顏色？",
        "{x}起初是什麼顏色？",
        "一開始{x}的顏色是什麼？",
        "{x}在開頭是什麼顏色？",
        "{x}原來是什麼顏色？",
    ),
    "color last": (
        "{x}變成什麼顏色？",
        "{x}最後是什麼顏色？",
        "{x}到最後是什麼顏色？",
        "{x}變色之後是什麼顏色？",
        "{x}的新顏色是什麼？",
        "{x}後來變成哪種顏色？",
    ),
    "shape": (
        "{x}是什麼形狀？",
        "{x}的形狀是什麼？",
        "請說出{x}的形狀。",
        "{x}有什麼形狀？",
        "請問{x}是什麼形狀？",
        "告訴我{x}的形狀。",
        "{x}長什麼形狀？",
        "{x}是哪種形狀？",
    ),
    "direction": (
        "{x}往哪個方向移動？",
        "{x}怎麼移動？",
        "{x}往哪裡走？",
        "{x}的移動方向是什麼？",
        "{x}向哪裡移動？",
        "請問{x}往哪邊走？",
        "告訴我{x}怎麼移動。",
        "{x}朝哪邊移動？",
    ),
    "speed": (
        "{a}和{b}，哪個比較快？",
        "哪個移動得比較快，{a}還是{b}？",
        "{a}和{b}之中哪個比較快？",
        "比較快的是{a}還是{b}？",
        "哪個動得快，{a}還是{b}？",
        "{a}還是{b}更快？",
    ),
    "speed slower": (
        "{a}和{b}，哪個比較慢？",
        "哪個移動得比較慢，{a}還是{b}？",
        "{a}和{b}之中哪個比較慢？",
        "比較慢的是{a}還是{b}？",
        "哪個動得慢，{a}還是{b}？",
        "{a}還是{b}更慢？",
    ),
    "count": (
        "有幾個物體？",
        "影片中出現幾個物體？",
        "一共有多少個物體？",
        "物體有幾個？",
        "總共出現幾個物體？",
        "告訴我物體的數量。",
        "你看到幾個物體？",
        "請數一數有幾個物體。",
    ),
    "count some": (
        "有幾個{plural}？",
        "影片中出現幾個{plural}？",
        "你看到幾個{plural}？",
        "總共有幾個{plural}？",
        "告訴我{plural}的數量。",
        "請數一數{plural}有幾個。",
    ),
    "order": (
        "{a}和{b}，哪個先出現？",
        "先出現的是{a}還是{b}？",
        "{a}和{b}之中哪個先出現？",
        "首先出現的是{a}還是{b}？",
        "你先看到{a}還是{b}？",
        "{a}還是{b}比較早出現？",
    ),
    "order later": (
        "{a}和{b}，哪個後出現？",
        "後出現的是{a}還是{b}？",
        "{a}和{b}之中哪個後出現？",
        "你後看到{a}還是{b}？",
        "第二個出現的是{a}還是{b}？",
        "{a}還是{b}比較晚出現？",
    ),
    "order last": (
        "最後出現的是什麼物體？",
        "哪個物體最後出現？",
        "你最後看到哪個物體出現？",
        "哪一個物體是最後出現的？",
        "請說出最後出現的物體。",
        "最後一個出現的物體是什麼？",
    ),
    "order after": (
        "{x}之後出現什麼物體？",
        "{x}出現以後，接著出現什麼物體？",
        "{x}之後是什麼物體？",
        "{x}出現後，下一個物體是什麼？",
        "看到{x}之後又看到什麼物體？",
        "接在{x}後面的是什麼物體？",
    ),
    "order events": (
        "{a}和{b}，哪個先發生？",
        "先{a}還是先{b}？",
        "{a}和{b}之中哪個先？",
        "比較早的是{a}還是{b}？",
        "哪個先發生，{a}還是{b}？",
        "{a}還是{b}比較早？",
    ),
    "when": (
        "{x}什麼時候出現？",
        "{x}在第幾秒出現？",
        "第幾秒可以看到{x}？",
        "你在第幾秒看到{x}？",
        "{x}幾秒時出現？",
        "請問{x}什麼時候出現？",
        "{x}從第幾秒開始出現？",
        "{x}何時出現？",
    ),
    "when gone": (
        "{x}什麼時候消失？",
        "{x}在第幾秒消失？",
        "{x}幾秒時消失？",
        "請問{x}什麼時候消失？",
        "{x}到第幾秒就看不到了？",
        "{x}何時不見？",
    ),
    "when change": (
        "{x}什麼時候變色？",
        "{x}在第幾秒變色？",
        "{x}幾秒時變色？",
        "請問{x}什麼時候變色？",
        "{x}從第幾秒換了顏色？",
        "{x}何時變色？",
    ),
    "when text": (
        "文字什麼時候出現？",
        "文字在第幾秒出現？",
        "第幾秒有文字？",
        "請問文字什麼時候出現？",
        "什麼時候看得到字母或數字？",
        "何時閃過文字？",
    ),
    "when picture": (
        "什麼時候插入別的圖片？",
        "第幾秒閃過別的圖片？",
        "第幾秒出現別的圖片？",
        "別的圖片什麼時候出現？",
        "請問何時插入別的圖片？",
        "何時閃過一張圖片？",
    ),
    "when cut": (
        "畫面什麼時候切換？",
        "第幾秒換場景？",
        "第幾秒有剪接？",
        "什麼時候切換畫面？",
        "請問什麼時候換場景？",
        "何時有剪接？",
    ),
    "duration": (
        "{x}出現多久？",
        "{x}出現幾秒？",
        "{x}停留多久？",
        "{x}總共出現幾秒？",
        "{x}在畫面上多久？",
        "看得到{x}的時間有多長？",
    ),
    "repeat": (
        "{x}跳了幾次？",
        "{x}跳幾下？",
        "{x}總共跳幾次？",
        "{x}有跳嗎？跳幾次？",
        "{x}跳躍的次數是多少？",
        "請數一數{x}跳了幾次。",
    ),
    "change": (
        "什麼東西變色了？",
        "哪個物體變色？變成什麼顏色？",
        "哪個物體改變顏色？",
        "什麼物體換了顏色？",
        "請說出變色的是什麼。",
        "有物體變色嗎？",
    ),
    "camera": (
        "鏡頭怎麼移動？",
        "鏡頭如何運動？",
        "攝影機怎麼動？",
        "鏡頭往哪裡動？",
        "請問鏡頭怎麼移動？",
        "攝影機如何移動？",
        "鏡頭做了什麼運動？",
        "鏡頭有在動嗎？怎麼動？",
    ),
    "cuts": (
        "有幾次畫面切換？",
        "場景換了幾次？",
        "影片中有剪接嗎？",
        "總共有幾次剪接？",
        "畫面切換了幾次？",
        "請問有幾個剪接？",
        "影片換了幾次場景？",
        "有多少次剪接？",
    ),
    "text": (
        "顯示什麼文字？",
        "閃過哪個字母或數字？",
        "畫面上寫什麼？",
        "讀得到什麼文字？",
        "請問畫面上是什麼字？",
        "看得到哪個字母或數字？",
        "有沒有文字？寫什麼？",
        "影片中有什麼文字？",
    ),
    "needle": (
        "插入的圖片上有什麼？",
        "閃過的圖片顯示什麼？",
        "別的圖片上有什麼？",
        "請問插入的圖片是什麼？",
        "閃過的那張圖上是什麼？",
        "有一瞬間出現別的圖片，是什麼？",
    ),
    "fade": (
        "影片有淡入或淡出嗎？",
        "有沒有淡入淡出？",
        "影片是淡入還是淡出？",
        "請問有淡入或淡出嗎？",
        "畫面是從黑變亮還是變黑？",
        "影片如何淡入或淡出？",
    ),
    "presence": (
        "有沒有{any}？",
        "影片中有{any}嗎？",
        "有出現{any}嗎？",
        "看得到{any}嗎？",
        "影片裡有{any}嗎？",
        "你有看到{any}嗎？",
        "請問有沒有{any}？",
        "影片裡有沒有出現{any}？",
    ),
    "happens": (
        "影片中有發生什麼嗎？",
        "有沒有發生什麼事？",
        "發生了什麼事嗎？",
        "影片裡有事情發生嗎？",
        "有發生任何事嗎？",
        "有什麼事情發生嗎？",
    ),
    "moves": (
        "有東西在移動嗎？",
        "有沒有東西在動？",
        "有什麼在動嗎？",
        "畫面裡有東西移動嗎？",
        "看得到移動嗎？",
        "影片裡有沒有東西在動？",
    ),
    "enters": (
        "後來有新的物體出現嗎？",
        "有沒有物體後來才出現？",
        "之後有物體出現嗎？",
        "有物體後來才進來嗎？",
        "影片中途有物體出現嗎？",
        "開始之後有別的物體進來嗎？",
    ),
    "leaves": (
        "有物體消失嗎？",
        "有沒有物體在結束前離開？",
        "有物體離開嗎？",
        "有東西中途消失嗎？",
        "結束之前有物體不見嗎？",
        "有哪個物體不見了嗎？",
    ),
    "describe": (
        "請描述這段影片。",
        "影片中發生什麼？",
        "你看到什麼？",
        "請說明你看到的內容。",
        "這段影片的內容是什麼？",
        "請用一句話描述影片。",
        "請說說影片裡有什麼。",
        "請簡短說明這段影片。",
    ),
}

_UNKNOWN = (
    "影片中有誰？",
    "有幾個人？",
    "那個男人在做什麼？",
    "那個女人穿什麼衣服？",
    "他在說什麼？",
    "你聽到什麼聲音？",
    "正在播放什麼歌？",
    "這是在哪裡拍的？",
    "這是哪個國家？",
    "這是室內還是室外？",
    "現在是白天還是晚上？",
    "天氣怎麼樣？",
    "有沒有下雨？",
    "那個人開心嗎？",
    "這個故事在講什麼？",
    "他們為什麼這麼做？",
    "影片結束之後會發生什麼事？",
    "這是誰拍的？",
    "這要多少錢？",
    "影片中有什麼動物？",
    "有沒有貓？",
    "這是什麼車？",
    "車牌號碼是多少？",
    "車子的顏色是什麼？",
    "在煮什麼菜？",
    "需要哪些材料？",
    "哪一隊贏了？",
    "比數是多少？",
    "他們在玩什麼運動？",
    "那個小孩幾歲？",
    "書名是什麼？",
    "時鐘顯示幾點？",
    "今年是哪一年？",
    "這是哪一部電影？",
    "演員叫什麼名字？",
    "他們是朋友嗎？",
    "這樣做危險嗎？",
    "她手上拿著什麼？",
    "這是什麼植物？",
    "法國的首都是哪裡？",
    "二加三等於多少？",
    "你叫什麼名字？",
    "請講一個笑話。",
    "這段演講的重點是什麼？",
)

_THINGS = (
    "人 男人 女人 女孩 男孩 狗 貓 馬 鳥 魚 車 公車 火車 飛機 船 房子 樹 花 椅子 桌子 電話 電腦 "
    "書 瓶子 杯子 盤子 刀 湯匙 蛋糕 蘋果 香蕉 帽子 鞋子 球 吉他 鋼琴 橋 山 河 雲 門 窗戶 老師 醫生"
)

CHINESE = Language(
    templates=_TEMPLATES,
    happenings=_HAPPENINGS,
    definite=_definite,
    indefinite=_indefinite,
    sentences=_SENTENCES,
    mark="。",
    unknown=_UNKNOWN,
    patterns=("有{thing}嗎？", "影片中有多少{thing}？", "{thing}在哪裡？", "{thing}是什麼顏色？"),
    things=tuple(_THINGS.split()),
    frames=(
        "請問{q}",
        "請告訴我，{q}",
        "影片中，{q}",
        "在這段影片裡，{q}",
        "你好，{q}",
        "{q}謝謝。",
        "我想知道：{q}",
    ),
    places=(),
    careless=False,
)

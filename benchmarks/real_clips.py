"""What the packaged model makes of real clips that it never saw, beside a rule on the same frames.

The rule is `slowfast_mini.things.gather_things` on what the detector of the model finds: what the
words could say. `--rule-only --tower FOLDER` measures it without any language model. Camera and
cuts are asked window by window, as the model knows clips of 4 to 12 seconds: the camera motion is
what most windows say, cuts are added up. Things are asked of the whole clip; when, where and which
way of the stretch that the truth names. What is asked is in `real_questions.py`, what is true in
`real_clips_truth.json`. Prints a Markdown table, a clip a row, and the totals.

    python benchmarks/real_clips.py --videos FOLDER [FOLDER ...] [--language zh-TW]
    python benchmarks/real_clips.py --photos FOLDER --labels FOLDER/labels.json

"always the same" is what the best answer that never looks would score. A fact is asked in two or
three wordings and counted each time.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_questions import (
    CHINESE,
    ENGLISH,
    IN_WINDOWS,
    NOT_SEEN,
    Question,
    questions_of,
    read_answer,
)
from real_scores import Scores, always_the_same, totals_table
from world_accuracy import TURN

from slowfast_mini import world
from slowfast_mini.things import ThingFacts, gather_things
from slowfast_mllm import SlowFast, load
from slowfast_mllm.model.nanodet import NanoDetModel
from slowfast_mllm.processing import SlowFastVideoProcessor
from slowfast_mllm.video import read_video

WINDOW = 10.0
_TRUTH = Path(__file__).with_name("real_clips_truth.json")
_BY_RULE = ("things", "presence", "people", "appears", "gone", "side", "direction", "color")
_MOST_TOKENS = 96  # a character is a token in Chinese


@dataclass(frozen=True)
class View:
    """What is shown of a clip: `pixels` (T, 3, h, w) as a tower wants them, `times` (T,) from near
    0 on, and how many `seconds` it is in all."""

    pixels: torch.Tensor
    times: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Tower:
    """A detector, and how frames are brought into its size."""

    model: NanoDetModel
    processor: SlowFastVideoProcessor

    def facts(self, view: View) -> ThingFacts:
        """What the rule makes of what it finds."""
        with torch.no_grad():
            found = self.model.detect(view.pixels.to(self.model.device, self.model.dtype))
            objects = self.model.link(found)
        return gather_things(objects.float().cpu().numpy(), view.times, view.seconds)


@dataclass(frozen=True)
class Told:
    """A question, what the model said, what that tells, P(yes) of yes/no, and what the rule tells;
    None where there is no model, no rule, or nothing told."""

    question: Question
    said: list[str]
    told: Any
    p_yes: float | None
    rule: Any


def main() -> None:
    options = _arguments()
    assistant = None if options.rule_only else load(options.model)
    tower = _tower(assistant, options)
    frames = options.frames or 32
    if assistant is not None:
        frames = options.frames or assistant.processor.video_processor.num_frames
    asker = Asker(assistant, tower, options.language, frames)
    columns = {"model": Scores(), "rule": Scores()}
    report = asker.clips(options, columns) if options.videos else asker.photos(options, columns)
    if options.videos:
        truths = json.loads(options.truth.read_text(encoding="utf-8"))["clips"]
        asked = ((part.question, truths[name]) for name, told in report.items() for part in told)
        columns["always the same"] = always_the_same(asked)
    here = {"model": assistant, "rule": tower}
    columns = {
        name: scores for name, scores in columns.items() if here.get(name, "other") is not None
    }
    print(f"\n{totals_table(columns)}")
    if options.json:
        told = {
            name: [
                vars(t) | {"question": vars(t.question) | {"truth": _plain(t.question.truth)}}
                for t in some
            ]
            for name, some in report.items()
        }
        figures = {name: scores.figures() for name, scores in columns.items()}
        text = json.dumps({"figures": figures, "told": told}, ensure_ascii=False, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, nargs="+", default=[], help="folders with clips")
    parser.add_argument("--truth", type=Path, default=_TRUTH, help="what is true of them")
    parser.add_argument("--photos", type=Path, help="folder with photos, asked as stills")
    parser.add_argument("--labels", type=Path, help="what is on the photos")
    parser.add_argument("--named", default="coco_test_", help="how the photos' names begin")
    parser.add_argument("--model", help="checkpoint; default: the packaged model")
    parser.add_argument("--language", choices=(ENGLISH, CHINESE), default=ENGLISH)
    parser.add_argument("--tower", type=Path, help="detector of the rule; default: the model's")
    parser.add_argument("--rule-only", action="store_true", help="ask no model; needs --tower")
    parser.add_argument("--frames", type=int, help="of each clip; default: as the model's")
    parser.add_argument("--json", type=Path, help="also write figures and all answers there")
    options = parser.parse_args()
    if not options.videos and not (options.photos and options.labels):
        parser.error("give --videos, or --photos with --labels")
    if options.videos and options.photos:
        parser.error("--videos and --photos are asked one by one")
    if options.rule_only and not options.tower:
        parser.error("--rule-only needs --tower")
    return options


def _tower(assistant: SlowFast | None, options: argparse.Namespace) -> Tower | None:
    if options.tower:
        model = NanoDetModel.from_pretrained(options.tower).eval()
        edge = model.config.image_size
        size = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge}}
        return Tower(model, SlowFastVideoProcessor(**size, fit="pad"))
    if assistant is None or assistant.model.config.object_config is None:
        return None
    return Tower(assistant.model.model.object_tower, assistant.processor.video_processor)


@dataclass(frozen=True)
class Asker:
    """Asks a model, a rule or both about clips and photos."""

    assistant: SlowFast | None
    tower: Tower | None
    language: str
    num_frames: int

    def clips(
        self, options: argparse.Namespace, columns: dict[str, Scores]
    ) -> dict[str, list[Told]]:
        """Ask about every clip that there is a truth of and that lies in one of the folders; a
        table row each."""
        truths = json.loads(options.truth.read_text(encoding="utf-8"))["clips"]
        places = ((name, folder / name) for name in truths for folder in options.videos)
        found = {name: path for name, path in places if path.exists()}
        if not found:
            raise SystemExit(f"{options.videos[0]}: none of the clips of {options.truth} in there.")
        report: dict[str, list[Told]] = {}
        for name, path in found.items():
            questions = questions_of(name, truths[name], self.language)
            told = self.ask_clip(path, questions)
            for part in told:
                count(part, truths[name], columns, self)
            cells = _cells(told, truths[name], self)
            if not report:
                print("| clip | " + " | ".join(cells) + " |\n" + "|---" * (len(cells) + 1) + "|")
            print(f"| {path.stem} | {' | '.join(cells.values())} |", flush=True)
            report[name] = told
        return report

    def photos(
        self, options: argparse.Namespace, columns: dict[str, Scores]
    ) -> dict[str, list[Told]]:
        """Ask what is on every photo."""
        labels = json.loads(options.labels.read_text(encoding="utf-8"))["files"]
        chosen = [e for e in labels if e["file"].startswith(options.named)]
        if not chosen:
            raise SystemExit(f"{options.labels}: no photo whose name begins with {options.named}.")
        report = {}
        for entry in chosen:
            truth = photo_truth(entry["labels"])
            asked = questions_of(entry["file"], truth, self.language)
            asked = [q for q in asked if q.kind in ("things", "presence")]
            told = self.ask_clip(options.photos / entry["file"], asked)
            for part in told:
                count(part, truth, columns, self)
            report[entry["file"]] = told
        print(f"{len(chosen)} photos")
        return report

    def ask_clip(self, path: Path, questions: list[Question]) -> list[Told]:
        """All answers about one clip, in the order of the questions."""
        whole = self._view(path)
        groups: dict[tuple[float, float] | None, list[Question]] = defaultdict(list)
        for question in questions:
            if question.kind not in IN_WINDOWS:
                groups[question.span].append(question)
        told: list[Told] = []
        for span, group in groups.items():
            view = whole if span is None else self._view(path, *span)
            facts = self._facts(view, path, span or (None, None))
            rule = [None if facts is None else by_rule(question, facts) for question in group]
            said, p_yes = self._said(view, [question.text for question in group])
            for row in zip(group, said, p_yes, rule, strict=True):
                question, answer, surety, ruled = row
                value = read_answer(question.kind, answer, self.language) if answer else None
                told.append(Told(question, [answer], value, surety, ruled))
        windowed = [question for question in questions if question.kind in IN_WINDOWS]
        if self.assistant is not None and windowed:
            told += self._in_windows(path, whole, windowed)
        return told

    def _processor(self) -> SlowFastVideoProcessor:
        if self.assistant is not None:
            return self.assistant.processor.video_processor
        assert self.tower is not None  # else there is nothing to ask
        return self.tower.processor

    def _view(self, path: Path, start: float | None = None, end: float | None = None) -> View:
        return view_of(path, self._processor(), self.num_frames, start, end)

    def _facts(
        self, view: View, path: Path, span: tuple[float | None, float | None]
    ) -> ThingFacts | None:
        if self.tower is None:
            return None
        if self.tower.processor is not self._processor():  # its frames are other ones
            view = view_of(path, self.tower.processor, self.num_frames, *span)
        return self.tower.facts(view)

    def _in_windows(self, path: Path, whole: View, questions: list[Question]) -> Iterator[Told]:
        views = [whole if span is None else self._view(path, *span) for span in windows(whole)]
        texts = [question.text for question in questions]
        said = [self._said(view, texts)[0] for view in views]
        for question, answers in zip(questions, zip(*said, strict=True), strict=True):
            values = [read_answer(question.kind, answer, self.language) for answer in answers]
            yield Told(question, list(answers), over_windows(question.kind, values), None, None)
        moves = next(question for question in questions if question.kind == "moves")
        still = views[0].pixels[:1].expand_as(views[0].pixels)
        frozen = View(still, views[0].times, views[0].seconds)
        answer = self._said(frozen, [moves.text])[0][0]
        question = Question("frozen", moves.text, False)
        yield Told(question, [answer], read_answer("moves", answer, self.language), None, None)

    def _said(self, view: View, texts: list[str]) -> tuple[list[str], list[float | None]]:
        """Answers, and P(yes) / (P(yes) + P(no)) at their first token."""
        if self.assistant is None:
            return [""] * len(texts), [None] * len(texts)
        return said_to(self.assistant, view, texts, self.language)


def view_of(
    path: Path,
    processor: SlowFastVideoProcessor,
    num_frames: int,
    start: float | None = None,
    end: float | None = None,
) -> View:
    """A stretch of a clip, its times beginning with the stretch."""
    seen = read_video(
        path, num_frames=num_frames, start=start, end=end, transform=processor.frame_transform()
    )
    times = seen.timestamps - (start or 0.0)
    step = float(np.diff(times).mean()) if len(times) > 1 else 0.0
    return View(processor.normalise(seen.frames), times, float(times[-1]) + step)


def windows(whole: View) -> list[tuple[float, float] | None]:
    """Bounds of stretches as long as the clips that the model knows; None: the whole clip."""
    number = max(math.ceil(whole.seconds / WINDOW - 0.2), 1)
    length = whole.seconds / number
    return [None] if number == 1 else [(i * length, (i + 1) * length) for i in range(number)]


def over_windows(kind: str, values: list[Any]) -> Any:
    """What the answers about all windows tell of the clip."""
    if kind == "camera":
        return Counter(values).most_common(1)[0][0]
    if kind == "cuts":
        return sum(value or 0 for value in values)
    return any(values)


def said_to(
    assistant: SlowFast, view: View, texts: list[str], language: str
) -> tuple[list[str], list[float | None]]:
    """Answers to all questions about a clip as one batch, and P(yes) of them as yes/no."""
    processor, model = assistant.processor, assistant.model
    times = torch.from_numpy(view.times)
    shape = (len(view.pixels), *view.pixels.shape[-2:])
    prompt = processor.token_layout.video_text(
        processor.video_token, times if processor.write_timestamps else None, *shape
    )
    with torch.no_grad():
        memory = model.encode_video(view.pixels.to(model.dtype), times)
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": TURN + text}], tokenize=False, add_generation_prompt=True
        ).replace(processor.video_token, prompt)
        for text in texts
    ]
    batch = processor.tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(
        **batch.to(model.device),
        video_memory=[memory] * len(texts),
        max_new_tokens=_MOST_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    yes, no = (
        processor.tokenizer.encode(
            world.LANGUAGES[language].say((word,)), add_special_tokens=False
        )[0]
        for word in ("yes", "no")
    )
    first = output.logits[0].float()
    new = output.sequences[:, batch.input_ids.shape[1] :]
    said = processor.batch_decode(new, skip_special_tokens=True)
    return said, (first[:, yes] - first[:, no]).sigmoid().tolist()


def by_rule(question: Question, facts: ThingFacts) -> Any:
    """The rule's answer to a question about things; None where it tells nothing."""
    if question.kind == "things":
        return list(facts.seen)
    if question.kind == "presence":
        return question.thing in facts.seen
    if question.kind == "people":
        return facts.people
    thing = facts.seen.get(question.thing or "")
    if thing is None:
        return NOT_SEEN
    fields = {"appears": "appears", "gone": "leaves", "direction": "motion"}
    return getattr(thing, fields.get(question.kind, question.kind), None)


def count(part: Told, truth: dict[str, Any], columns: dict[str, Scores], asker: Asker) -> None:
    """Score one answer of the model, and of the rule where it has an answer to such questions."""
    question = part.question
    if asker.assistant is not None:
        _count_one(question, part.told, truth, columns["model"], part.p_yes)
    if asker.tower is not None and question.kind in _BY_RULE:
        _count_one(question, part.rule, truth, columns["rule"], None)


def _count_one(
    question: Question, told: Any, truth: dict[str, Any], scores: Scores, p_yes: float | None
) -> None:
    if question.kind == "things":
        scores.add_things(told or (), question.truth, truth["doubtful"])
    elif question.kind == "camera":
        scores.add_camera(told, truth["camera"])
    else:
        scores.add(question, told, p_yes)


def photo_truth(labels: list[str]) -> dict[str, Any]:
    """The truth of a photo whose things are all labelled."""
    camera = {"moves": False, "kinds": []}
    return {"things": labels, "doubtful": [], "people": None, "camera": camera, "cuts": []}


_PLACED = ("appears", "gone", "side", "direction", "color")


def _cells(told: list[Told], truth: dict[str, Any], asker: Asker) -> dict[str, str]:
    """A clip's row by the names of its columns; of things, people, camera and cuts the answer to
    the first wording."""
    first = {t.question.kind: t for t in reversed(told) if t.question.wording == 0}

    def shown(kind: str, value: Any) -> str:
        return "–" if kind not in first or value is None else str(value)

    cells: dict[str, str] = {}
    people = first.get("people")
    for who, rule, there in (("", False, asker.assistant), (" by rule", True, asker.tower)):
        if there is None:
            continue
        cells[f"things{who}"] = _things(first["things"], rule, truth)
        cells[f"yes/no{who}"] = _share(told, ("presence",), rule)
        value = None if people is None else people.rule if rule else people.told
        cells[f"people{who}"] = shown("people", value)
        cells[f"when, where, way, color{who}"] = _share(told, _PLACED, rule)
    cells["people: true"] = shown("people", truth["people"])
    if asker.assistant is not None:
        camera = " or ".join(truth["camera"]["kinds"]) or "moves"
        cells["camera"] = shown("camera", first["camera"].told)
        cells["camera: true"] = camera if truth["camera"]["moves"] else "still"
        cells["cuts"] = shown("cuts", first["cuts"].told)
        cells["cuts: true"] = str(len(truth["cuts"]))
    return cells


def _things(part: Told, rule: bool, truth: dict[str, Any]) -> str:
    """Names with a mark each, and what is missing."""
    value = part.rule if rule else part.told
    if value is None:
        return "–"
    doubtful = {name: "" for name in truth["doubtful"]}
    marks = {name: " ✓" for name in part.question.truth} | doubtful
    cells = [f"{name}{marks.get(name, ' ✗')}" for name in value]
    return ", ".join(cells + [f"(no {n})" for n in truth["things"] if n not in value]) or "nothing"


def _share(told: list[Told], kinds: tuple[str, ...], rule: bool) -> str:
    scores = Scores()
    for part in told:
        if part.question.kind in kinds:
            scores.add(part.question, part.rule if rule else part.told)
    kinds = [hits for kind, hits in scores.right.items() if kind != "side found"]
    hits = [hit for some in (*scores.presence.values(), *kinds) for hit in some]
    return f"{sum(hits)} of {len(hits)}" if hits else "–"


def _plain(truth: Any) -> Any:
    return sorted(truth) if isinstance(truth, set) else truth


if __name__ == "__main__":
    main()

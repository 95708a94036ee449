// Turns as they are shown: what was asked, what came back, and what can be done with it.

import { make } from "./dom.js";
import { cuesOf, evidenceLines, linesOf } from "./results.js";
import { asCurl, asPython, asSubtitles, copy, download } from "./share.js";
import { t } from "./texts.js";

// An element for a turn. `go` seeks, `look` lays on the timeline what the turn says of times.
// turn: {job, words, state, n, text, result, error, cut, request: {path, body}, file}
export function shown(turn, go, look) {
  turn.element = make("article", { className: "turn" });
  turn.show = (changes = {}) => {
    Object.assign(turn, changes);
    const { job, words, state, text, result, error } = turn;
    const parts = [make("h3", { className: "question" }, job === "ask" ? words : [t(`jobs.${job}`), words].filter(Boolean).join(": "))];
    if (result) parts.push(lines("answer", linesOf(turn), go));
    else if (text) parts.push(lines("answer", [[text]], go));
    if (state === "refused") parts.push(make("p", { className: "refused", role: "alert" }, error));
    else if (state !== "done") parts.push(make("p", { className: "state" }, t(`states.${state}`, turn)));
    if (job === "ask" && result) parts.push(lines("evidence", evidenceLines(result), go));
    if (result) parts.push(lines("meta", metaLines(turn), go), actions(turn, look));
    turn.element.replaceChildren(...parts);
  };
  turn.show();
  return turn.element;
}

function lines(className, told, go) {
  const piece = (part) => {
    if (typeof part === "string") return part;
    const onclick = (event) => {
      event.preventDefault();
      go(part.seconds, part.pause);
    };
    return make("a", { href: `#t=${part.seconds}`, className: "time", onclick }, part.text);
  };
  return make("div", { className }, ...told.map((line) => make("p", {}, ...line.map(piece))));
}

function metaLines({ result: { timing, frames, model, warnings }, cut }) {
  const { tokens, ...stages } = timing;
  const seconds = Object.values(stages).reduce((sum, value) => sum + value, 0).toFixed(1);
  const told = frames ? t("meta", { frames: frames.indices.length, seconds, model }) : t("measured", { seconds });
  return [told, ...(cut ? [t("cut")] : []), ...warnings].map((line) => [line]);
}

function actions(turn, look) {
  const { file, job, request, result } = turn;
  const stem = `${file.name.replace(/(?<=.)\.[^.]*$/, "")}.${job}`;
  const row = make("div", { className: "actions" });
  const add = (label, onclick) => row.append(make("button", { className: "quiet", onclick }, t(label)));
  if (job !== "ask" || result.evidence) add("look", look);
  add("curl", () => copy(asCurl(request, file.name), `${stem}.sh`));
  add("python", () => copy(asPython(request, file.name), `${stem}.py`));
  add("json", () => download(`${stem}.json`, JSON.stringify(result, null, 2), "application/json"));
  const cues = cuesOf(turn);
  if (cues.length) add("vtt", () => download(`${stem}.vtt`, asSubtitles(cues), "text/vtt"));
  return row;
}

// What is told of each job's result: lines for people, lanes for the timeline, cues for subtitles.
// A line is a list of strings and moments {text, seconds, pause}.

import { moments, percent, span, told } from "./times.js";
import { t } from "./texts.js";

const moment = (seconds, text = told(seconds)) => ({ text, seconds });
const between = ({ start, end }) => moment(start, span(start, end));
const frame = (one) => ({ text: told(one.timestamp), seconds: one.timestamp, pause: true });

export function linesOf(turn) {
  const result = turn.result;
  if (turn.job === "ask") return [moments(turn.text || t("silent"), result?.video.duration ?? Infinity)];
  return { cuts: cutLines, events: eventLines, ground: groundLines, facts: factLines }[turn.job](result);
}

// What the answer looked at.
export function evidenceLines({ evidence }) {
  if (!evidence || !evidence.top.some((one) => one.weight > 0)) return [];
  const { spans, top } = evidence;
  const share = (one) => ` (${percent(one.weight)} %)`;
  const listed = (parts) => parts.flatMap((part, number) => (number ? [", ", ...part] : part));
  const frames = listed(top.map((one) => [frame(one), share(one)]));
  if (!spans.length) return [[t("spread"), " ", ...frames]];
  return [[t("readMost"), " ", ...listed(spans.map((one) => [between(one), share(one)]))], [t("frameList"), " ", ...frames]];
}

function cutLines({ cuts }) {
  if (!cuts.length) return [[t("noCuts")]];
  const kinds = { cut: t("cut1"), gradual: t("gradual"), fade: t("fade") };
  return [[t("cutsAt", { n: cuts.length })], ...cuts.map((cut) => [moment(cut.time), ` ${kinds[cut.kind]}`])];
}

const eventLines = ({ events }) => events.map((event) => [between(event), ` ${event.text}`]);

function groundLines({ found, spans, curve }) {
  const sure = (part) => [between(part), ` ${t("sure", { share: percent(part.score) })}`];
  if (found) return [[t("found")], ...spans.map(sure)];
  if (!curve.length) return [[t("nowhere")]];
  const best = curve.reduce((one, other) => (other.score > one.score ? other : one));
  return [[t("notFound", { share: percent(best.score) }), " ", between(best)]];
}

function factLines(result) {
  const lines = result.cuts ? cutLines(result) : [];
  for (const [number, shot] of result.shots.entries()) {
    lines.push([between(shot), ` ${t("shot", { n: number + 1 })}: ${filmed(shot)}`]);
  }
  for (const [kind, parts] of Object.entries(light(result))) {
    lines.push(...parts.map((part) => [between(part), ` ${called(kind, part)}`]));
  }
  if (!result.sound?.length) lines.push([t(result.sound ? "silence" : "noSound")]);
  for (const part of result.sound ?? []) lines.push([between(part), ` ${t("heard")}`]);
  return lines;
}

function move({ kind, direction }) {
  return [t(`kinds.${kind}`), direction && t(`directions.${direction}`)].filter(Boolean).join(" ");
}

function filmed({ camera }) {
  if (!camera) return t("cameraUnknown");
  return camera.map(move).join(", ") || t("cameraStill");
}

const light = ({ fades, black, freezes }) => ({ black, freeze: freezes, fade: fades });
const called = (kind, part) => t(part.kind ?? kind);

export function lanesOf(turn) {
  const result = turn.result;
  const marks = (parts, text) =>
    parts.map((part, number) => {
      const label = text(part, number);
      return { start: part.start, end: part.end, label, text: `${span(part.start, part.end)}: ${label}` };
    });
  const lane = (id, label, found, more = {}) => ({ id, label, marks: found, ...more });
  const shots = (parts) => lane("cuts", t("lanes.cuts"), marks(parts, (_, number) => t("shot", { n: number + 1 })));
  if (turn.job === "ask") return result.evidence ? [evidenceLane(turn)] : [];
  if (turn.job === "cuts") return [shots(result.shots)];
  if (turn.job === "events") return [lane("events", t("lanes.events"), marks(result.events, (event) => event.text))];
  if (turn.job === "ground") {
    const found = marks(result.spans, (part) => t("sure", { share: percent(part.score) }));
    const heat = result.curve.map(({ start, end, score }) => ({ start, end, value: score }));
    return [lane(`ground ${turn.words}`, t("lanes.ground", turn), found, { heat })];
  }
  const moves = result.shots.flatMap((shot) => shot.camera ?? []);
  return [
    ...(result.cuts ? [shots(result.shots)] : []),
    ...(moves.length ? [lane("camera", t("lanes.camera"), marks(moves, move))] : []),
    ...Object.entries(light(result)).flatMap(([kind, parts]) =>
      parts.length ? [lane(kind, t(kind), marks(parts, (part) => called(kind, part)))] : [],
    ),
    ...(result.sound?.length ? [lane("sound", t("lanes.sound"), marks(result.sound, () => t("heard")))] : []),
  ];
}

function evidenceLane({ result: { evidence, frames, video }, words }) {
  const most = Math.max(...evidence.weights) || 1;
  const ends = [...frames.timestamps.slice(1), video.duration];
  return {
    id: "evidence",
    label: t("evidenceLane", { words }),
    heat: frames.timestamps.map((start, at) => ({ start, end: ends[at], value: evidence.weights[at] / most })),
    marks: evidence.top
      .map((one) => ({ ...one, start: one.timestamp, end: one.timestamp, pause: true }))
      .sort((one, other) => one.start - other.start)
      .map((one) => ({ ...one, text: t("frameMark", { time: told(one.start), share: percent(one.weight) }) })),
  };
}

// [{start, end, text}], or none for what has no parts.
export function cuesOf({ job, result, words }) {
  if (!result) return [];
  if (job === "events") return result.events;
  if (job === "ground") return result.spans.map((part) => ({ ...part, text: words }));
  if (job === "cuts") return result.shots.map((part, number) => ({ ...part, text: t("shot", { n: number + 1 }) }));
  return [];
}

// Times as people read them, and times that stand in answers.

import { t } from "./texts.js";

// 4.12 s; from a minute on 1:04.12.
export function told(seconds) {
  if (seconds < 60) return `${seconds.toFixed(2)} ${t("seconds")}`;
  const rest = (Math.floor((seconds % 60) * 100) / 100).toFixed(2).padStart(5, "0");
  return `${Math.floor(seconds / 60)}:${rest}`;
}

export const span = (start, end) => `${told(start)} ${t("to")} ${told(end)}`;

export const percent = (share) => (share * 100).toFixed(1);

const NUMBER = "\\d+(?:\\.\\d+)?";
const UNIT = "(?:seconds?|secs?|s)\\b";
const FORMS = [
  `(?<clock>(?:\\d{1,2}:)?\\d{1,2}:\\d{2}(?:\\.\\d+)?)(?![\\d:])`,
  `(?<first>${NUMBER})(?<between>\\s*(?:to|and|until|-|–)\\s*)(?<second>${NUMBER})\\s*${UNIT}`,
  `第?\\s*(?<zhFirst>${NUMBER})(?<zhBetween>\\s*秒?\\s*(?:到|至|-|–)\\s*第?\\s*)(?<zhSecond>${NUMBER})\\s*秒`,
  `(?<![\\d.:])(?<english>${NUMBER})\\s*${UNIT}`,
  `第\\s*(?<chinese>${NUMBER})\\s*秒`,
];
// "for 3 seconds" tells how long, not when.
const LENGTH = /\b(?:for|lasts?|lasting|every|takes?|total of)\s+(?:about\s+|only\s+)?$/i;

// Splits an answer into strings and {text, seconds} of moments within the video.
export function moments(answer, duration) {
  const pieces = [];
  let done = 0;
  for (const match of answer.matchAll(new RegExp(FORMS.join("|"), "gi"))) {
    for (const { text, at } of within(match, answer)) {
      const seconds = text.match(/[\d:.]+/)[0].split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
      if (seconds > duration + 0.5) continue;
      const end = at + text.length;
      pieces.push(answer.slice(done, at), { text: answer.slice(at, end), seconds });
      done = end;
    }
  }
  return [...pieces, answer.slice(done)].filter((piece) => piece !== "");
}

function within(match, answer) {
  const groups = match.groups;
  if (groups.english && LENGTH.test(answer.slice(0, match.index))) return [];
  if (groups.english || groups.chinese) return [{ text: match[0], at: match.index }];
  const names = ["clock", "first", "second", "zhFirst", "zhSecond"];
  let from = 0;
  return names.filter((name) => groups[name]).map((name) => {
    const at = match[0].indexOf(groups[name], from);
    from = at + groups[name].length;
    return { text: groups[name], at: match.index + at };
  });
}

// What lies under the player: thumbnails, and a lane for each thing that is known of when.

import { find, make } from "./dom.js";

const COUNT = 12;
const lanes = find("#lanes");
const head = find("#playhead");
const thumbs = find("#thumbs");
let length = 0;
let shown = 0; // grows with each video, so that thumbnails of the one before come to an end
let go = () => {};

export function begin(onSeek) {
  go = onSeek;
  thumbs.addEventListener("click", (event) => {
    const box = thumbs.getBoundingClientRect();
    go((length * (event.clientX - box.left)) / box.width, false);
  });
  // One stop of the tab key for each lane; arrows go along it.
  lanes.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
    let next = step && event.target[step];
    while (next && next.tagName !== "BUTTON") next = next[step];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

export const duration = () => length;

export function reset(seconds = 0) {
  length = seconds;
  shown += 1;
  thumbs.getContext("2d").clearRect(0, 0, thumbs.width, thumbs.height);
  clear();
  at(0);
}

// The length, once it is known: of a file that this browser cannot play, from the server.
export function setDuration(seconds) {
  length ||= seconds;
}

export async function drawThumbnails(url) {
  const mine = shown;
  const context = thumbs.getContext("2d");
  const [wide, high] = [128, 72];
  thumbs.width = wide * COUNT;
  thumbs.height = high;
  const video = make("video", { muted: true, preload: "auto", src: url });
  // Where it cannot be had, lanes say when without pictures.
  const next = (event) => new Promise((resolve) => (video[`on${event}`] = resolve));
  await next("loadeddata");
  for (let number = 0; number < COUNT; number++) {
    const painted = new Promise((resolve) => video.requestVideoFrameCallback?.(resolve));
    video.currentTime = (length * (number + 0.5)) / COUNT;
    await next("seeked"); // the picture may come a little later
    await Promise.race([painted, new Promise((resolve) => setTimeout(resolve, 300))]);
    if (mine !== shown) break;
    // The middle of each picture fills its place.
    const w = Math.min(video.videoWidth, (video.videoHeight * wide) / high);
    const h = (w * high) / wide;
    const from = [(video.videoWidth - w) / 2, (video.videoHeight - h) / 2, w, h];
    context.drawImage(video, ...from, number * wide, 0, wide - 2, high);
  }
  video.src = "";
}

// Puts a lane in, in the place of one of the same id.
// lane: {id, label, marks: [{start, end, text, pause}], heat: [{start, end, value}]}; values 0 to 1
export function put(lane) {
  const track = make("div", { className: "track", role: "group", "aria-label": lane.label });
  if (lane.heat) track.append(heat(lane.heat));
  lane.marks.forEach((mark, number) => track.append(button(mark, number, lane)));
  const element = make("div", { className: "lane" }, make("div", { className: "lane-label", title: lane.label }, lane.label), track);
  element.dataset.lane = lane.id;
  const old = lanes.querySelector(`[data-lane="${CSS.escape(lane.id)}"]`);
  if (old) old.replaceWith(element);
  else lanes.append(element);
}

export const clear = () => lanes.replaceChildren();

function button(mark, number, lane) {
  const wide = mark.end - mark.start;
  const element = make("button", {
    className: wide > 0 ? "mark" : "mark moment",
    title: mark.text,
    "aria-label": mark.text,
    tabIndex: number ? -1 : 0,
    onclick: () => go(mark.start, mark.pause),
  }, wide > 0 && !lane.heat ? mark.label ?? mark.text : "");
  const left = `${(100 * mark.start) / length}%`;
  element.style.left = wide > 0 ? left : `clamp(7px, ${left}, calc(100% - 7px))`;
  if (wide > 0) element.style.width = `${(100 * wide) / length}%`;
  element.dataset.start = mark.start;
  element.dataset.end = mark.end;
  return element;
}

// Values over time as one filled area.
function heat(parts) {
  const canvas = make("canvas", { className: "heat", width: 960, height: 48, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--heat");
  for (const { start, end, value } of parts) {
    const [left, right] = [start, end].map((seconds) => Math.round((960 * seconds) / length));
    const high = Math.max(1, 46 * value);
    context.globalAlpha = 0.25 + 0.75 * value;
    context.fillStyle = colour;
    context.fillRect(left, 48 - high, Math.max(right - left, 1), high);
  }
  return canvas;
}

// Moves the playhead; marks that it stands in are told apart.
export function at(seconds) {
  head.style.left = `${length ? Math.min((100 * seconds) / length, 100) : 0}%`;
  for (const mark of lanes.querySelectorAll(".mark")) {
    mark.classList.toggle("now", seconds >= Number(mark.dataset.start) && seconds < Number(mark.dataset.end));
  }
}

// The video as it plays, and over a paused frame the cells that an answer read.

import { find } from "./dom.js";
import { percent } from "./times.js";
import { t } from "./texts.js";

const video = find("#screen video");
const cells = find("#cells");
const caption = find("#cells-told");
let url = "";
let evidence = null; // {top, fit} of the answer that is looked at

export const duration = () => (Number.isFinite(video.duration) ? video.duration : 0);
export const address = () => url;

export function show(file, onReady, onTime) {
  if (url) URL.revokeObjectURL(url);
  url = URL.createObjectURL(file);
  find("#unplayable").hidden = true;
  find("#screen").hidden = false;
  showEvidence(null);
  video.onloadedmetadata = () => {
    if (!video.videoWidth) return unplayable();
    find("#screen").style.setProperty("--ratio", video.videoWidth / video.videoHeight);
    onReady({ duration: duration(), width: video.videoWidth, height: video.videoHeight });
  };
  video.onerror = unplayable;
  const tell = () => onTime(video.currentTime);
  const follow = () => {
    tell();
    if (!video.paused) requestAnimationFrame(follow);
  };
  video.onplay = () => {
    follow();
    draw();
  };
  video.onseeked = video.onpause = () => {
    tell();
    draw();
  };
  video.src = url;
}

function unplayable() {
  find("#screen").hidden = true;
  find("#unplayable").hidden = false;
}

// Shows the frame of a time; with `pause` it stays there.
export function seek(seconds, pause = false) {
  if (pause) video.pause();
  // Times are rounded: a little later is surely in the frame that begins there.
  video.currentTime = Math.min(seconds + 0.001, duration() || seconds);
}

// Of an answer: {top, fit}, or null.
export function showEvidence(given) {
  evidence = given;
  draw();
}

function draw() {
  const frame = video.paused ? evidence?.top.find((one) => Math.abs(one.timestamp - video.currentTime) < 0.02) : null;
  const context = cells.getContext("2d");
  const { width, height } = cells.getBoundingClientRect();
  cells.width = Math.round(width * devicePixelRatio);
  cells.height = Math.round(height * devicePixelRatio);
  caption.hidden = !frame;
  if (!frame) return;
  const most = Math.max(...evidence.top.flatMap((one) => one.cells.flat()));
  const seen = frame.cells.flat().some((share) => share > 0);
  caption.textContent = t(seen ? "cells" : "noCells", { share: percent(frame.weight) });
  const [left, top, wide, high] = lookedAt(cells.width, cells.height, evidence.fit);
  frame.cells.forEach((row, y) =>
    row.forEach((share, x) => {
      const place = [left + (wide * x) / row.length, top + (high * y) / frame.cells.length];
      const size = [wide / row.length, high / frame.cells.length];
      context.fillStyle = `rgb(255 112 0 / ${0.65 * (share / (most || 1))})`;
      context.fillRect(...place, ...size);
      context.strokeStyle = "rgb(255 255 255 / .45)";
      context.strokeRect(...place, ...size);
    }),
  );
}

// The part of the picture that the model sees: left, top, width, height.
function lookedAt(width, height, fit) {
  if (fit === "squash") return [0, 0, width, height];
  const side = fit === "pad" ? Math.max(width, height) : Math.min(width, height);
  return [(width - side) / 2, (height - side) / 2, side, side];
}

new ResizeObserver(draw).observe(cells);

// The page: one video, questions and jobs about it, one at a time.

import * as api from "./api.js";
import { announce, find, make } from "./dom.js";
import * as player from "./player.js";
import { lanesOf } from "./results.js";
import * as settings from "./settings.js";
import { choose, language, load, remember, remembered, t, translate } from "./texts.js";
import * as timeline from "./timeline.js";
import { shown } from "./turns.js";

const THEMES = ["auto", "light", "dark"];
const root = document.documentElement;
const page = {
  model: null, // what /v1/models says of it
  file: null,
  upload: null, // promise of the file's id
  sending: null, // AbortController of that
  percent: 0,
  turns: [],
  running: null, // AbortController of the turn under way
};

await load();
theme(remembered("theme") ?? "auto");
timeline.begin(player.seek);
retell();
wire();
greet();

// Everything in the language that is chosen.
function retell() {
  translate();
  find("#language").value = language;
  const name = t(`themes.${root.dataset.theme}`);
  find("#theme span").textContent = name;
  find("#theme").ariaLabel = t("theme", { name });
  const idea = (words) => make("button", { className: "idea", onclick: () => ask(words) }, words);
  find("#ideas").replaceChildren(...t("ideaList").map(idea));
  tellModel();
  for (const turn of page.turns) turn.show();
  timeline.clear();
  page.turns.forEach(look);
}

function tellModel() {
  const note = page.model && t("notes")[page.model.id];
  find("#model").textContent = page.model?.id ?? "";
  find("#note").textContent = note ?? "";
  find("#note").hidden = !note;
}

function theme(name) {
  root.dataset.theme = name;
  remember("theme", name);
}

async function greet() {
  try {
    page.model = (await api.get("/v1/models")).data[0];
    tellModel();
    listExamples((await api.get("/v1/examples")).data);
  } catch (error) {
    say(error.message);
    if (error.code === "invalid_api_key") settings.open();
  }
}

function listExamples(found) {
  const pick = async ({ name, url }) => {
    try {
      take(new File([await api.getFile(url)], name));
    } catch (error) {
      say(error.message);
    }
  };
  const entries = found.map((one) => make("li", {}, make("button", { onclick: () => pick(one) }, one.name)));
  find("#examples ul").replaceChildren(...entries);
  find("#examples").hidden = !found.length;
}

function wire() {
  const picker = find("#file");
  for (const id of ["#choose", "#other"]) find(id).onclick = () => picker.click();
  picker.onchange = () => {
    take(picker.files[0]);
    picker.value = "";
  };
  const drag = (is) => (event) => {
    event.preventDefault();
    root.classList.toggle("dragging", is);
  };
  document.ondragover = drag(true);
  document.ondragleave = drag(false);
  document.ondrop = (event) => {
    drag(false)(event);
    take(event.dataTransfer.files[0]);
  };
  find("#ask").onsubmit = (event) => {
    event.preventDefault();
    ask(find("#question").value.trim());
  };
  find("#question").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find("#ask").requestSubmit();
  };
  for (const button of document.querySelectorAll("[data-job]")) button.onclick = () => work(button.dataset.job);
  find("#stop").onclick = () => page.running.abort();
  find("#clear").onclick = () => {
    forget();
    find("#question").focus();
  };
  find("#language").onchange = (event) => {
    choose(event.target.value);
    retell();
  };
  find("#theme").onclick = () => {
    theme(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
    retell();
  };
  find("#open-settings").onclick = settings.open;
  settings.whenClosed(greet);
}

// A line of the page itself, where the turns are; an empty one takes it away.
function say(text = "") {
  find(".said")?.remove();
  if (text) find("#turns").append(make("p", { className: "refused said", role: "alert" }, text));
}

function forget() {
  page.running?.abort();
  page.turns = [];
  find("#turns").replaceChildren();
  timeline.clear();
  player.showEvidence(null);
}

// A file becomes the video of the page; it is uploaded at once, while it is looked at.
function take(file) {
  if (!file) return;
  const most = page.model?.limits.max_upload_bytes ?? Infinity;
  if (file.size > most) return say(t("tooLarge", { name: file.name, size: size(file.size), most: size(most) }));
  forget();
  page.file = file;
  find("#drop").hidden = true;
  find("#stage").hidden = false;
  find("#name").textContent = file.name;
  find("#facts").textContent = size(file.size);
  timeline.reset();
  player.show(file, (facts) => {
    timeline.reset(facts.duration);
    page.turns.forEach(look);
    find("#facts").textContent = `${facts.duration.toFixed(2)} s · ${facts.width} × ${facts.height} · ${size(file.size)}`;
    timeline.drawThumbnails(player.address());
  }, timeline.at);
  send();
  find("#question").focus();
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function send() {
  page.sending?.abort();
  const control = (page.sending = new AbortController());
  const bar = find("#upload");
  const tell = (percent) => {
    if (control !== page.sending) return;
    page.percent = bar.value = percent;
    bar.hidden = percent >= 100;
    for (const turn of page.turns) if (turn.state === "uploading") turn.show({ n: percent });
  };
  tell(0);
  const sent = (page.upload = api.upload(page.file, tell, control.signal));
  sent.catch(() => control === page.sending && (page.upload = null)); // the next question sends it again
  sent
    .then((id) => api.job(`/v1/videos/${id}/memory`, settings.looking(), control.signal)) // ahead of questions
    .catch((error) => control === page.sending && !page.running && error.code !== "busy" && say(error.message))
    .finally(() => tell(100));
}

function ask(words) {
  if (!words) return find("#question").focus();
  const earlier = page.turns.filter((turn) => turn.job === "ask" && turn.state === "done");
  run({ job: "ask", words, text: "", request: settings.question(words, earlier, page.model) });
}

function work(job) {
  const field = find("#question");
  if (job === "describe") return ask(t("describe"));
  if (job !== "ground") return run({ job, words: "", request: settings.job(job, job === "events" ? { prompt: t("describe") } : {}) });
  const words = field.value.trim();
  if (words) return run({ job, words, request: settings.job(job, { words }) });
  announce(t("type"));
  field.focus();
}

// Carries a turn out, from upload to result; whatever happens is told in it.
async function run(turn) {
  if (!page.file) return say(t("pick"));
  if (page.running) return;
  say();
  find("#question").value = "";
  const control = (page.running = new AbortController());
  Object.assign(turn, { state: "uploading", n: page.percent, file: page.file });
  page.turns.push(turn);
  find("#turns").append(shown(turn, player.seek, () => look(turn) ?? find("#timeline").scrollIntoView({ block: "nearest" })));
  busy(true);
  turn.element.scrollIntoView({ block: "nearest" });
  try {
    await carryOut(turn, control.signal);
    turn.state = "done";
  } catch (error) {
    turn.state = control.signal.aborted ? "stopped" : "refused";
    turn.error = error.message;
  }
  page.running = null;
  busy(false);
  if (!page.turns.includes(turn)) return; // cleared meanwhile
  turn.show();
  look(turn);
  turn.element.scrollIntoView({ block: "nearest" });
}

function busy(is) {
  const [send, stop] = [find("#send"), find("#stop")];
  const focused = [send, stop].includes(document.activeElement);
  send.hidden = is;
  stop.hidden = !is;
  if (focused) (is ? stop : send).focus();
  find("#turns").ariaBusy = is;
  for (const button of document.querySelectorAll("[data-job], .idea")) button.ariaDisabled = is;
}

async function carryOut(turn, signal) {
  const stopped = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const once = async () => {
    if (!page.upload) send();
    if (page.percent < 100) turn.show({ state: "uploading", n: page.percent });
    await attempt(turn, await Promise.race([page.upload, stopped]), signal);
  };
  await api.patiently(once, (n) => turn.show({ state: "busy", n }), signal, () => (page.upload = null));
}

async function attempt(turn, id, signal) {
  let seconds = 0;
  turn.show({ state: "thinking", n: 0 });
  const clock = setInterval(async () => {
    seconds += 1;
    const { read } = await api.get(`/v1/videos/${id}/memory`).catch(() => ({}));
    if (!["reading", "thinking"].includes(turn.state)) return;
    turn.show(read == null ? { state: "thinking", n: seconds } : { state: "reading", n: Math.floor(100 * read) });
  }, 1000);
  try {
    const { path, body } = turn.request;
    if (turn.job === "ask") await converse(turn, path, body(id), signal);
    else turn.result = await api.job(path, body(id), signal);
    timeline.setDuration(turn.result.video.duration);
  } finally {
    clearInterval(clock);
  }
}

async function converse(turn, path, body, signal) {
  turn.text = "";
  let told = {};
  for await (const { choices: [choice], model, slowfast } of api.streamed(path, { ...body, stream: true }, signal)) {
    const text = turn.text + (choice?.delta.content ?? "");
    if (text) turn.show({ state: "answering", text });
    turn.cut ||= choice?.finish_reason === "length";
    if (slowfast) told = { ...slowfast, model };
  }
  turn.text = turn.text.trim();
  turn.result = { question: turn.words, answer: turn.text, ...told };
}

function look(turn) {
  if (!turn.result || !timeline.duration()) return;
  lanesOf(turn).forEach(timeline.put);
  const { evidence, fit } = turn.result;
  if (evidence) player.showEvidence({ top: evidence.top, fit });
}

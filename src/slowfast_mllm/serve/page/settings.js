// Settings, and the requests that are made with them.

import { useKey } from "./api.js";
import { find } from "./dom.js";

const dialog = find("#settings");
const form = dialog.querySelector("form");

export const open = () => dialog.showModal();

// A key is kept as long as the page is open.
export function whenClosed(then) {
  dialog.onclose = () => {
    if (useKey(form.elements.key.value.trim())) then();
  };
}

// Fields that are empty are not said: JSON leaves out what is undefined.
const field = (name) => form.elements[name].value || undefined;
const number = (name) => field(name) && Number(field(name));

export const looking = () => ({ num_frames: number("num_frames"), start: number("start"), end: number("end"), fit: field("fit") });

// A request is {path, body}: body(id) is its JSON about the video of that id.
export function question(words, earlier, model) {
  const sampling = looking();
  const spoken = [...earlier.flatMap((turn) => [["user", turn.words], ["assistant", turn.text]]), ["user", words]];
  const more = {
    max_tokens: number("max_tokens"),
    temperature: number("temperature"),
    evidence: (form.elements.evidence.checked && model?.capabilities.evidence) || undefined,
    mm_processor_kwargs: Object.values(sampling).some(Boolean) ? sampling : undefined,
  };
  const content = (id) => [{ type: "video_url", video_url: { url: id } }, { type: "text", text: spoken[0][1] }];
  const messages = (id) => spoken.map(([role, words], at) => ({ role, content: at ? words : content(id) }));
  const body = (id) => ({ model: "default", messages: messages(id), ...more });
  return { path: "/v1/chat/completions", body };
}

export function job(name, given = {}) {
  const sampling = name === "cuts" || name === "facts" ? {} : looking();
  return { path: `/v1/jobs/${name}`, body: (id) => ({ video: id, ...given, ...sampling }) };
}

// Requests to the server: uploads with their progress, streamed answers, jobs. What fails is a Refusal.

import { t } from "./texts.js";

export class Refusal extends Error {
  constructor(message, code = "", wait = 0) {
    super(message);
    this.code = code;
    this.wait = wait; // seconds after which a busy server may be asked again
  }
}

let key = "";
export const hasKey = () => key !== "";
// Whether it is another than before.
export function useKey(given) {
  const isNew = given !== key;
  key = given;
  return isNew;
}

const signed = (headers = {}) => (key ? { ...headers, Authorization: `Bearer ${key}` } : headers);

function refusal(status, body, retryAfter) {
  const error = body?.error;
  const busy = status === 429 || error?.code === "busy";
  const wait = busy ? Math.min(Math.max(Number(retryAfter) || 2, 1), 60) : 0;
  if (status === 401) return new Refusal(t("needsKey"), "invalid_api_key");
  return new Refusal(error?.message ?? t("notOurs", { status }), busy ? "busy" : error?.code, wait);
}

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: signed(options.headers) });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(t("unreachable"));
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw refusal(response.status, body, response.headers.get("Retry-After"));
}

export const get = async (path) => (await asked(path)).json();
export const getFile = async (path) => (await asked(path)).blob();

const post = (path, body, signal) =>
  asked(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

export const job = async (path, body, signal) => (await post(path, body, signal)).json();

// Chunks of a streamed answer.
export async function* streamed(path, body, signal) {
  const response = await post(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Refusal(t("broken"));
    });
    if (done) throw new Refusal(t("broken"));
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (event === "data: [DONE]") return;
      if (!event.startsWith("data: ")) continue;
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) throw refusal(response.status, chunk);
      yield chunk;
    }
  }
}

// Uploads a file; the id that stands for it. fetch tells no progress of what is sent.
export function upload(file, onPercent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", file, file.name);
    request.upload.onprogress = (event) => onPercent(Math.floor((100 * event.loaded) / event.total));
    request.onload = () => {
      if (request.status < 300) resolve(request.response.id);
      else reject(refusal(request.status, request.response, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new Refusal(t("unreachable")));
    signal.addEventListener("abort", () => request.abort());
    request.responseType = "json";
    request.open("POST", "/v1/files");
    for (const [name, value] of Object.entries(signed())) request.setRequestHeader(name, value);
    request.send(form);
  });
}

// Does work, again and again while the server is busy: onWait is told the seconds that are left.
// Once more, too, where the server has forgotten the file.
export async function patiently(work, onWait, signal, onForgotten) {
  for (let forgotten = 0; ; ) {
    try {
      return await work();
    } catch (error) {
      if (error.code === "file_not_found" && !forgotten++) onForgotten();
      else if (error.code !== "busy") throw error;
      for (let left = error.wait; left > 0; left--) {
        onWait(left);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        signal.throwIfAborted();
      }
    }
  }
}

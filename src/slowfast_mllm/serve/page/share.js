// A turn for use elsewhere: as a curl command, as Python, as JSON, as subtitles.

import { hasKey } from "./api.js";
import { announce, make } from "./dom.js";
import { t } from "./texts.js";

const VIDEO = "\u0000video\u0000"; // stands for the id of the uploaded file

// Within single quotes of a shell.
const quoted = (text) => text.replaceAll("'", "'\\''");

export function asCurl({ path, body }, name) {
  const key = hasKey() ? ` -H "Authorization: Bearer $SLOWFAST_KEY"` : "";
  const json = quoted(JSON.stringify(body(VIDEO), null, 2)).replace(JSON.stringify(VIDEO).slice(1, -1), `'"$FILE"'`);
  const file = quoted(name.replace(/["\\]/g, "\\$&"));
  return `FILE=$(curl -sS ${location.origin}/v1/files${key} -F purpose=user_data -F 'file=@"${file}"' | sed 's/.*"id": *"\\([^"]*\\)".*/\\1/')
curl -sS ${location.origin}${path}${key} -H 'Content-Type: application/json' -d '${json}'
`;
}

export function asPython({ path, body }, name) {
  const key = hasKey() ? `os.environ["SLOWFAST_KEY"]` : `"unused"`;
  const { model, messages, ...more } = body(VIDEO);
  const lines = [
    ...(hasKey() ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(`${location.origin}/v1`)}, api_key=${key})`,
    `video = client.files.create(file=open(${JSON.stringify(name)}, "rb"), purpose="user_data")`,
  ];
  if (path === "/v1/chat/completions") {
    const given = { model, messages, extra_body: more }; // some of that is this server's alone
    const parts = Object.entries(given).map(([field, value]) => `    ${field}=${python(value, "    ")},`);
    lines.push("answer = client.chat.completions.create(", ...parts, ")", "print(answer.choices[0].message.content)");
  } else {
    lines.push(`print(client.post("${path.replace("/v1", "")}", cast_to=object, body=${python(more)}))`);
  }
  return lines.join("\n") + "\n";
}

// JSON as Python writes it, with further lines as far in as this is.
const python = (value, indent = "") =>
  JSON.stringify(value, null, 4)
    .replace(/: true(,?)$/gm, ": True$1")
    .replace(JSON.stringify(VIDEO), "video.id")
    .replaceAll("\n", `\n${indent}`);

// WebVTT of cues {start, end, text}.
export function asSubtitles(cues) {
  const clock = (seconds) => new Date(Math.round(seconds * 1000)).toISOString().slice(11, 23);
  const escaped = (text) => text.replace(/\s+/g, " ").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const blocks = cues.map((cue, number) => `${number + 1}\n${clock(cue.start)} --> ${clock(cue.end)}\n${escaped(cue.text)}\n`);
  return ["WEBVTT\n", ...blocks].join("\n");
}

export function download(name, text, type) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

// Pages that came over plain http from another machine may not copy: a file is given instead.
export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    announce(t("copied"));
  } catch {
    download(name, text, "text/plain");
  }
}

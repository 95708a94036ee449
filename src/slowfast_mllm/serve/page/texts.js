// The words of the page in the language that was chosen, from texts.json.

let all = {};
export let language = "en";

export async function load() {
  all = await (await fetch("texts.json")).json();
  const wanted = [remembered("language"), ...navigator.languages].filter(Boolean);
  language = wanted.map(known).find(Boolean) ?? "en";
}

const known = (tag) => Object.keys(all).find((one) => one.slice(0, 2) === tag.slice(0, 2));

export function choose(tag) {
  language = tag;
  remember("language", tag);
}

// The text of a dotted name, with {values} put in; undefined where there is none.
export function t(name, values = {}) {
  const text = name.split(".").reduce((place, step) => place?.[step], all[language]);
  if (typeof text !== "string") return text;
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

// Puts texts where the document asks for them.
export function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const [data, attribute] of [["t-label", "aria-label"], ["t-placeholder", "placeholder"]]) {
    for (const element of document.querySelectorAll(`[data-${data}]`)) element.setAttribute(attribute, t(element.getAttribute(`data-${data}`)));
  }
}

// What a browser keeps between visits, where it keeps anything.
export function remembered(name) {
  try {
    return localStorage.getItem(`slowfast.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`slowfast.${name}`, value);
  } catch {
    // A browser that keeps nothing: it is asked again next time.
  }
}

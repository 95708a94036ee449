// Makes elements: make("p", {className: "muted"}, "words", otherElement).

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export const find = (selector) => document.querySelector(selector);

// Shown for a moment, and said by screen readers.
export function announce(text) {
  const status = find("#status");
  status.textContent = text;
  clearTimeout(status.timer);
  status.timer = setTimeout(() => (status.textContent = ""), 3000);
}

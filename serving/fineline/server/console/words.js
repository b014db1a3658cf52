// Messages in the chosen language, numbers and dates in its form, and a small way to make elements.

const LANGUAGES = { zh: "zh-Hans", en: "en" };
const KEPT = "fineline.language";
let code = "en";
let messages = {};

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // storage is off
  }
}

/** The language chosen before, else the browser's. */
export function firstLanguage() {
  const before = kept();
  return before in LANGUAGES ? before : navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = () => code;

export async function speak(wanted) {
  const answer = await fetch(`console/messages.${wanted}.json`);
  messages = await answer.json();
  code = wanted;
  document.documentElement.lang = LANGUAGES[code];
}

/** Remembers the choice, the only thing this page stores. */
export function keepLanguage() {
  try {
    localStorage.setItem(KEPT, code);
  } catch {
    // storage is off: the choice holds until the page is closed
  }
}

export const knows = (key) => key in messages;

/** A message; `{name}` in it becomes the value of that name. */
export function t(key, values = {}) {
  return messages[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The one of `{en, zh}` in the chosen language. */
export const says = (entry) => entry[code];

/** Puts messages into all elements below `root` that name one. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

export const number = (value) => value.toLocaleString(LANGUAGES[code]);

/** Words in a row, as the language joins them. */
export const list = (words) => new Intl.ListFormat(LANGUAGES[code], { type: "conjunction" }).format(words);

export const date = (iso) => new Date(iso).toLocaleDateString(LANGUAGES[code], { dateStyle: "long" });

/** A score in as many digits as tell it from its threshold, two at least. */
export function fixed(score, threshold) {
  let digits = 2;
  while (digits < 6 && score !== threshold && score.toFixed(digits) === threshold.toFixed(digits)) digits++;
  return [score.toFixed(digits), threshold.toFixed(digits)];
}

/** An element; strings become text, never markup. */
export function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "rect", "line", "circle"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Two languages. Vietnamese is the source: each text stands in Vietnamese where it is used.

import { english } from "./english.js";

let language = "vi";

/** `text` in the language of the page, with {name} replaced by values.name. */
export function t(text, values = {}) {
  const found = language === "en" ? (english[text] ?? text) : text;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const locale = () => (language === "en" ? "en" : "vi-VN");

export const number = (value, options) => new Intl.NumberFormat(locale(), options).format(value);

const sources = new WeakMap(); // element -> the Vietnamese of {its attributes, "": its text}

/** Puts the texts of `root` into the language of the page: those of elements with data-t. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) {
    const names = element.dataset.t ? element.dataset.t.split(" ") : [""];
    if (!sources.has(element)) {
      const read = (name) => (name ? element.getAttribute(name) : element.textContent);
      sources.set(element, Object.fromEntries(names.map((name) => [name, read(name).trim()])));
    }
    for (const name of names) {
      const text = t(sources.get(element)[name]);
      if (name) element.setAttribute(name, text);
      else element.textContent = text;
    }
  }
}

export function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  translate(document);
}

const MARKED = /[ăâđêôơưáàảãạắằẳẵặấầẩẫậéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ]/i;

/** "vi" for text that looks Vietnamese, so that a screen reader speaks it as such; else the page's own. */
export function languageOf(text) {
  return MARKED.test(text.slice(0, 2000)) ? "vi" : language;
}

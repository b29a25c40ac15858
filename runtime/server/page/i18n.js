// Translation. The source language is Vietnamese: the code contains each text in Vietnamese.

import { english } from "./english.js";

let language = "vi";

/** Returns `text` in the language of the page, with {name} replaced by values.name. */
export function t(text, values = {}) {
  const found = language === "en" ? (english[text] ?? text) : text;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const locale = () => (language === "en" ? "en" : "vi-VN");

export const number = (value, options) => new Intl.NumberFormat(locale(), options).format(value);

const sources = new WeakMap(); // element -> its Vietnamese texts: {attribute: text, "": content}

/** Translates the elements of `root` that have data-t. */
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

const DIACRITICS = /[ăâđêôơưáàảãạắằẳẵặấầẩẫậéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ]/i;

/** Returns "vi" for text with Vietnamese diacritics, else the page's language; for screen readers. */
export function languageOf(text) {
  return DIACRITICS.test(text.slice(0, 2000)) ? "vi" : language;
}

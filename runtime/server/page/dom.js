// DOM helpers.

import { t, translate } from "./i18n.js";

export const $ = (id) => document.getElementById(id);

/** Returns a copy of the element of a <template>, translated to the page's language. */
export function clone(id) {
  const fragment = $(id).content.cloneNode(true);
  translate(fragment);
  return fragment.firstElementChild;
}

/** Returns whether the device has a keyboard. On a phone, focus in a text field opens a virtual one. */
export const hasKeyboard = () => matchMedia("(hover: hover) and (pointer: fine)").matches;

/** Shows a line at the bottom for some seconds, with a button if `action` is given. */
export function notice(text, { action = "", run = null, seconds = 4 } = {}) {
  const line = document.createElement("p");
  line.append(text);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = action;
    button.addEventListener("click", () => {
      line.remove();
      run();
    });
    line.append(" ", button);
  }
  $("notices").replaceChildren(line);
  const hide = () => (line.matches(":hover, :focus-within") ? setTimeout(hide, 2000) : line.remove());
  setTimeout(hide, seconds * 1000);
}

export async function copy(text) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    copied = copyBySelection(text); // the clipboard API requires HTTPS or localhost
  }
  notice(copied ? t("Đã chép.") : t("Trình duyệt không cho chép."));
}

function copyBySelection(text) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.className = "hidden";
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}

/** Downloads `text` as a file. */
export function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Files that are attached to the next question: the server returns their text and counts its tokens.

import { readFile } from "./api.js";
import { $ } from "./dom.js";
import { number, t } from "./i18n.js";

const MAX_BYTES = 3_000_000;
const MAX_FILES = 8;

let attached = []; // {name, text, tokens}
let reading = 0; // files that the server has not answered yet

/** Returns the attached files and removes them from the field; null while one is being read. */
export function takeFiles() {
  if (reading > 0) {
    say(t("Đang đọc tệp…"));
    return null;
  }
  const taken = attached;
  setFiles([]);
  return taken;
}

export function setFiles(files) {
  attached = [...files];
  say("");
  draw();
}

export const hasFiles = () => attached.length > 0;

/** Returns what the model receives for a question with files. */
export function contentOf({ content, files = [] }) {
  const parts = files.map(({ name, text }) => `${t("Tệp")} ${name}:\n\n${text.trim()}`);
  return [...parts, content].filter((part) => part).join("\n\n---\n\n");
}

/** Returns a line such as "a.txt, 120 token". */
export const fileLine = ({ name, tokens }) =>
  tokens > 0 ? `${name}, ${t("{n} token", { n: number(tokens) })}` : name;

/** `options`: key() and model() return the API key and the model. */
export function setUpFiles(options) {
  const input = $("file");
  $("attach").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const chosen = [...input.files];
    input.value = ""; // the same file can be chosen again
    for (const file of chosen) await add(file, options);
    $("question").focus();
  });
  const box = $("composer");
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", async (event) => {
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    for (const file of event.dataTransfer.files) await add(file, options);
  });
}

async function add(file, { key, model }) {
  const name = file.name.slice(0, 200);
  if (attached.length + reading >= MAX_FILES) {
    return say(t("Mỗi câu hỏi kèm nhiều nhất {n} tệp.", { n: MAX_FILES }));
  }
  if (file.size > MAX_BYTES) {
    return say(t("{name} quá lớn: mỗi tệp nhiều nhất {n} MB.", { name, n: MAX_BYTES / 1e6 }));
  }
  reading += 1;
  say(t("Đang đọc tệp…"));
  try {
    const { text, tokens, context } = await readFile(file, model(), key());
    attached.push({ name, text, tokens });
    const all = attached.reduce((sum, one) => sum + one.tokens, 0);
    const values = { n: number(all), context: number(context) };
    const full = t("Các tệp có {n} token, mô hình chỉ đọc được {context}: hãy bớt đi.", values);
    say(all >= context ? full : "");
  } catch (error) {
    say(messageOf(error, name));
  } finally {
    reading -= 1;
    draw();
  }
}

function messageOf({ status, code }, name) {
  if (status === 413) return t("{name} quá dài: nhiều nhất 400 nghìn chữ cái.", { name });
  if (code === "attachment_not_text")
    return t("{name} không phải tệp chữ: chỉ nhận txt, md, csv và docx.", { name });
  return t("Không đọc được {name}: máy chủ không nhận tệp.", { name });
}

function say(text) {
  $("file-note").textContent = text;
  $("file-note").hidden = text === "";
}

function draw() {
  const items = attached.map((file) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = t("Bỏ");
    button.setAttribute("aria-label", t("Bỏ tệp {name}", { name: file.name }));
    button.addEventListener("click", () => {
      setFiles(attached.filter((one) => one !== file));
      $("question").focus();
    });
    item.append(fileLine(file), " ", button);
    return item;
  });
  $("files").replaceChildren(...items);
  $("files").hidden = items.length === 0;
}

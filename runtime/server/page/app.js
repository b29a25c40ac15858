// The chat page: state, rendering and event handlers.

import { announce, announceAnswer, announceStart } from "./announce.js";
import { ApiError, listModels } from "./api.js";
import { branch, drop, turn } from "./branches.js";
import { askForKey, setUpDialogs } from "./dialogs.js";
import { $, hasKeyboard, notice } from "./dom.js";
import { hasFiles, setFiles, setUpFiles, takeFiles } from "./files.js";
import { History } from "./history.js";
import { languageOf, setLanguage, t } from "./i18n.js";
import { showProblem } from "./problem.js";
import { bodyOf, run } from "./run.js";
import * as store from "./store.js";
import { suggestionsFor } from "./suggestions.js";
import { Thread } from "./thread.js";

const { apiKey, settings } = store;
const question = $("question");
const thread = new Thread({
  onEdit: edit,
  onAgain: () => answer({ again: true }),
  onMore: () => answer({ more: true }),
  onTurn: showSibling,
});

let conversation = store.newConversation(); // the conversation on the screen
let editing = null; // the question that the text field contains
let models = []; // of the server
const runs = new Map(); // conversation id -> {conversation, message, controller}
const problems = new Map(); // conversation id -> ApiError

// --- asking and answering --------------------------------------------------------------------------------

function send() {
  const text = question.value.trim();
  if ((!text && !hasFiles()) || runs.has(conversation.id)) return;
  const files = takeFiles();
  if (files === null) return;
  const { messages } = conversation;
  const at = messages.includes(editing) ? messages.indexOf(editing) : messages.length;
  setEditing(null);
  setQuestion("");
  // An edited question is a new branch; the old one stays beside it.
  branch(messages, at, { role: "user", content: text, ...(files.length > 0 ? { files } : {}) });
  if (!conversation.renamed) conversation.title = titleOf(messages[0]);
  thread.atEnd = true;
  answer();
}

/** Requests an answer to the last question, beside an earlier answer; with `more`, the rest of that one. */
async function answer({ again = false, more = false } = {}) {
  const own = conversation; // `conversation` may change while the answer streams
  if (runs.has(own.id) || lastQuestion() === -1) return;
  const at = lastQuestion() + 1;
  const model = $("model").value;
  const sent = own.messages.slice(0, more ? at + 1 : at);
  const body = bodyOf(sent, settings, model, { again, more });
  const fresh = { role: "assistant", content: "", reasoning: "", model, ending: "", stats: null };
  const controller = new AbortController();
  if (!more) branch(own.messages, at, fresh);
  const message = own.messages[at];
  message.ending = "";
  own.updated = Date.now();
  runs.set(own.id, { conversation: own, message, controller });
  problems.delete(own.id);
  store.current.set(own.id);
  save(own);
  draw();
  drawList();
  announceStart(t("Đang trả lời…"));
  if (hasKeyboard()) question.focus();

  const redraw = throttled(100, () => {
    if (conversation !== own) return;
    thread.update(message);
    announceAnswer(message, false);
  });
  const persist = throttled(2000, () => runs.get(own.id)?.message === message && save(own));
  const error = await run(message, body, apiKey.get(), controller.signal, () => {
    redraw();
    persist();
  });

  runs.delete(own.id);
  if (!message.content && !message.reasoning) drop(own.messages, own.messages.indexOf(message));
  if (error) problems.set(own.id, error);
  save(own);
  if (conversation !== own) return;
  draw();
  announceAnswer(message, true);
  if (message.ending === "stopped") announce(t("Đã dừng."));
  if (error?.status === 401) needKey();
  if (error?.status === 404) fillModels();
}

async function retry() {
  problems.delete(conversation.id);
  if (!$("model").value) await fillModels();
  draw();
  answer();
}

function stop() {
  runs.get(conversation.id)?.controller.abort();
  if (hasKeyboard()) question.focus();
}

const lastQuestion = () => conversation.messages.findLastIndex((message) => message.role === "user");

function showSibling(message, step) {
  if (runs.has(conversation.id)) return;
  turn(conversation.messages, conversation.messages.indexOf(message), step);
  problems.delete(conversation.id);
  setEditing(null);
  save(conversation);
  draw();
}

function titleOf({ content, files = [] }) {
  const letters = [...(content || (files[0]?.name ?? "")).split("\n", 1)[0]];
  return letters.length > 60 ? `${letters.slice(0, 59).join("")}…` : letters.join("");
}

/** Returns a function that calls `work` with a delay of `ms`, at most once per `ms`. */
function throttled(ms, work) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    setTimeout(() => {
      pending = false;
      work();
    }, ms);
  };
}

let storageFull = false; // the user has been notified

function save(changed) {
  if (deleted.has(changed.id)) return;
  if (store.saveConversation(changed)) {
    storageFull = false;
  } else if (!storageFull) {
    storageFull = true;
    const text = t("Trình duyệt hết chỗ: cuộc trò chuyện này sẽ mất khi đóng trang. Hãy xoá bớt cuộc cũ.");
    notice(text, { seconds: 12 });
  }
}

// --- the text field --------------------------------------------------------------------------------------

function setQuestion(text) {
  question.value = text;
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

function setEditing(message) {
  editing = message;
  $("editing").hidden = message === null;
}

function edit(message) {
  setEditing(message);
  setQuestion(message.content);
  setFiles(message.files ?? []);
  question.focus();
}

function cancelEdit() {
  setEditing(null);
  setQuestion("");
  setFiles([]);
  question.focus();
}

// During composition, Enter and Esc belong to the input method. Safari reports it by key code 229 only.
const composing = (event) => event.isComposing || event.keyCode === 229;

question.addEventListener("input", () => setQuestion(question.value));
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || composing(event)) return;
  event.preventDefault();
  send();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", stop);
$("cancel-edit").addEventListener("click", cancelEdit);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || composing(event) || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("with-sidebar")) showSidebar(false);
  else if (runs.has(conversation.id)) stop();
  else if (editing) cancelEdit();
});

// --- drawing ---------------------------------------------------------------------------------------------

function draw({ afresh = false } = {}) {
  const running = runs.get(conversation.id)?.message ?? null;
  const empty = conversation.messages.length === 0;
  thread.show(conversation.messages, running, { afresh });
  $("welcome").hidden = !empty;
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  const title = conversation.title || t("Cuộc trò chuyện mới");
  $("title").textContent = title;
  $("title").lang = languageOf(title);
  document.title = empty ? "Bình dân" : `${title} – Bình dân`;
  showProblem(problems.get(conversation.id) ?? null, {
    hasKey: apiKey.get() !== "",
    retry,
    enterKey: needKey,
  });
  // After a reload, the last question may have no answer.
  const unanswered = running === null && !empty && conversation.messages.at(-1).role === "user";
  $("unanswered").hidden = !unanswered || problems.has(conversation.id);
}

function drawSuggestions() {
  const items = suggestionsFor(models.find(({ id }) => id === $("model").value)).map((text) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => {
      setQuestion(text);
      send();
    });
    item.append(button);
    return item;
  });
  $("suggestions").replaceChildren(...items);
}

// --- conversations ---------------------------------------------------------------------------------------

const deleted = new Set(); // ids; a running answer must not save them again

const history = new History(
  { open: openConversation, remove: removeConversation, rename: renameConversation },
  () => conversation.id,
);
const drawList = () => history.draw();

function show(next) {
  setEditing(null);
  setFiles([]);
  conversation = next;
  store.current.set(next.id);
  thread.atEnd = true;
  draw();
  drawList();
}

function openConversation(id) {
  const found = runs.get(id)?.conversation ?? store.loadConversation(id);
  if (found) show(found);
  showSidebar(false);
  if (hasKeyboard()) question.focus();
}

function newChat() {
  show(store.newConversation());
  showSidebar(false);
  question.focus();
}

/** Returns the conversation as it is on the screen or in a run, else as it was saved. */
function find(id) {
  return runs.get(id)?.conversation ?? (id === conversation.id ? conversation : store.loadConversation(id));
}

function renameConversation(id, title) {
  const renamed = find(id);
  if (!renamed) return;
  Object.assign(renamed, { title, renamed: true });
  save(renamed);
  draw();
}

function removeConversation(id) {
  const removed = find(id);
  runs.get(id)?.controller.abort();
  deleted.add(id);
  store.deleteConversation(id);
  if (id === conversation.id) show(store.newConversation());
  else drawList();
  const next = $("conversations").querySelector("button") ?? $("new-chat");
  next.focus();
  const undo = () => {
    deleted.delete(id);
    save(removed);
    drawList();
  };
  notice(t("Đã xoá cuộc trò chuyện."), { action: t("Lấy lại"), run: undo, seconds: 8 });
}

function clearAll() {
  for (const { id } of store.allConversations()) deleted.add(id);
  for (const { controller } of runs.values()) controller.abort();
  store.clearConversations();
  show(store.newConversation());
  notice(t("Đã xoá tất cả."));
}

store.onChangeElsewhere((id) => {
  if ((id === null || id === conversation.id) && !runs.has(conversation.id)) {
    const found = store.loadConversation(conversation.id);
    if (found) show(found);
  }
  drawList();
});
window.addEventListener("pagehide", () => {
  for (const { conversation: running } of runs.values()) save(running);
});

// --- models and the key ----------------------------------------------------------------------------------

async function fillModels() {
  const select = $("model");
  models = [];
  try {
    models = await listModels(apiKey.get());
  } catch (error) {
    if (conversation.messages.length === 0) problems.set(conversation.id, error);
    draw();
    if (error.status === 401) needKey();
  }
  const chosen = models.find(({ id }) => id === settings.model);
  const selected = chosen ?? models.find(({ isDefault }) => isDefault) ?? models[0];
  const options = models.map(({ id }) => new Option(id, id, false, id === selected.id));
  if (models.length === 0) options.push(new Option(t("Chưa có mô hình"), ""));
  select.replaceChildren(...options);
  drawSuggestions();
  if (selected?.error && conversation.messages.length === 0) {
    problems.set(conversation.id, new ApiError(503, selected.error, { code: "not_loaded" }));
    draw();
  }
}

function needKey() {
  askForKey(apiKey.get() ? t("Máy chủ không nhận khoá API này.") : t("Máy chủ này cần khoá API."));
}

async function keyChanged() {
  const error = problems.get(conversation.id);
  problems.delete(conversation.id);
  await fillModels();
  if (error?.status === 401) answer();
}

$("model").addEventListener("change", () => {
  store.change({ model: $("model").value });
  drawSuggestions();
});

// --- theme, language, the list of conversations ----------------------------------------------------------

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const root = document.documentElement;
  if (settings.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = settings.theme;
  document.querySelector("meta[name=theme-color]").content = getComputedStyle($("sidebar")).backgroundColor;
}

function applyLanguage() {
  setLanguage(settings.language);
  const other = settings.language === "vi" ? "en" : "vi";
  $("language").lang = other;
  $("language").textContent = other === "en" ? "English" : "Tiếng Việt";
  draw({ afresh: true });
  drawList();
}

function showSidebar(on) {
  if (document.body.classList.contains("with-sidebar") === on) return;
  document.body.classList.toggle("with-sidebar", on);
  $("backdrop").hidden = !on;
  $("chat").inert = on;
  $("open-sidebar").setAttribute("aria-expanded", String(on));
  $(on ? "close-sidebar" : "open-sidebar").focus();
}

$("theme").addEventListener("click", () => {
  const dark = settings.theme === "dark" || (settings.theme === "auto" && systemDark.matches);
  store.change({ theme: dark ? "light" : "dark" });
  applyTheme();
});
$("language").addEventListener("click", () => {
  store.change({ language: settings.language === "vi" ? "en" : "vi" });
  applyLanguage();
});
systemDark.addEventListener("change", applyTheme);
matchMedia("(min-width: 56rem)").addEventListener("change", () => showSidebar(false));
$("open-sidebar").addEventListener("click", () => showSidebar(true));
$("close-sidebar").addEventListener("click", () => showSidebar(false));
$("backdrop").addEventListener("click", () => showSidebar(false));
$("new-chat").addEventListener("click", newChat);
$("new-chat-phone").addEventListener("click", newChat);
$("retry-unanswered").addEventListener("click", () => answer());

setUpFiles({ key: apiKey.get, model: () => $("model").value });
setUpDialogs({
  language: applyLanguage,
  theme: applyTheme,
  key: keyChanged,
  current: () => conversation,
  clear: clearAll,
});
conversation = store.loadConversation(store.current.get()) ?? conversation;
applyTheme();
applyLanguage();
fillModels();
if (hasKeyboard()) question.focus();

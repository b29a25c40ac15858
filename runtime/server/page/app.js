// The chat page: state, rendering and event handlers.

import { announce, announceAnswer, announceStart } from "./announce.js";
import { listModels } from "./api.js";
import { askForKey, setUpDialogs } from "./dialogs.js";
import { $, clone, hasKeyboard, notice } from "./dom.js";
import { languageOf, setLanguage, t } from "./i18n.js";
import { showProblem } from "./problem.js";
import { bodyOf, run } from "./run.js";
import * as store from "./store.js";
import { Thread } from "./thread.js";

const { apiKey, settings } = store;
const question = $("question");
const thread = new Thread({ onEdit: edit, onAgain: () => answer({ again: true }) });

let conversation = store.newConversation(); // the conversation on the screen
let editing = false; // the text field contains the last question
const runs = new Map(); // conversation id -> {conversation, message, controller}
const problems = new Map(); // conversation id -> ApiError

// --- asking and answering --------------------------------------------------------------------------------

function send() {
  const text = question.value.trim();
  if (!text || runs.has(conversation.id)) return;
  if (editing) conversation.messages.length = lastQuestion();
  setEditing(false);
  setQuestion("");
  conversation.messages.push({ role: "user", content: text });
  conversation.title = titleOf(conversation.messages[0].content);
  thread.atEnd = true;
  answer();
}

/** Requests an answer to the last question; it replaces an earlier answer. */
async function answer({ again = false } = {}) {
  const own = conversation; // `conversation` may change while the answer streams
  if (runs.has(own.id) || lastQuestion() === -1) return;
  own.messages.length = lastQuestion() + 1;
  const model = $("model").value;
  const body = bodyOf(own.messages, settings, model, again);
  const message = { role: "assistant", content: "", reasoning: "", model, ending: "", stats: null };
  const controller = new AbortController();
  own.messages.push(message);
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
  if (!message.content && !message.reasoning) own.messages.splice(own.messages.indexOf(message), 1);
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

function titleOf(text) {
  const letters = [...text.split("\n", 1)[0]];
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

function setEditing(on) {
  editing = on;
  $("editing").hidden = !on;
}

function edit() {
  setEditing(true);
  setQuestion(conversation.messages[lastQuestion()].content);
  question.focus();
}

function cancelEdit() {
  setEditing(false);
  setQuestion("");
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

function drawList() {
  const items = store.allConversations().map(({ id, title }) => {
    const item = clone("t-conversation");
    const [open, remove] = item.querySelectorAll("button");
    open.textContent = title || t("Cuộc trò chuyện mới");
    open.lang = languageOf(open.textContent);
    if (id === conversation.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => openConversation(id));
    remove.setAttribute("aria-label", t("Xoá: {title}", { title }));
    remove.addEventListener("click", () => removeConversation(id));
    return item;
  });
  $("conversations").replaceChildren(...items);
  $("no-conversations").hidden = items.length > 0;
}

function drawSuggestions() {
  // The embedded model can do little more than these.
  const tiny = /tiny-vi/.test($("model").value);
  const texts = tiny
    ? ["Xin chào!", "them dau: ha noi la thu do cua viet nam", "them dau: hom nay troi dep"]
    : [
        "Vì sao trời xanh? Giải thích cho bé tám tuổi.",
        "Viết lời chúc thọ bà nội tròn tám mươi.",
        "Gợi ý mâm cơm chay cho bốn người.",
      ];
  const items = texts.map((text) => {
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

function show(next) {
  setEditing(false);
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

function removeConversation(id) {
  const removed = runs.get(id)?.conversation ?? store.loadConversation(id);
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
  let models = [];
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

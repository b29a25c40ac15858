// Dialogs: the settings, the API key, and the confirmation before the history is deleted.

import { $, download, notice } from "./dom.js";
import { locale, t } from "./i18n.js";
import { allConversations, apiKey, change, settings } from "./store.js";

/**
 * `on`: language(), theme() and key() are called after a change; current() returns the conversation on the
 * screen; clear() deletes all.
 */
export function setUpDialogs(on) {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest(".close")) dialog.close();
    });
  }
  setUpSettings(on);
  setUpKey(on);
  $("clear-all").addEventListener("click", () => $("clear-dialog").showModal());
  $("clear-really").addEventListener("click", () => {
    $("clear-dialog").close();
    $("settings").close();
    on.clear();
  });
}

function save(changes) {
  if (!change(changes)) notice(t("Trình duyệt không giữ được cài đặt này."));
}

function setUpSettings(on) {
  const numberOf = (input) => (input.value === "" || !input.validity.valid ? null : input.valueAsNumber);
  $("open-settings").addEventListener("click", () => {
    $("system").value = settings.system;
    $("temperature").value = settings.temperature ?? "";
    $("max-tokens").value = settings.maxTokens ?? "";
    $("thinking").checked = settings.thinking;
    drawChoices();
    drawKeyState();
    $("export-markdown").disabled = on.current().messages.length === 0;
    $("settings").showModal();
  });
  $("system").addEventListener("input", () => save({ system: $("system").value }));
  $("temperature").addEventListener("input", () => save({ temperature: numberOf($("temperature")) }));
  $("max-tokens").addEventListener("input", () => save({ maxTokens: numberOf($("max-tokens")) }));
  $("thinking").addEventListener("change", () => save({ thinking: $("thinking").checked }));
  for (const name of ["theme", "language"]) {
    for (const radio of document.getElementsByName(name)) {
      radio.addEventListener("change", () => {
        save({ [name]: radio.value });
        on[name]();
        drawKeyState();
      });
    }
  }
  $("export-markdown").addEventListener("click", () => {
    download(`${fileName(on.current().title)}.md`, "text/markdown;charset=utf-8", markdownOf(on.current()));
  });
  $("export-json").addEventListener("click", () => {
    const all = { format: "binhdan.conversations", version: 1, conversations: allConversations() };
    const day = new Date().toISOString().slice(0, 10);
    download(`binhdan-${day}.json`, "application/json", JSON.stringify(all, null, 2));
  });
}

function drawChoices() {
  for (const name of ["theme", "language"])
    for (const radio of document.getElementsByName(name)) radio.checked = radio.value === settings[name];
}

function drawKeyState() {
  const has = apiKey.get() !== "";
  let state = t("Chưa có khoá. Chỉ cần khi máy chủ đòi.");
  if (has) state = t("Đã có khoá, cho đến khi đóng trang này.");
  if (has && apiKey.remembered()) state = t("Đã có khoá, nhớ trên máy này.");
  $("key-state").textContent = state;
  $("forget-key").hidden = !has;
}

function setUpKey(on) {
  const input = $("key");
  const reveal = (shown) => {
    input.type = shown ? "text" : "password";
    $("show-key").setAttribute("aria-pressed", String(shown));
    $("show-key").textContent = shown ? t("Giấu") : t("Hiện");
  };
  $("enter-key").addEventListener("click", () => askForKey());
  $("show-key").addEventListener("click", () => reveal(input.type === "password"));
  $("forget-key").addEventListener("click", () => {
    apiKey.forget();
    drawKeyState();
    $("enter-key").focus();
  });
  $("key-dialog").addEventListener("close", () => {
    input.value = ""; // remove the key from the document
    reveal(false);
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = input.value.trim();
    if (!/^[!-~]+$/.test(value)) {
      const text = t("Khoá gồm các chữ cái không dấu, chữ số và dấu câu, không có khoảng trắng.");
      $("key-wrong").textContent = text;
      input.focus();
      return;
    }
    apiKey.set(value, $("remember-key").checked);
    $("key-dialog").close();
    drawKeyState();
    on.key();
  });
}

/** Opens the dialog of the API key; `why` is its message. */
export function askForKey(why = "") {
  if ($("key-dialog").open) return;
  $("key-why").textContent = why || t("Người quản lý máy chủ sẽ cho bạn khoá này.");
  $("key-wrong").textContent = "";
  $("remember-key").checked = apiKey.remembered();
  $("key-dialog").showModal();
  $("key").focus();
}

function fileName(title) {
  return title.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "binhdan";
}

function markdownOf({ title, updated, messages }) {
  const parts = [`# ${title}`, `*${new Date(updated).toLocaleString(locale())}*`];
  for (const { role, content, reasoning, model } of messages) {
    parts.push(role === "user" ? `## ${t("Bạn")}` : `## ${t("Trả lời")}${model ? ` (${model})` : ""}`);
    if (reasoning) parts.push(`> ${reasoning.replace(/\n/g, "\n> ")}`);
    parts.push(content);
  }
  return `${parts.join("\n\n")}\n`;
}

// The list of conversations: open, search, rename, delete.

import { $, clone } from "./dom.js";
import { languageOf, t } from "./i18n.js";
import { allConversations } from "./store.js";

/** Returns `text` in lower case without diacritics, so that "dau" finds "dấu". */
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").replace(/[đĐ]/g, "d").toLowerCase();

/** Returns the conversations that have all words of `query` in their title or messages. */
export function search(conversations, query) {
  const words = plain(query).split(/\s+/).filter((word) => word);
  if (words.length === 0) return conversations;
  return conversations.filter(({ title, messages }) => {
    const text = plain([title, ...messages.map(({ content }) => content)].join("\n"));
    return words.every((word) => text.includes(word));
  });
}

export class History {
  /** `actions`: open(id), remove(id), rename(id, title); `current` returns the id on the screen. */
  constructor(actions, current) {
    this.actions = actions;
    this.current = current;
    this.query = $("search");
    this.query.addEventListener("input", () => this.draw());
    this.query.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.query.value) return;
      event.stopPropagation();
      this.query.value = "";
      this.draw();
    });
  }

  draw() {
    const all = allConversations();
    const found = search(all, this.query.value);
    $("conversations").replaceChildren(...found.map((conversation) => this.item(conversation)));
    this.query.parentElement.hidden = all.length < 2 && !this.query.value;
    $("no-conversations").hidden = found.length > 0;
    $("no-conversations").textContent =
      all.length > 0 ? t("Không tìm thấy cuộc trò chuyện nào.") : t("Chưa có cuộc trò chuyện nào.");
  }

  item({ id, title }) {
    const item = clone("t-conversation");
    const [open, rename, remove] = item.querySelectorAll("button");
    open.textContent = title || t("Cuộc trò chuyện mới");
    open.lang = languageOf(open.textContent);
    if (id === this.current()) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => this.actions.open(id));
    rename.setAttribute("aria-label", t("Đổi tên: {title}", { title }));
    rename.addEventListener("click", () => this.edit(item, id, title));
    remove.setAttribute("aria-label", t("Xoá: {title}", { title }));
    remove.addEventListener("click", () => this.actions.remove(id));
    return item;
  }

  /** Replaces the item by a text field. Enter or leaving it saves, Escape does not. */
  edit(item, id, title) {
    const input = document.createElement("input");
    input.value = title;
    input.maxLength = 100;
    input.setAttribute("aria-label", t("Tên mới"));
    let open = true;
    const close = (save) => {
      if (!open) return;
      open = false;
      if (save && input.value.trim()) this.actions.rename(id, input.value.trim());
      this.draw();
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.stopPropagation();
      close(event.key === "Enter");
      this.focus(id);
    });
    input.addEventListener("blur", () => close(true));
    item.replaceChildren(input);
    item.dataset.id = id;
    input.select();
  }

  focus(id) {
    const at = search(allConversations(), this.query.value).findIndex((one) => one.id === id);
    $("conversations").children[at]?.querySelector("button").focus();
  }
}

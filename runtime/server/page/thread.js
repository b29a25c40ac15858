// Renders the conversation: one view per message.

import { $, clone, copy } from "./dom.js";
import { placeOf } from "./branches.js";
import { fileLine } from "./files.js";
import { languageOf, number, t } from "./i18n.js";
import { render } from "./markdown.js";
import { details, summary } from "./stats.js";

const ENDINGS = {
  length: () => t("Dừng ở đây vì đã hết độ dài cho phép."),
  stopped: () => t("Bạn đã dừng câu trả lời ở đây."),
  cut: () => t("Câu trả lời bị ngắt ở đây."),
};

/** The buttons that show the siblings of a message. */
class Branches {
  constructor(element, message, onTurn) {
    this.element = element;
    this.message = message;
    [this.previous, this.next] = element.querySelectorAll("button");
    this.previous.addEventListener("click", () => onTurn(message, -1));
    this.next.addEventListener("click", () => onTurn(message, 1));
  }

  draw(idle) {
    const place = placeOf(this.message);
    this.element.hidden = place.count === 1;
    const values = { n: number(place.number), count: number(place.count) };
    this.element.querySelector("span").textContent = t("{n}/{count}", values);
    this.previous.disabled = !idle || place.number === 1;
    this.next.disabled = !idle || place.number === place.count;
  }
}

class QuestionView {
  constructor(message, { onEdit, onTurn }) {
    this.element = clone("t-question");
    this.edit = this.element.querySelector(".edit");
    this.edit.addEventListener("click", () => onEdit(message));
    this.branches = new Branches(this.element.querySelector(".branches"), message, onTurn);
    const text = this.element.querySelector(".text");
    text.textContent = message.content;
    text.hidden = message.content === "";
    text.lang = languageOf(message.content);
    const files = (message.files ?? []).map((file) => {
      const item = document.createElement("li");
      item.textContent = fileLine(file);
      return item;
    });
    const list = this.element.querySelector(".files");
    list.replaceChildren(...files);
    list.hidden = files.length === 0;
  }

  place({ idle }) {
    this.edit.hidden = !idle;
    this.branches.draw(idle);
  }
}

class AnswerView {
  constructor(message, { onAgain, onMore, onTurn }) {
    this.message = message;
    this.element = clone("t-answer");
    const find = (selector) => this.element.querySelector(selector);
    this.reasoning = find(".reasoning");
    this.waiting = find(".waiting");
    this.text = find(":scope > .text");
    this.note = find(".note");
    this.stats = find(".stats");
    this.copy = find(".copy");
    this.again = find(".again");
    this.copy.addEventListener("click", () => copy(message.content));
    this.again.addEventListener("click", onAgain);
    this.more = find(".more");
    this.more.addEventListener("click", onMore);
    this.branches = new Branches(find(".branches"), message, onTurn);
    this.stats.addEventListener("toggle", () => {
      if (this.stats.open) this.stats.scrollIntoView({ block: "nearest" });
    });
    this.text.addEventListener("click", (event) => {
      const frame = event.target.closest("button")?.closest(".code");
      if (frame) copy(frame.querySelector("pre").textContent);
    });
  }

  place({ last, running, idle }) {
    this.running = running;
    this.again.hidden = !(last && idle);
    const incomplete = this.message.ending in ENDINGS && this.message.content !== "";
    this.more.hidden = !(last && idle && incomplete);
    this.branches.draw(idle);
    this.draw();
  }

  draw() {
    const { content, reasoning, ending, stats, model } = this.message;
    this.element.setAttribute("aria-busy", String(this.running));
    this.waiting.hidden = !this.running || content !== "";
    this.waiting.querySelector("span").textContent = reasoning ? t("Đang suy nghĩ…") : t("Đang đọc câu hỏi…");
    this.reasoning.hidden = reasoning === "";
    if (reasoning) {
      this.reasoning.querySelector("summary").textContent = t("Những điều mô hình đã nghĩ");
      this.reasoning.querySelector(".text").textContent = reasoning;
    }
    render(this.text, content);
    const language = languageOf(content);
    if (this.text.lang !== language) this.text.lang = language;
    const note = this.running ? "" : (ENDINGS[ending]?.() ?? "");
    this.note.textContent = note;
    this.note.hidden = note === "";
    this.copy.hidden = this.running || content === "";
    const line = this.running || !stats ? "" : summary(stats);
    this.stats.hidden = line === "";
    if (line && !this.stats.open) this.drawStats(line, details(stats, model));
  }

  drawStats(line, rows) {
    this.stats.querySelector("summary").textContent = line;
    const pairs = rows.flatMap(([label, value, language]) => {
      const term = document.createElement("dt");
      const definition = document.createElement("dd");
      term.textContent = label;
      definition.textContent = value;
      if (language) definition.lang = language;
      return [term, definition];
    });
    this.stats.querySelector("dl").replaceChildren(...pairs);
  }
}

/**
 * `actions`: onEdit(message) edits a question, onAgain() writes another last answer, onMore() the rest of it,
 * onTurn(message, step) shows a sibling.
 */
export class Thread {
  constructor(actions) {
    this.actions = actions;
    this.list = $("thread");
    this.scroller = $("main");
    this.views = new Map(); // message -> view
    this.atEnd = true;
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true });
    $("to-end").addEventListener("click", () => this.toEnd(true));
  }

  /** Shows `messages`. `running`: the message that is streaming, or null. `afresh`: recreate all views. */
  show(messages, running, { afresh = false } = {}) {
    for (const [message, view] of this.views) {
      if (!afresh && messages.includes(message)) continue;
      view.element.remove();
      this.views.delete(message);
    }
    messages.forEach((message, i) => {
      let view = this.views.get(message);
      if (!view) {
        const View = message.role === "user" ? QuestionView : AnswerView;
        view = new View(message, this.actions);
        this.views.set(message, view);
        this.list.append(view.element);
      }
      view.place({
        last: i === messages.length - 1,
        running: message === running,
        idle: running === null,
      });
    });
    if (this.atEnd) this.toEnd();
  }

  /** Redraws `message` after new text has arrived. */
  update(message) {
    this.views.get(message)?.draw();
    if (this.atEnd) this.toEnd();
    else this.noteScroll();
  }

  toEnd(smoothly = false) {
    const instant = !smoothly || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: instant ? "instant" : "smooth" });
    this.atEnd = true;
    $("to-end").hidden = true;
  }

  noteScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    this.atEnd = below < 48;
    $("to-end").hidden = below < 200;
  }
}

// Renders a subset of Markdown as DOM nodes. A model's text may be hostile: it becomes text nodes, links are
// http or https only, nesting is bounded, and time is linear in the length of the text.

import { t } from "./i18n.js";
import { colour, typeset } from "./rich.js";

const MAX_DEPTH = 6;
const MAX_FORMULA_LINES = 60;

const node = (name, ...children) => {
  const element = document.createElement(name);
  element.append(...children);
  return element;
};

// --- blocks ----------------------------------------------------------------------------------------------

const HEADING = /^ {0,3}(#{1,6})[ \t]+(\S.*)$/;
const ITEM = /^[ \t]*([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const QUOTE = /^ {0,3}> ?/;

/** Returns {marks, language} of a line that opens a code block. A regular expression would be quadratic. */
function fenceOf(line) {
  const bare = line.trim();
  const mark = bare[0];
  let count = 0;
  if (mark === "`" || mark === "~") while (bare[count] === mark) count++;
  const info = bare.slice(count).trim();
  if (count < 3 || (mark === "`" && info.includes("`"))) return null;
  return { marks: bare.slice(0, count), language: info.split(/\s/, 1)[0] };
}

function closes(line, { marks }) {
  const bare = line.trim();
  return bare.length >= marks.length && bare === marks[0].repeat(bare.length);
}

/** Returns the width of the leading white space in columns; a tab counts as four. */
function indentOf(line) {
  let columns = 0;
  for (const letter of line) {
    if (letter === " ") columns += 1;
    else if (letter === "\t") columns += 4;
    else break;
  }
  return columns;
}

function unindent(line, columns) {
  let at = 0;
  let left = columns;
  for (; left > 0 && (line[at] === " " || line[at] === "\t"); at++) left -= line[at] === " " ? 1 : 4;
  return line.slice(at);
}

const isRule = (line) => {
  const marks = line.replace(/\s+/g, "");
  return marks.length >= 3 && /^(-+|\*+|_+)$/.test(marks);
};
const isTableRule = (line) => line.includes("|") && line.includes("-") && /^[\s|:-]+$/.test(line);
const isBlank = (line) => line.trim() === "";
const FORMULAS = { "$$": "$$", "\\[": "\\]" }; // marks of a formula on lines of its own
const opensFormula = (line) => line.trim().slice(0, 2) in FORMULAS;
const begins = (line) =>
  fenceOf(line) !== null ||
  HEADING.test(line) ||
  ITEM.test(line) ||
  QUOTE.test(line) ||
  isRule(line) ||
  opensFormula(line);

/** Returns the end of the formula that opens at line `i`; 0 without a closing mark. */
function endOfFormula(lines, i) {
  const mark = FORMULAS[lines[i].trim().slice(0, 2)];
  const last = Math.min(lines.length, i + MAX_FORMULA_LINES);
  for (let end = i; end < last; end++) {
    const bare = lines[end].trim();
    if (bare.endsWith(mark) && (end > i || bare.length >= 5)) return end + 1;
  }
  return 0;
}

/** Splits lines into blocks: [{kind, lines}]. */
function split(lines) {
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    const start = i;
    const line = lines[i];
    const fence = fenceOf(line);
    let kind = "paragraph";
    if (isBlank(line)) {
      i++;
      continue;
    } else if (fence) {
      kind = "code";
      for (i++; i < lines.length && !closes(lines[i], fence); ) i++;
      i++;
    } else if (opensFormula(line) && endOfFormula(lines, i) > 0) {
      kind = "formula";
      i = endOfFormula(lines, i);
    } else if (HEADING.test(line)) {
      kind = "heading";
      i++;
    } else if (isRule(line)) {
      kind = "rule";
      i++;
    } else if (QUOTE.test(line)) {
      kind = "quote";
      while (i < lines.length && QUOTE.test(lines[i])) i++;
    } else if (ITEM.test(line)) {
      kind = "list";
      i = endOfList(lines, i);
    } else if (line.includes("|") && i + 1 < lines.length && isTableRule(lines[i + 1])) {
      kind = "table";
      for (i += 2; i < lines.length && lines[i].includes("|"); ) i++;
    } else {
      for (i++; i < lines.length && !isBlank(lines[i]) && !begins(lines[i]); ) i++;
    }
    blocks.push({ kind, lines: lines.slice(start, i) });
  }
  return blocks;
}

const isOrdered = (item) => /\d/.test(item[1]);

/** Returns the end of the list at line `i`: the first line that is neither an item nor indented. */
function endOfList(lines, i) {
  const first = ITEM.exec(lines[i]);
  const indent = indentOf(lines[i]);
  let blank = false;
  for (i++; i < lines.length; i++) {
    if (isBlank(lines[i])) {
      blank = true;
      continue;
    }
    const item = ITEM.exec(lines[i]);
    const deeper = indentOf(lines[i]) > indent;
    const same = item && (isOrdered(item) === isOrdered(first) || deeper);
    if (!same && !deeper && (blank || begins(lines[i]))) break;
    blank = false;
  }
  return i;
}

function listNode(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const list = node(isOrdered(first) ? "ol" : "ul");
  const number = parseInt(first[1], 10);
  if (number > 1) list.setAttribute("start", String(number));
  let item = [];
  const flush = () => {
    const parts = blockNodes(item, depth + 1);
    // An item with one paragraph needs no <p>.
    const [head, ...rest] = parts;
    const tight = head?.localName === "p" && rest.every((part) => /^[ou]l$/.test(part.localName));
    list.append(node("li", ...(tight ? [...head.childNodes, ...rest] : parts)));
  };
  lines.forEach((line, i) => {
    const found = ITEM.exec(line);
    const own = found && indentOf(line) <= indentOf(lines[0]) + 1;
    if (own && i > 0) {
      flush();
      item = [];
    }
    item.push(own ? line.slice(found[0].length) : unindent(line, first[0].length));
  });
  flush();
  return list;
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|", 64).map((cell) => cell.trim());
}

function tableNode(lines) {
  const row = (line, name) => node("tr", ...cells(line).map((cell) => inline(node(name), cell)));
  const head = node("thead", row(lines[0], "th"));
  const body = node("tbody", ...lines.slice(2).map((line) => row(line, "td")));
  const frame = node("div", node("table", head, body));
  frame.className = "table";
  frame.tabIndex = 0; // makes it scrollable by keyboard
  return frame;
}

function codeNode(lines) {
  const fence = fenceOf(lines[0]);
  const closed = lines.length > 1 && closes(lines[lines.length - 1], fence);
  const code = node("code", lines.slice(1, closed ? -1 : undefined).join("\n"));
  colour(code, fence.language);
  const pre = node("pre", code);
  pre.tabIndex = 0;
  const button = node("button", t("Chép mã"));
  button.type = "button";
  const frame = node("div", pre, button);
  frame.className = "code";
  if (fence.language) frame.dataset.language = fence.language.slice(0, 20);
  return frame;
}

/** `raw` is the source with its marks of two characters, or of one. It is shown until KaTeX has loaded. */
function formulaNode(raw, marks, display) {
  const element = node("span", raw);
  element.className = display ? "formula display" : "formula";
  typeset(element, raw.slice(marks, -marks), display);
  return element;
}

function blockNode({ kind, lines }, depth) {
  switch (kind) {
    case "formula":
      return node("p", formulaNode(lines.join("\n").trim(), 2, true));
    case "code":
      return codeNode(lines);
    case "heading": {
      const [, marks, title] = HEADING.exec(lines[0]);
      return inline(node(marks.length < 3 ? "h3" : "h4"), title);
    }
    case "rule":
      return node("hr");
    case "quote":
      return node("blockquote", ...blockNodes(lines.map((line) => line.replace(QUOTE, "")), depth + 1));
    case "list":
      return listNode(lines, depth);
    case "table":
      return tableNode(lines);
    default:
      return inline(node("p"), lines.join("\n").trim());
  }
}

function blockNodes(lines, depth) {
  if (depth > MAX_DEPTH) return [node("p", lines.join("\n"))];
  return split(lines).map((block) => blockNode(block, depth));
}

// --- within a line ---------------------------------------------------------------------------------------

const WORD = /[\p{L}\p{N}_]/u;
const SPACE = /\s/;
const ESCAPED = /[!-/:-@[-`{-~]/;
const ADDRESS = /https?:\/\/[^\s<>"`]{1,2000}/y;

/** Appends `text` with its emphasis, code and links to `parent`; returns `parent`. */
function inline(parent, text, depth = 0) {
  const found = new Map(); // mark -> its next closing position, so that no text is searched twice
  let plain = "";

  const closing = (mark, from, good) => {
    let at = found.get(mark) ?? 0;
    if (at !== -1 && at < from) {
      at = text.indexOf(mark, from);
      while (at !== -1 && !good(at)) at = text.indexOf(mark, at + 1);
      found.set(mark, at);
    }
    return at;
  };
  const add = (...nodes) => {
    if (plain) parent.append(plain);
    plain = "";
    parent.append(...nodes);
  };
  const any = () => true;

  const emphasis = (i) => {
    const mark = text[i];
    const double = text[i + 1] === mark;
    const marks = double ? mark + mark : mark;
    const from = i + marks.length;
    if (from >= text.length || SPACE.test(text[from])) return 0;
    if (mark === "_" && i > 0 && WORD.test(text[i - 1])) return 0;
    let end = closing(marks, from + 1, (at) => {
      if (SPACE.test(text[at - 1])) return false;
      if (!double && (text[at + 1] === mark || text[at - 1] === mark)) return false;
      return mark === "*" || !WORD.test(text[at + marks.length] ?? " ");
    });
    if (end === -1) return 0;
    if (double && text[end + 2] === mark) end++; // ***both***
    add(inline(node(double ? "strong" : "em"), text.slice(from, end), depth + 1));
    return end + marks.length;
  };
  const code = (i) => {
    let from = i;
    while (text[from] === "`") from++;
    const marks = text.slice(i, from);
    const end = closing(marks, from, (at) => text[at + marks.length] !== "`" && text[at - 1] !== "`");
    if (end === -1) {
      plain += marks;
      return from;
    }
    add(node("code", text.slice(from, end).trim() || text.slice(from, end)));
    return end + marks.length;
  };
  const formula = (i) => {
    const single = text[i] === "$" && text[i + 1] !== "$";
    const opening = single ? "$" : text.slice(i, i + 2);
    const mark = { "\\(": "\\)", ...FORMULAS }[opening] ?? "$";
    const from = i + opening.length;
    // "$5 and $6" is no formula.
    if (single && (SPACE.test(text[from] ?? " ") || WORD.test(text[i - 1] ?? " "))) return 0;
    const good = (at) => !single || (!SPACE.test(text[at - 1]) && !/\d/.test(text[at + 1] ?? ""));
    const end = closing(mark, from + 1, good);
    if (end === -1) return 0;
    if (single && (end - from > 500 || text.slice(from, end).includes("`"))) return 0;
    const next = end + mark.length;
    add(formulaNode(text.slice(i, next), mark.length, opening in FORMULAS));
    return next;
  };
  const link = (i) => {
    const middle = closing("](", i + 1, any);
    if (middle === -1) return 0;
    const end = closing(")", middle + 2, any);
    if (end === -1) return 0;
    const anchor = linkTo(text.slice(middle + 2, end).trim());
    if (anchor === null) return 0;
    anchor.textContent = text.slice(i + 1, middle); // no link within a link
    add(anchor);
    return end + 1;
  };
  const bare = (i) => {
    if (i > 0 && WORD.test(text[i - 1])) return 0;
    ADDRESS.lastIndex = i;
    const match = ADDRESS.exec(text);
    if (match === null) return 0;
    let end = match[0].length;
    const trailing = match[0].includes("(") ? ".,;:!?]}*_'" : ".,;:!?)]}*_'";
    while (end > 0 && trailing.includes(match[0][end - 1])) end--;
    const anchor = linkTo(match[0].slice(0, end));
    if (anchor === null) return 0;
    anchor.textContent = match[0].slice(0, end);
    add(anchor);
    return i + end;
  };

  if (depth > MAX_DEPTH) {
    parent.append(text);
    return parent;
  }
  for (let i = 0; i < text.length; ) {
    const letter = text[i];
    let next = 0; // the position after the parsed part; 0: a plain character
    if (letter === "\n") {
      add(node("br"));
      next = i + 1;
    } else if (letter === "$" || (letter === "\\" && /[([]/.test(text[i + 1] ?? ""))) {
      next = formula(i);
      if (next === 0 && letter === "\\") {
        plain += text[i + 1];
        next = i + 2;
      }
    } else if (letter === "\\" && ESCAPED.test(text[i + 1] ?? "")) {
      plain += text[i + 1];
      next = i + 2;
    } else if (letter === "`") next = code(i);
    else if (letter === "*" || letter === "_") next = emphasis(i);
    else if (letter === "[") next = link(i);
    else if (letter === "h") next = bare(i);
    if (next === 0) {
      plain += letter;
      next = i + 1;
    }
    i = next;
  }
  add();
  return parent;
}

/** Returns a link without text; null if `address` is not an absolute http or https URL. */
function linkTo(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  const anchor = node("a");
  anchor.href = url.href;
  anchor.title = url.href;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  return anchor;
}

// --- incremental rendering -------------------------------------------------------------------------------

const drawn = new WeakMap(); // element -> source of each child

/** Renders `text` into `element`; keeps the blocks that have not changed since the last call. */
export function render(element, text) {
  const before = drawn.get(element) ?? [];
  const blocks = split(text.replace(/\r\n?/g, "\n").split("\n"));
  const sources = blocks.map((block) => `${block.kind}\n${block.lines.join("\n")}`);
  blocks.forEach((block, i) => {
    if (sources[i] === before[i]) return;
    const child = blockNode(block, 0);
    if (i < element.children.length) element.children[i].replaceWith(child);
    else element.append(child);
  });
  while (element.children.length > blocks.length) element.lastElementChild.remove();
  drawn.set(element, sources);
}

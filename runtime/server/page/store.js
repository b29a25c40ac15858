// Browser storage: settings, the API key, conversations. Other pages of this origin, older versions and the
// user may write there too, so every value is checked when it is read.

const SETTINGS = "binhdan.settings";
const KEY = "binhdan.key";
const CHAT = "binhdan.chat.";

/** Returns a Storage of the browser; if access is denied, an object that lasts until the page is closed. */
function open(name) {
  try {
    const area = window[name];
    area.getItem(KEY);
    return area;
  } catch {
    const items = new Map();
    return {
      get length() {
        return items.size;
      },
      key: (index) => [...items.keys()][index] ?? null,
      getItem: (key) => items.get(key) ?? null,
      setItem: (key, value) => void items.set(key, String(value)),
      removeItem: (key) => void items.delete(key),
    };
  }
}

const local = open("localStorage");
const session = open("sessionStorage");

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Returns whether the value was saved; the storage may be full. */
function write(area, key, value) {
  try {
    area.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

// --- settings --------------------------------------------------------------------------------------------

// Each function returns a valid value. null: the server's default.
const valid = {
  language: (value) => (value === "en" ? "en" : "vi"),
  theme: (value) => (value === "light" || value === "dark" ? value : "auto"),
  model: (value) => (typeof value === "string" ? value : ""),
  system: (value) => (typeof value === "string" ? value : ""),
  temperature: (value) => (typeof value === "number" && value >= 0 && value <= 2 ? value : null),
  maxTokens: (value) => (Number.isInteger(value) && value >= 1 && value < 2 ** 31 ? value : null),
  thinking: (value) => value === true,
};

function readSettings() {
  const saved = parse(local.getItem(SETTINGS));
  return Object.fromEntries(Object.entries(valid).map(([name, check]) => [name, check(saved?.[name])]));
}

export const settings = readSettings();

/** Applies the valid `changes`. Returns whether they were saved. */
export function change(changes) {
  for (const [name, value] of Object.entries(changes)) settings[name] = valid[name](value);
  return write(local, SETTINGS, JSON.stringify(settings));
}

// --- the API key -----------------------------------------------------------------------------------------

export const apiKey = {
  get: () => session.getItem(KEY) ?? local.getItem(KEY) ?? "",
  remembered: () => local.getItem(KEY) !== null,
  /** Saves the key for this tab or, with `remember`, for this browser. */
  set(value, remember) {
    this.forget();
    write(remember ? local : session, KEY, value);
  },
  forget() {
    session.removeItem(KEY);
    local.removeItem(KEY);
  },
};

// --- conversations ---------------------------------------------------------------------------------------
// {id, title, renamed, created, updated (ms), messages: [{role, content, reasoning, model, ending, stats}]}
// files: [{name, text, tokens}] of a question. For others and place see branches.js.
const MAX_BRANCHES = 200; // of one message
const MAX_DEPTH = 40; // of branches in branches

export function newConversation() {
  const now = Date.now();
  // Not crypto.randomUUID, which requires HTTPS or localhost.
  const id = `${now.toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
  return { id, title: "", renamed: false, created: now, updated: now, messages: [] };
}

const text = (value) => (typeof value === "string" ? value : "");
const time = (value) => (Number.isFinite(value) ? value : 0);

function checkedMessage(message, depth = 0) {
  if (message?.role !== "user" && message?.role !== "assistant") return null;
  const checked = { role: message.role, content: text(message.content) };
  if (Array.isArray(message.files) && message.files.length > 0)
    checked.files = message.files.map((file) => ({
      name: text(file?.name),
      text: text(file?.text),
      tokens: time(file?.tokens),
    }));
  if (Array.isArray(message.others) && depth < MAX_DEPTH) {
    const paths = message.others.slice(0, MAX_BRANCHES).map((path) => checkedPath(path, depth + 1));
    const others = paths.filter((path) => path.length > 0);
    if (others.length > 0) {
      checked.others = others;
      checked.place = Math.min(Math.max(Math.trunc(time(message.place)), 0), others.length);
    }
  }
  if (message.role === "assistant") {
    checked.reasoning = text(message.reasoning);
    checked.model = text(message.model);
    checked.ending = text(message.ending);
    if (message.stats !== null && typeof message.stats === "object") checked.stats = message.stats;
  }
  return checked;
}

function checkedPath(path, depth = 0) {
  if (!Array.isArray(path)) return [];
  return path.map((message) => checkedMessage(message, depth)).filter((message) => message !== null);
}

function checkedConversation(value) {
  if (!text(value?.id) || !Array.isArray(value.messages)) return null;
  return {
    id: value.id,
    title: text(value.title),
    renamed: value.renamed === true,
    created: time(value.created),
    updated: time(value.updated),
    messages: checkedPath(value.messages),
  };
}

export function loadConversation(id) {
  const found = checkedConversation(parse(local.getItem(CHAT + id)));
  return found?.id === id ? found : null;
}

/** Returns all conversations, newest first. */
export function allConversations() {
  const ids = [];
  for (let i = 0; i < local.length; i++) {
    const key = local.key(i);
    if (key?.startsWith(CHAT)) ids.push(key.slice(CHAT.length));
  }
  const found = ids.map(loadConversation).filter((conversation) => conversation !== null);
  return found.sort((a, b) => b.updated - a.updated);
}

/** Returns whether the conversation was saved. Empty answers are omitted. */
export function saveConversation(conversation) {
  const messages = conversation.messages.filter(
    ({ role, content, reasoning, others }) => role === "user" || content || reasoning || others,
  );
  return write(local, CHAT + conversation.id, JSON.stringify({ ...conversation, messages }));
}

export function deleteConversation(id) {
  local.removeItem(CHAT + id);
}

export function clearConversations() {
  for (const { id } of allConversations()) deleteConversation(id);
}

/** The id of the conversation that this tab shows; "" for a new one. */
export const current = {
  get: () => session.getItem("binhdan.current") ?? "",
  set: (id) => write(session, "binhdan.current", id),
};

/** Calls `changed(id)` when another tab changes a conversation; id null: any number of them. */
export function onChangeElsewhere(changed) {
  window.addEventListener("storage", (event) => {
    if (event.storageArea !== local) return;
    if (event.key === null) changed(null);
    else if (event.key.startsWith(CHAT)) changed(event.key.slice(CHAT.length));
  });
}

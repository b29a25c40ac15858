// What the browser keeps: settings, the API key, conversations. Other pages of this origin, older versions of
// this one and the user may have written there, so everything is checked when it is read.

const SETTINGS = "binhdan.settings";
const KEY = "binhdan.key";
const CHAT = "binhdan.chat.";

/** A Storage of the browser; where it is forbidden, one that lasts until the page is left. */
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

/** Says whether it was kept: the browser's room may be full. */
function write(area, key, value) {
  try {
    area.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

// --- settings --------------------------------------------------------------------------------------------

// null: the server's own.
const kinds = {
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
  return Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, kind(saved?.[name])]));
}

export const settings = readSettings();

/** Takes `changes` over, as far as they are valid. Says whether they were kept. */
export function change(changes) {
  for (const [name, value] of Object.entries(changes)) settings[name] = kinds[name](value);
  return write(local, SETTINGS, JSON.stringify(settings));
}

// --- the API key -----------------------------------------------------------------------------------------

export const apiKey = {
  get: () => session.getItem(KEY) ?? local.getItem(KEY) ?? "",
  remembered: () => local.getItem(KEY) !== null,
  /** For this tab, or, with `remember`, for this browser. */
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
// {id, title, created, updated (ms), messages: [{role, content, reasoning, model, ending, stats}]}

export function newConversation() {
  const now = Date.now();
  // Not crypto.randomUUID: over plain HTTP from another machine there is none.
  const id = `${now.toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
  return { id, title: "", created: now, updated: now, messages: [] };
}

const text = (value) => (typeof value === "string" ? value : "");
const time = (value) => (Number.isFinite(value) ? value : 0);

function checkedMessage(message) {
  if (message?.role !== "user" && message?.role !== "assistant") return null;
  const checked = { role: message.role, content: text(message.content) };
  if (message.role === "assistant") {
    checked.reasoning = text(message.reasoning);
    checked.model = text(message.model);
    checked.ending = text(message.ending);
    if (message.stats !== null && typeof message.stats === "object") checked.stats = message.stats;
  }
  return checked;
}

function checkedConversation(value) {
  if (!text(value?.id) || !Array.isArray(value.messages)) return null;
  return {
    id: value.id,
    title: text(value.title),
    created: time(value.created),
    updated: time(value.updated),
    messages: value.messages.map(checkedMessage).filter((message) => message !== null),
  };
}

export function loadConversation(id) {
  const found = checkedConversation(parse(local.getItem(CHAT + id)));
  return found?.id === id ? found : null;
}

/** The newest first. */
export function allConversations() {
  const ids = [];
  for (let i = 0; i < local.length; i++) {
    const key = local.key(i);
    if (key?.startsWith(CHAT)) ids.push(key.slice(CHAT.length));
  }
  const found = ids.map(loadConversation).filter((conversation) => conversation !== null);
  return found.sort((a, b) => b.updated - a.updated);
}

/** Says whether it was kept. An answer of which nothing has come is left out. */
export function saveConversation(conversation) {
  const messages = conversation.messages.filter((one) => one.role === "user" || one.content || one.reasoning);
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

/** Calls `changed(id)` when another tab has changed a conversation; id null: many. */
export function onChangeElsewhere(changed) {
  window.addEventListener("storage", (event) => {
    if (event.storageArea !== local) return;
    if (event.key === null) changed(null);
    else if (event.key.startsWith(CHAT)) changed(event.key.slice(CHAT.length));
  });
}

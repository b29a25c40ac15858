// Client of the server's API: OpenAI's, plus usage.binhdan. URLs are relative to the page, because a proxy
// may serve it under a prefix.

/** status: HTTP status, 0 for a missing or incomplete response. retryAt: as Date.now(), 0: at once. */
export class ApiError extends Error {
  constructor(status, message, { code = "", retryAt = 0 } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAt = retryAt;
  }
}

const address = (path) => new URL(path, document.baseURI);

function retryAt(response) {
  const value = response.headers.get("retry-after") ?? "";
  const at = /^\d+$/.test(value) ? Date.now() + Number(value) * 1000 : Date.parse(value);
  return Number.isFinite(at) ? Math.min(at, Date.now() + 3_600_000) : 0;
}

function errorOf(value, status, at = 0) {
  const error = value?.error;
  const message = typeof error === "string" ? error : error?.message;
  return new ApiError(status, typeof message === "string" ? message : "", {
    code: typeof error?.code === "string" ? error.code : "",
    retryAt: at,
  });
}

async function request(path, key, options) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (response.ok) return response;
  const value = await response.json().catch(() => null);
  throw errorOf(value, response.status, retryAt(response));
}

/** Returns [{id, isDefault, embedded, generates, error}]. Throws ApiError. */
export async function listModels(key) {
  const response = await request("v1/models", key, { method: "GET" });
  const value = await response.json().catch(() => null);
  const models = Array.isArray(value?.data) ? value.data : [];
  return models
    .filter((model) => typeof model?.id === "string")
    .map(({ id, binhdan }) => ({
      id,
      isDefault: binhdan?.default === true,
      embedded: binhdan?.embedded === true,
      generates: binhdan?.causal !== false,
      error: typeof binhdan?.error === "string" ? binhdan.error : "",
    }));
}

/** Returns {text, tokens, context} of a File. Throws ApiError. */
export async function readFile(file, model, key) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  const body = { data: btoa(binary), ...(model ? { model } : {}) };
  const response = await request("page/attachment", key, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const value = await response.json().catch(() => null);
  if (typeof value?.text !== "string") throw new ApiError(0, "");
  const count = (one) => (Number.isFinite(one) ? one : 0);
  return { text: value.text, tokens: count(value.tokens), context: count(value.context) || Infinity };
}

/** Yields the `data` of server-sent events (WHATWG HTML, section 9.2). */
async function* eventData(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder(); // buffers incomplete characters
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have failed already
  }
}

/**
 * Yields the parsed chunks of an answer. Throws ApiError, also when the stream ends before [DONE], and
 * AbortError when `signal` aborts.
 */
export async function* streamChat(body, key, signal) {
  const response = await request("v1/chat/completions", key, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  try {
    for await (const data of eventData(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk?.error) throw errorOf(chunk, 500);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(0, "", { code: "cut" });
  }
  throw new ApiError(0, "", { code: "cut" });
}

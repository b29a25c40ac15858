// Requests and receives one answer.

import { ApiError, streamChat } from "./api.js";
import { contentOf } from "./files.js";
import { added, statsOf } from "./stats.js";

/**
 * Returns the body of a request for the next message. `again`: the answer should differ from the last.
 * `more`: the answer continues the last message.
 */
export function bodyOf(messages, settings, model, { again = false, more = false } = {}) {
  const sent = [];
  for (const message of messages) {
    const { role } = message;
    const content = contentOf(message);
    // Many templates require alternating roles, so questions without an answer are joined.
    if (sent.at(-1)?.role === role) sent.at(-1).content += `\n\n${content}`;
    else if (content) sent.push({ role, content });
  }
  if (settings.system.trim()) sent.unshift({ role: "system", content: settings.system });
  const body = { messages: sent };
  if (model) body.model = model;
  if (settings.maxTokens !== null) body.max_tokens = settings.maxTokens;
  if (settings.temperature !== null) body.temperature = settings.temperature;
  else if (again) body.temperature = 0.7; // the server's default may be greedy
  if (more) Object.assign(body, { continue_final_message: true, add_generation_prompt: false });
  else if (settings.thinking) body.reasoning_effort = "medium";
  return body;
}

/**
 * Streams an answer into `message` and calls `changed` after each chunk. Returns an ApiError or null.
 * Sets `message.ending`: stop, length, stopped (by the user) or cut.
 */
export async function run(message, body, key, signal, changed) {
  const clock = { first: 0, last: 0 };
  const before = message.stats;
  let usage = null;
  try {
    for await (const chunk of streamChat(body, key, signal)) {
      if (chunk.usage) usage = chunk.usage;
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      const { content, reasoning_content: reasoning } = choice.delta ?? {};
      if (typeof content === "string") message.content += content;
      if (typeof reasoning === "string") message.reasoning += reasoning;
      if (content || reasoning) {
        clock.last = performance.now();
        clock.first ||= clock.last;
      }
      if (typeof choice.finish_reason === "string") message.ending = choice.finish_reason;
      changed();
    }
    return null;
  } catch (error) {
    if (error.name === "AbortError") {
      message.ending = "stopped";
      return null;
    }
    message.ending = "cut";
    if (error instanceof ApiError) return error;
    console.error(error);
    return new ApiError(0, String(error.message));
  } finally {
    message.stats = added(before, statsOf(usage, clock));
  }
}

// Announces answers to screen readers: each sentence once, as soon as it is complete.

const region = document.getElementById("announcer");
const MIN_LENGTH = 60; // characters; short sentences such as "Vâng." are joined
const SENTENCE_END = /[.!?…:;\n](?=\s|$)/g;

const lengths = new WeakMap(); // message -> number of announced characters

export function announce(text) {
  const words = text.replace(/[*_`#>|]+/g, "").trim();
  if (!words) return;
  const line = document.createElement("p");
  line.textContent = words;
  region.append(line);
  while (region.childElementCount > 30) region.firstElementChild.remove();
}

export function announceAnswer(message, finished) {
  const text = message.content;
  const announced = lengths.get(message) ?? 0;
  let end = finished ? text.length : announced;
  if (!finished) {
    const fresh = text.slice(announced);
    // A sentence does not end at the last character: "3." may become "3.14".
    for (const match of fresh.matchAll(SENTENCE_END)) {
      if (match.index + 1 < fresh.length) end = announced + match.index + 1;
    }
    if (end - announced < MIN_LENGTH) return;
  }
  announce(text.slice(announced, end));
  lengths.set(message, end);
}

export function announceStart(text) {
  region.replaceChildren();
  announce(text);
}

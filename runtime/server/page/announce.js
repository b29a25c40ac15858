// Reads answers out to screen readers: sentence by sentence as they are written, each one once.

const region = document.getElementById("announcer");
const SHORTEST = 60; // characters: not every "Vâng." on its own
const END = /[.!?…:;\n](?=\s|$)/g;

const lengths = new WeakMap(); // message -> how much of its text has been read out

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
  const said = lengths.get(message) ?? 0;
  let end = finished ? text.length : said;
  if (!finished) {
    const fresh = text.slice(said);
    // The last sign may be followed by more: "3." of "3.14".
    for (const match of fresh.matchAll(END)) if (match.index + 1 < fresh.length) end = said + match.index + 1;
    if (end - said < SHORTEST) return;
  }
  announce(text.slice(said, end));
  lengths.set(message, end);
}

export function announceStart(text) {
  region.replaceChildren();
  announce(text);
}

// Time, energy and cost of an answer. Other servers do not send `usage.binhdan`; then the page's own clock
// gives the speed.

import { number, t } from "./i18n.js";

const positive = (value) => (Number.isFinite(value) && value >= 0 ? value : null);
const known = (...values) => values.every((value) => value !== null);

/** Returns stats from OpenAI's `usage` (may be null) and the arrival of the {first, last} chunk in ms. */
export function statsOf(usage, clock) {
  const bill = usage?.binhdan ?? {};
  return {
    prompt: positive(usage?.prompt_tokens),
    cached: positive(usage?.prompt_tokens_details?.cached_tokens),
    tokens: positive(usage?.completion_tokens),
    queueMs: positive(bill.queue_ms),
    promptMs: positive(bill.prompt_ms),
    decodeMs: positive(bill.decode_ms),
    joules: positive(bill.joules),
    vnd: positive(bill.cost_vnd),
    basis: typeof bill.cost_basis === "string" ? bill.cost_basis : "",
    clockMs: clock.last - clock.first,
  };
}

/** Returns the stats of an answer that was written in two parts; `first` null: in one. */
export function added(first, second) {
  if (!first) return second;
  const sum = { ...second };
  for (const name of ["tokens", "queueMs", "promptMs", "decodeMs", "joules", "vnd", "clockMs"]) {
    const [a, b] = [positive(first[name]), positive(second[name])];
    sum[name] = known(a, b) ? a + b : null;
  }
  return sum;
}

/** Returns tokens per second from the first token to the last; null for an answer that is too short. */
function speedOf({ tokens, decodeMs, clockMs }) {
  const ms = positive(decodeMs) ?? positive(clockMs);
  return tokens > 1 && ms > 0 ? ((tokens - 1) * 1000) / ms : null;
}

const money = (vnd) => {
  const digits = vnd < 1 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: vnd < 100 ? 1 : 0 };
  return t("{n} đồng", { n: number(vnd, digits) });
};
const time = (ms) =>
  ms < 1000
    ? t("{n} mili giây", { n: number(ms, { maximumFractionDigits: ms < 10 ? 1 : 0 }) })
    : t("{n} giây", { n: number(ms / 1000, { maximumFractionDigits: 1 }) });
const speed = (value) =>
  t("{n} token/giây", { n: number(value, { maximumFractionDigits: value < 10 ? 1 : 0 }) });

/** Returns one line, or "" without values. Saved stats may be hostile, so every value is checked. */
export function summary(stats) {
  const parts = [];
  if (known(positive(stats.tokens))) parts.push(t("{n} token", { n: number(stats.tokens) }));
  const perSecond = speedOf(stats);
  if (known(perSecond)) parts.push(speed(perSecond));
  if (known(positive(stats.vnd))) parts.push(money(stats.vnd));
  return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
}

/** Returns rows [label, text, language of the text or "" for the page's] of all known values. */
export function details(stats, model) {
  const value = Object.fromEntries(Object.entries(stats).map(([name, one]) => [name, positive(one)]));
  const rows = [];
  const row = (label, text, language = "") => rows.push([label, text, language]);
  if (model) row(t("Mô hình"), model);
  if (known(value.prompt)) {
    const tokens = t("{n} token", { n: number(value.prompt) });
    const again = value.cached ? t(", trong đó {n} đã đọc từ trước", { n: number(value.cached) }) : "";
    row(t("Câu hỏi và lịch sử"), tokens + again);
  }
  if (known(value.queueMs)) row(t("Chờ đến lượt"), time(value.queueMs));
  if (known(value.promptMs)) row(t("Đọc câu hỏi"), time(value.promptMs));
  if (known(value.decodeMs)) row(t("Viết câu trả lời"), time(value.decodeMs));
  else if (value.clockMs > 0) row(t("Viết câu trả lời"), time(value.clockMs));
  if (known(value.joules)) {
    const joules = number(value.joules, { maximumSignificantDigits: 3 });
    row(t("Điện năng đo được"), t("{n} jun", { n: joules }));
  }
  if (known(value.vnd)) {
    row(t("Một nghìn câu như vậy"), money(value.vnd * 1000));
    const basis = typeof stats.basis === "string" ? stats.basis.slice(0, 500) : "";
    if (basis) row(t("Cách tính tiền"), basis, "en");
  }
  return rows;
}

// Shows an error with a button to recover from it.

import { $ } from "./dom.js";
import { t } from "./i18n.js";

/** `message` contains the name of the exception. */
function whyNotLoaded(code, message) {
  if (code === "insufficient_memory" || message.includes("OutOfMemoryError"))
    return t("máy không đủ bộ nhớ cho nó");
  if (message.includes("BadFormatError")) return t("tệp của nó bị hỏng, hoặc không phải tệp GGUF");
  if (message.includes("UnsupportedError")) return t("phần mềm này chưa chạy được loại mô hình đó");
  if (message.includes("ModelNotFoundError")) return t("tệp của nó không còn trên máy chủ");
  return t("máy chủ không đọc được tệp của nó");
}

function messageOf({ status, code, message }, hasKey) {
  if (status === 401 && hasKey) return t("Máy chủ không nhận khoá API này.");
  if (status === 401) return t("Máy chủ này cần khoá API.");
  if (status === 403) return t("Máy chủ không cho phép.");
  if (status === 404) return t("Máy chủ không có mô hình này. Bạn hãy chọn mô hình khác ở phía trên.");
  if (code === "context_length_exceeded" || status === 413)
    return t("Cuộc trò chuyện đã dài quá sức mô hình. Bạn hãy mở cuộc mới, hoặc rút ngắn câu hỏi.");
  if (status === 429) return t("Nhiều người đang hỏi cùng lúc, hoặc bạn đã hỏi nhiều trong một phút.");
  if (code === "not_loaded" || code === "insufficient_memory")
    return t("Không nạp được mô hình này: {reason}.", { reason: whyNotLoaded(code, message) });
  if (code === "shutting_down") return t("Máy chủ đang tắt.");
  if (status === 503) return t("Máy chủ chưa sẵn sàng: đang nạp mô hình, hoặc đang bận.");
  if (status >= 500) return t("Máy chủ gặp lỗi.");
  if (status >= 400) return t("Máy chủ không nhận câu hỏi này.");
  if (code === "cut") return t("Kết nối bị ngắt giữa chừng.");
  return t("Không kết nối được với máy chủ. Bạn xem máy chủ còn chạy không, mạng còn thông không.");
}

let timer = 0;

/** Shows an ApiError below the thread; null hides it. The button calls `retry` or `enterKey`. */
export function showProblem(error, { hasKey = false, retry = null, enterKey = null } = {}) {
  clearInterval(timer);
  const frame = $("problem-text");
  frame.replaceChildren();
  $("problem").hidden = error === null;
  if (error === null) return;

  const text = document.createElement("p");
  text.textContent = messageOf(error, hasKey);
  frame.append(text);
  if (error.message && error.status !== 401) {
    const detail = document.createElement("p");
    detail.className = "quiet";
    detail.lang = "en";
    detail.textContent = error.message.slice(0, 500);
    frame.append(detail);
  }
  const button = $("problem-action");
  const needsKey = error.status === 401;
  button.textContent = needsKey ? t("Nhập khoá…") : t("Thử lại");
  button.onclick = needsKey ? enterKey : retry;
  countDown(button, error.retryAt);
}

/** CSS shows the seconds from an attribute; a screen reader would announce changed text every second. */
function countDown(button, end) {
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    button.disabled = left > 0;
    button.dataset.wait = left > 0 ? t("sau {n} giây", { n: left }) : "";
    if (left <= 0) clearInterval(timer);
  };
  timer = setInterval(tick, 250);
  tick();
}

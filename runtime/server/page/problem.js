// What went wrong, said kindly, with a way on.

import { $ } from "./dom.js";
import { t } from "./i18n.js";

function words({ status, code }, hasKey) {
  if (status === 401 && hasKey) return t("Máy chủ không nhận khoá API này.");
  if (status === 401) return t("Máy chủ này cần khoá API.");
  if (status === 403) return t("Máy chủ không cho phép.");
  if (status === 404) return t("Máy chủ không có mô hình này. Bạn hãy chọn mô hình khác ở phía trên.");
  if (code === "context_length_exceeded" || status === 413)
    return t("Cuộc trò chuyện đã dài quá sức mô hình. Bạn hãy mở cuộc mới, hoặc rút ngắn câu hỏi.");
  if (status === 429) return t("Nhiều người đang hỏi cùng lúc, hoặc bạn đã hỏi nhiều trong một phút.");
  if (status === 503) return t("Máy chủ chưa sẵn sàng: đang nạp mô hình, hoặc đang bận.");
  if (status >= 500) return t("Máy chủ gặp lỗi.");
  if (status >= 400) return t("Máy chủ không nhận câu hỏi này.");
  if (code === "cut") return t("Kết nối bị ngắt giữa chừng.");
  return t("Không kết nối được với máy chủ. Bạn xem máy chủ còn chạy không, mạng còn thông không.");
}

let ticking = 0;

/** Shows an ApiError below the thread; null takes it away. `retry` or `enterKey` is what its button does. */
export function showProblem(error, { hasKey = false, retry = null, enterKey = null } = {}) {
  clearInterval(ticking);
  const frame = $("problem-text");
  frame.replaceChildren();
  $("problem").hidden = error === null;
  if (error === null) return;

  const text = document.createElement("p");
  text.textContent = words(error, hasKey);
  frame.append(text);
  if (error.message && error.status !== 401) {
    const detail = document.createElement("p");
    detail.className = "quiet";
    detail.lang = "en";
    detail.textContent = error.message.slice(0, 500);
    frame.append(detail);
  }
  const button = $("problem-way");
  const needsKey = error.status === 401;
  button.textContent = needsKey ? t("Nhập khoá…") : t("Thử lại");
  button.onclick = needsKey ? enterKey : retry;
  countDown(button, error.retryAt);
}

/** CSS draws the seconds from an attribute: changing text would be read out every second. */
function countDown(button, end) {
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    button.disabled = left > 0;
    button.dataset.wait = left > 0 ? t("sau {n} giây", { n: left }) : "";
    if (left <= 0) clearInterval(ticking);
  };
  ticking = setInterval(tick, 250);
  tick();
}

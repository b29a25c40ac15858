// Questions on the first screen that fit the model.

// Of the model of the package. A test checks its answers.
const EMBEDDED = [
  "Bạn là ai?",
  "them dau: duong pho ha noi rat dong nguoi",
  "sửa chính tả: hà nọi là thủ đô của việt nam",
];
const CODE = [
  "Viết hàm Python đảo ngược một chuỗi.",
  "Câu lệnh SQL nào đếm số dòng của một bảng?",
  "Giải thích vòng lặp for trong C cho người mới học.",
];
const GENERAL = [
  "Vì sao trời xanh? Giải thích cho bé tám tuổi.",
  "Viết lời chúc thọ bà nội tròn tám mươi.",
  "Gợi ý mâm cơm chay cho bốn người.",
];

/** `model`: an entry of listModels(), or undefined. Returns Vietnamese texts. */
export function suggestionsFor(model) {
  if (!model || !model.generates) return [];
  if (model.embedded) return EMBEDDED;
  return /cod(e|er|ing)\b/i.test(model.id) ? CODE : GENERAL;
}

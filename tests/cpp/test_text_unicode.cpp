#include <algorithm>

#include "check.h"
#include "text/unicode.h"

using namespace binhdan::text;

namespace {

bool in_category(std::string_view name, char32_t c) {
  const std::vector<char32_t> bounds = category_bounds(name);
  return (std::upper_bound(bounds.begin(), bounds.end(), c) - bounds.begin()) % 2 == 1;
}
bool is_letter(char32_t c) {
  return in_category("L", c);
}
bool is_mark(char32_t c) {
  return in_category("M", c);
}
bool is_number(char32_t c) {
  return in_category("N", c);
}

}  // namespace

TEST(code_points_are_decoded_strictly) {
  const auto decode = [](std::string_view s) {
    std::u32string out;
    for (size_t i = 0; i < s.size();) out.push_back(next_codepoint(s, i));
    return out;
  };
  CHECK(decode("aệ🦙") == U"aệ🦙");
  CHECK(decode("\xC0\xAF") == U"\uFFFD\uFFFD");            // overlong
  CHECK(decode("\xED\xA0\x80") == U"\uFFFD\uFFFD\uFFFD");  // a surrogate
  CHECK(decode("\xF4\x90\x80\x80x") == U"\uFFFD\uFFFD\uFFFD\uFFFDx");
  CHECK(decode("\xE1\xBB") == U"\uFFFD\uFFFD");
  for (const char32_t c :
       {U'\0', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xFFFF', U'\U00010000', U'\U0010FFFF'}) {
    std::string s;
    append_utf8(s, c);
    CHECK(decode(s) == std::u32string(1, c));
  }
}

TEST(prefixes_end_at_characters) {
  const std::string text = "aệ🦙";  // 1 + 3 + 4 bytes
  const size_t complete[] = {0, 1, 1, 1, 4, 4, 4, 4, 8};
  for (size_t n = 0; n <= text.size(); ++n)
    CHECK(complete_prefix(std::string_view(text).substr(0, n)) == complete[n]);
  CHECK(complete_prefix("\x80\x80") == 2);
  CHECK(complete_prefix("\xE0\x80") == 2);  // can never become a character
  CHECK(complete_prefix("a\xF0\x9F") == 1);
}

// Expected values: bytes.decode("utf-8", errors="replace") of Python 3.
TEST(invalid_utf8_is_replaced_as_in_python) {
  CHECK(replace_invalid("ệ\xE1\xBBz") == "ệ\uFFFDz");
  CHECK(replace_invalid("\xF0\x9F\xA6") == "\uFFFD");
  CHECK(replace_invalid("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(replace_invalid("\xF0\x9F\xE1\xBB\x87") == "\uFFFDệ");
  CHECK(replace_invalid("\xC0\xFF\x80") == "\uFFFD\uFFFD\uFFFD");
}

TEST(character_classes) {
  CHECK(is_letter(U'z') && is_letter(U'Đ') && is_letter(U'ệ') && is_letter(U'工') && is_letter(0x323AF));
  CHECK(!is_letter(U'`') && !is_letter(U'{') && !is_letter(U'1') && !is_letter(0x301) &&
        !is_letter(kReplacement));
  CHECK(is_mark(0x300) && is_mark(0x0E31) && is_mark(0xE0100) && !is_mark(U'a') && !is_mark(0x10FFFF));
  CHECK(is_number(U'9') && is_number(U'½') && is_number(U'٣') && !is_number(U':'));
  int spaces = 0;
  for (char32_t c = 0; c < 0x110000; ++c) spaces += is_whitespace(c);
  CHECK(spaces == 25);  // White_Space in PropList.txt
  CHECK(is_whitespace(0x85) && is_whitespace(0x3000) && !is_whitespace(0x200B) && !is_whitespace(0x1C));
}

TEST(nfc_composes) {
  CHECK(nfc("Tie\u0302\u0301ng Vie\u0323\u0302t") == "Tiếng Việt");
  CHECK(nfc("e\u0302\u0323") == "ệ" && nfc("ê\u0323") == "ệ" && nfc("ẹ\u0302") == "ệ");
  CHECK(nfc("u\u031B\u0301") == "ứ" && nfc("\u0111") == "đ");
  CHECK(nfc("\u1112\u1161\u11AB") == "한" && nfc("하\u11AB") == "한" && nfc("한\u11AB") == "한\u11AB");
  CHECK(nfc("\u212B") == "Å" && nfc("\u0344") == "\u0308\u0301" && nfc("\u0958") == "\u0915\u093C");
  CHECK(nfc("a\u0315\u0300\u05AE\u0301b") == "à\u05AE\u0301\u0315b");  // NormalizationTest.txt, part 2
  CHECK(nfc("") == "" && nfc("plain") == "plain");
}

TEST(nfc_passes_other_bytes_through) {
  CHECK(nfc("\xFF"
            "e\u0301\xE1\xBB") ==
        "\xFF"
        "é\xE1\xBB");
  CHECK(nfc("e\xFF\u0301") == "e\xFF\u0301");
  CHECK(nfc("\uFFFD"
            "e\u0301") ==
        "\uFFFD"
        "é");
}

TEST(lower_case_and_categories) {
  CHECK(to_lower(U'A') == U'a' && to_lower(U'Đ') == U'đ' && to_lower(U'Ệ') == U'ệ' && to_lower(U'Ơ') == U'ơ');
  CHECK(to_lower(U'đ') == U'đ' && to_lower(U'1') == U'1' && to_lower(U'ß') == U'ß' &&
        to_lower(0x130) == U'i');
  CHECK(to_lower(0x10FFFF) == 0x10FFFF && to_lower(0x1E921) == 0x1E943);
  CHECK(general_category(U'a') == "Ll" && general_category(U'$') == "Sc" && general_category(0x301) == "Mn");
  CHECK(general_category(0) == "Cc" && general_category(0x10FFFF) == "Cn" &&
        general_category(0x110000) == "Cn");
}

TEST(decomposition_is_full) {
  std::vector<char32_t> parts;
  decompose(U'ệ', parts);
  CHECK((parts == std::vector<char32_t>{U'e', 0x323, 0x302}));
  parts.clear();
  decompose(U'각', parts);
  CHECK((parts == std::vector<char32_t>{0x1100, 0x1161, 0x11A8}));
  parts.clear();
  decompose(U'x', parts);
  CHECK((parts == std::vector<char32_t>{U'x'}));
}

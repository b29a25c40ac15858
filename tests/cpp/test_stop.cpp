#include "engine/stop.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"

using binhdan::engine::StopMatcher;

namespace {

struct Answer {
  std::string text;
  bool stopped;
  bool operator==(const Answer&) const = default;
};

Answer answer(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  std::string text;
  for (const std::string& piece : pieces) text += matcher.push(piece);
  const bool stopped = matcher.stopped();
  return {text + matcher.finish(), stopped};
}

std::vector<std::string> bytes_of(const std::string& text) {
  std::vector<std::string> pieces;
  for (const char byte : text) pieces.emplace_back(1, byte);
  return pieces;
}

// The definition: finds the shortest prefix of the text that ends with a stop text.
Answer expected(const std::vector<std::string>& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    const std::string read = text.substr(0, end);
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (!stop.empty() && read.ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return {read.substr(0, end - longest), true};
  }
  return {text, false};
}

}  // namespace

TEST(without_stop_texts_no_text_is_held_back) {
  StopMatcher matcher({"", ""});
  CHECK(matcher.push("Hà Nội") == "Hà Nội");
  CHECK(matcher.push("") == "");
  CHECK(matcher.finish() == "");
  CHECK(!matcher.stopped());
}

TEST(holds_back_only_possible_starts_of_stop_texts) {
  StopMatcher matcher({"###", "Người dùng:"});
  CHECK(matcher.push("Xin chào #") == "Xin chào ");
  CHECK(matcher.push("1 ") == "#1 ");
  CHECK(matcher.push("Ngườ") == "");
  CHECK(matcher.push("i ta") == "Người ta");
  CHECK(matcher.push("##") == "");
  CHECK(matcher.finish() == "##");
  CHECK(!matcher.stopped());
}

TEST(stop_texts_may_span_pieces) {
  CHECK((answer({"Người dùng:"}, {"Vâng ạ.\nNg", "ười", " dù", "ng", ": còn gì"}) ==
         Answer{"Vâng ạ.\n", true}));
  CHECK((answer({"\n\n"}, {"một\n", "hai\n", "\nba"}) == Answer{"một\nhai", true}));
  CHECK((answer({"a"}, {"a"}) == Answer{"", true}));
}

TEST(no_text_follows_a_stop_text) {
  StopMatcher matcher({"hết"});
  CHECK(matcher.push("đã hết rồi") == "đã ");
  CHECK(matcher.stopped());
  CHECK(matcher.push("nữa") == "");
  CHECK(matcher.finish() == "");
}

TEST(the_stop_text_that_completes_first_ends_the_answer) {
  CHECK((answer({"bcde", "cd"}, {"abcdef"}) == Answer{"ab", true}));
  CHECK((answer({"cd", "abcd"}, {"xabcdef"}) ==
         Answer{"x", true}));  // both complete at the same byte: the longer one counts
}

TEST(the_index_of_the_stop_text_is_reported) {
  StopMatcher matcher({"", "cd", "abcd"});
  CHECK(matcher.push("xab") == "x" && matcher.matched() == -1);
  CHECK(matcher.push("cd").empty() && matcher.matched() == 2);
}

TEST(a_stop_text_may_overlap_itself) {
  CHECK((answer({"aab"}, {"aaaa", "ab"}) == Answer{"aaa", true}));
  CHECK((answer({"abab!"}, bytes_of("ababab!")) == Answer{"ab", true}));
}

TEST(characters_are_not_split) {
  // ế, ề and ệ share two of their three bytes.
  const std::string tokens[] = {"ti", "ề", "n v", "ệ", " đ", "ế", "n"};
  StopMatcher matcher({"ến"});
  std::string all;
  for (const std::string& token : tokens) {
    const std::string released = matcher.push(token);
    CHECK(released.empty() || (released[0] & 0xC0) != 0x80);
    CHECK(released == token || token == "ế" || token == "n");
    all += released;
  }
  CHECK(matcher.stopped());
  CHECK(all == "tiền vệ đ");
}

TEST(equals_the_definition_for_any_pieces) {
  uint32_t state = 1;
  const auto random = [&](uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
  };
  for (int round = 0; round < 3000; ++round) {
    const auto word = [&](uint32_t longest) {
      std::string text;
      for (uint32_t n = random(longest + 1); n > 0; --n) text += "ab "[random(3)];
      return text;
    };
    std::vector<std::string> stops;
    for (uint32_t n = random(4); n > 0; --n) stops.push_back(word(5));
    const std::string text = word(24);
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, 1 + random(6)));
      at += pieces.back().size();
    }
    CHECK(answer(stops, pieces) == expected(stops, text));
  }
}

TEST(long_repetitive_text_takes_linear_time) {
  // 64 stop texts that nearly match everywhere: a matcher that rescans the held text would need minutes.
  std::vector<std::string> stops;
  for (int i = 0; i < 64; ++i) stops.push_back(std::string(1000 + i, 'a') + "b");
  StopMatcher matcher(stops);
  std::size_t size = 0;
  for (int i = 0; i < 100000; ++i) size += matcher.push("a").size();
  CHECK(size + matcher.finish().size() == 100000);
}

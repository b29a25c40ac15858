// Answers that repeat themselves end.
#include <vector>

#include "check.h"
#include "engine/loop_guard.h"

using namespace binhdan;
using engine::LoopGuard;
using text::Token;

namespace {

// The number of tokens after which the guard stops; 0: never.
int stops_after(int32_t tokens, const std::vector<Token>& start, const std::vector<Token>& part, int times) {
  LoopGuard guard(tokens);
  int count = 0;
  for (const Token token : start) {
    ++count;
    if (guard.push(token)) return count;
  }
  for (int i = 0; i < times; ++i)
    for (const Token token : part) {
      ++count;
      if (guard.push(token)) return count;
    }
  return 0;
}

std::vector<Token> count_up(int n, Token first = 1) {
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(first + i);
  return tokens;
}

}  // namespace

TEST(a_repeated_part_ends_an_answer) {
  CHECK(stops_after(16, {}, {5}, 100) == 16);
  CHECK(stops_after(64, count_up(7), {5}, 100) == 71);
  CHECK(stops_after(16, count_up(300), count_up(10, 1000), 10) == 340);  // four times
  CHECK(stops_after(16, {}, count_up(256, 1000), 10) == 1024);           // the longest part
  CHECK(stops_after(16, {}, count_up(257, 1000), 10) == 0);
  CHECK(stops_after(0, {}, {5}, 2000) == 0);
}

TEST(other_answers_go_on) {
  CHECK(stops_after(16, {}, count_up(10), 3) == 0);
  CHECK(stops_after(128, {}, {5}, 127) == 0);
  CHECK(stops_after(16, {}, count_up(5000), 1) == 0);
}

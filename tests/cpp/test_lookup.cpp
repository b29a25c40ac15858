// Guesses from earlier text: what is found, how long it is, and when guessing pauses.
#include "engine/lookup.h"

#include <vector>

#include "check.h"

using binhdan::engine::Lookup;
using Tokens = std::vector<binhdan::text::Token>;

namespace {

Tokens guess(Lookup& lookup, const Tokens& tokens, int64_t limit = 100) {
  const auto guessed = lookup.guess(tokens, limit);
  return {guessed.begin(), guessed.end()};
}

struct Run {
  int64_t steps, guessed;
};

// Generates `answer` after `prompt`, as an engine that verifies the guesses does.
Run run(Lookup& lookup, Tokens tokens, const Tokens& answer) {
  Run run{};
  for (size_t done = 0; done < answer.size(); ++run.steps) {
    const Tokens guessed = guess(lookup, tokens, static_cast<int64_t>(answer.size() - done) - 1);
    size_t right = 0;
    while (right < guessed.size() && guessed[right] == answer[done + right]) ++right;
    lookup.accept(static_cast<int64_t>(right));
    for (size_t i = 0; i <= right; ++i) tokens.push_back(answer[done++]);
    run.guessed += static_cast<int64_t>(guessed.size());
  }
  return run;
}

Tokens range(int first, int end) {
  Tokens tokens;
  for (int i = first; i < end; ++i) tokens.push_back(i);
  return tokens;
}

}  // namespace

TEST(what_followed_the_last_occurrence_is_guessed) {
  Lookup lookup(7);
  CHECK((guess(lookup, {1, 2, 3, 4, 5, 6, 7, 9, 1, 2, 3, 4, 8, 6, 7, 1, 2, 3, 4}) == Tokens{8, 6, 7}));
}

TEST(short_keys_give_short_guesses) {
  Lookup lookup(7);
  CHECK((guess(lookup, {1, 2, 3, 4, 5, 6, 9, 1, 2}) == Tokens{3, 4, 5}));  // a key of two tokens
  Lookup other(7);
  CHECK((guess(other, {1, 2, 3, 4, 5, 6, 9, 2}) == Tokens{3, 4}));  // of one
}

TEST(nothing_is_guessed_without_an_occurrence_or_a_place) {
  Lookup lookup(7);
  CHECK(guess(lookup, {1, 2, 3, 4, 5}).empty());
  CHECK(guess(lookup, {1}).empty());
  CHECK(guess(lookup, {}).empty());
  CHECK(guess(lookup, {1, 2, 3, 1, 2}, 0).empty());
  CHECK((guess(lookup, {1, 2, 3, 1, 2}, 1) == Tokens{3}));
  Lookup off(0);
  CHECK(!off.on() && guess(off, {1, 2, 3, 1, 2}).empty());
}

TEST(right_guesses_become_as_long_as_allowed) {
  Lookup lookup(7);
  const Tokens text = range(100, 200);
  const Run copy = run(lookup, text, text);
  CHECK(copy.steps <= 17);  // eight tokens a step, but for the first steps
  CHECK(lookup.accepted() == 100 - copy.steps && lookup.drafted() == copy.guessed);
}

// A name of one token became a name of two, which no key crosses; the prompt names 10 other places for the token after it.
TEST(a_copy_goes_on_behind_a_change) {
  Tokens prompt, answer;
  for (int line = 0; line < 10; ++line) {
    for (const int token : {1, 10 + line, 5, 2, 3, 30 + line, 50 + line, 70 + line, 90 + line})
      prompt.push_back(token);
    for (const int token : {1, 10 + line, 6, 7, 2, 3, 30 + line, 50 + line, 70 + line, 90 + line})
      answer.push_back(token);
  }
  Lookup lookup(7);
  const Run edit = run(lookup, prompt, answer);
  CHECK(edit.steps <= 45);  // of 100 tokens; without the copied text, 52
}

TEST(wrong_guesses_become_rare) {
  Lookup lookup(7);
  Tokens tokens;
  int guesses = 0;
  for (int step = 0; step < 1000; ++step) {
    tokens.insert(tokens.end(), {1, 2, 3});
    if (!guess(lookup, tokens, 7).empty()) ++guesses;
    lookup.accept(0);
    tokens.push_back(100 + step);
  }
  CHECK(guesses > 5 && guesses < 25);
}

TEST(a_miss_after_right_guesses_does_not_pause) {
  Lookup lookup(7);
  const Tokens text = {1, 2, 3, 4, 5, 6, 1, 2, 3};
  CHECK(!guess(lookup, text).empty());
  lookup.accept(0);
  Tokens more = text;
  more.push_back(4);
  CHECK(!guess(lookup, more).empty());
  lookup.accept(0);
  more.push_back(5);
  CHECK(guess(lookup, more).empty());  // the second miss does
}

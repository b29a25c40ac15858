#include "text/regex.h"

#include <algorithm>
#include <bitset>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr char32_t kEnd = 0x110000;  // one past the last code point
constexpr char32_t kLastSpace = 0x3000;

// The script Han (Scripts.txt of Unicode 17), as the boundaries of CodeSet.
constexpr char32_t kHan[] = {0x2E80,  0x2E9A,  0x2E9B,  0x2EF4,  0x2F00,  0x2FD6,  0x3005,  0x3006,  0x3007,
                             0x3008,  0x3021,  0x302A,  0x3038,  0x303C,  0x3400,  0x4DC0,  0x4E00,  0xA000,
                             0xF900,  0xFA6E,  0xFA70,  0xFADA,  0x16FE2, 0x16FE4, 0x16FF0, 0x16FF7, 0x20000,
                             0x2A6E0, 0x2A700, 0x2B81E, 0x2B820, 0x2CEAE, 0x2CEB0, 0x2EBE1, 0x2EBF0, 0x2EE5E,
                             0x2F800, 0x2FA1E, 0x30000, 0x3134B, 0x31350, 0x3347A};

// A set of code points, as sorted boundaries: [0] is the first member, [1] the first non-member after it, ...
class CodeSet {
 public:
  CodeSet() = default;
  CodeSet(char32_t first, char32_t last) : bounds_{first, last + 1} {}
  explicit CodeSet(std::vector<char32_t> bounds) : bounds_(std::move(bounds)) {}

  bool contains(char32_t c) const {
    return (std::upper_bound(bounds_.begin(), bounds_.end(), c) - bounds_.begin()) % 2 == 1;
  }
  CodeSet unite(const CodeSet& other) const {
    CodeSet out;
    std::size_t i = 0, j = 0;
    int depth = 0;
    while (i < bounds_.size() || j < other.bounds_.size()) {
      const bool left = j == other.bounds_.size() || (i < bounds_.size() && bounds_[i] <= other.bounds_[j]);
      const char32_t at = left ? bounds_[i] : other.bounds_[j];
      const bool was_inside = depth > 0;
      depth += (left ? i++ : j++) % 2 == 0 ? 1 : -1;
      if (was_inside == (depth > 0)) continue;
      if (!out.bounds_.empty() && out.bounds_.back() == at)
        out.bounds_.pop_back();
      else
        out.bounds_.push_back(at);
    }
    return out;
  }
  CodeSet negated() const {
    CodeSet out = *this;
    if (!out.bounds_.empty() && out.bounds_.front() == 0)
      out.bounds_.erase(out.bounds_.begin());
    else
      out.bounds_.insert(out.bounds_.begin(), 0);
    if (!out.bounds_.empty() && out.bounds_.back() == kEnd)
      out.bounds_.pop_back();
    else
      out.bounds_.push_back(kEnd);
    return out;
  }
  const std::vector<char32_t>& bounds() const { return bounds_; }
  bool operator==(const CodeSet&) const = default;

 private:
  std::vector<char32_t> bounds_;
};

// An instruction of the NFA. `next` and `other` are indexes of instructions.
struct Instruction {
  enum class Op : uint8_t {
    match,
    take,       // a character of `set`
    split,      // try `next` first, then `other`
    ahead,      // the next character is in `set`
    not_ahead,  // there is no next character, or it is not in `set`
    end,        // there is no next character
  } op;
  int next = -1, other = -1;
  int set = -1;
};
using Op = Instruction::Op;

constexpr std::size_t kMaxInstructions = 4096, kMaxStates = 8192, kMaxSets = 64;

}  // namespace

// Parses a pattern into an NFA (Thompson 1968) and turns it into a DFA whose states are ordered lists of NFA
// instructions: the order keeps the priority of alternatives (Cox 2009, "Regular Expression Matching: the
// Virtual Machine Approach"). Look-ahead of one character is resolved when that character is read.
class RegexCompiler {
 public:
  RegexCompiler(std::string_view pattern, Regex& into) : pattern_(pattern), into_(into) {}

  void compile() {
    const Fragment all = alternatives();
    if (at_ < pattern_.size()) unsupported("a closing bracket without an opening one");
    patch(all.exits, add({.op = Op::match}));
    start_ = all.entry;
    make_symbols();
    make_states();
  }

 private:
  // Part of the NFA: its first instruction, and the open ends as (instruction, uses `other`).
  struct Exit {
    int instruction;
    bool other;
  };
  struct Fragment {
    int entry;
    std::vector<Exit> exits;
  };

  [[noreturn]] void unsupported(const char* what) const {
    fail(Code::internal, "regular expression ", std::string(pattern_), ": ", what, " at byte ", at_);
  }

  // ---- parser ------------------------------------------------------------------------------------------

  bool peek(char c) const { return at_ < pattern_.size() && pattern_[at_] == c; }
  bool accept(std::string_view text) {
    if (pattern_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  char32_t next_character() {
    if (at_ == pattern_.size()) unsupported("an unexpected end");
    return next_codepoint(pattern_, at_);
  }

  int add(Instruction instruction) {
    if (program_.size() == kMaxInstructions) unsupported("too many instructions");
    program_.push_back(instruction);
    return static_cast<int>(program_.size()) - 1;
  }
  void patch(const std::vector<Exit>& exits, int target) {
    for (const Exit exit : exits)
      (exit.other ? program_[exit.instruction].other : program_[exit.instruction].next) = target;
  }
  int set_index(const CodeSet& set) {
    const auto found = std::find(sets_.begin(), sets_.end(), set);
    if (found == sets_.end()) {
      if (sets_.size() == kMaxSets) unsupported("too many character classes");
      sets_.push_back(set);
      return static_cast<int>(sets_.size()) - 1;
    }
    return static_cast<int>(found - sets_.begin());
  }
  Fragment single(Op op, const CodeSet& set) {
    const int index = add({.op = op, .set = set_index(set)});
    return {index, {{index, false}}};
  }

  Fragment alternatives() {
    Fragment all = sequence();
    while (accept("|")) {
      const Fragment right = sequence();
      all.entry = add({.op = Op::split, .next = all.entry, .other = right.entry});
      all.exits.insert(all.exits.end(), right.exits.begin(), right.exits.end());
    }
    return all;
  }

  Fragment sequence() {
    // An empty sequence is a split whose two ends are the same.
    if (at_ == pattern_.size() || peek('|') || peek(')')) {
      const int index = add({.op = Op::split});
      return {index, {{index, false}, {index, true}}};
    }
    Fragment all = quantified();
    while (at_ < pattern_.size() && !peek('|') && !peek(')')) {
      Fragment right = quantified();
      patch(all.exits, right.entry);
      all.exits = std::move(right.exits);
    }
    return all;
  }

  // An atom with its quantifier. The atom is parsed again for each repetition.
  Fragment quantified() {
    const std::size_t begin = at_;
    Fragment atom = this->atom();
    int low = 1, high = 1;  // high -1: no limit
    if (accept("?")) {
      low = 0;
    } else if (accept("*")) {
      low = 0;
      high = -1;
    } else if (accept("+")) {
      high = -1;
    } else if (peek('{')) {
      ++at_;
      low = high = number();
      if (accept(",")) high = peek('}') ? -1 : number();
      if (!accept("}")) unsupported("a quantifier without }");
    } else {
      return atom;
    }
    const std::size_t end = at_;
    const auto again = [&] {
      at_ = begin;
      Fragment copy = this->atom();
      at_ = end;
      return copy;
    };

    Fragment all{-1, {}};
    const auto append = [&](Fragment part) {
      if (all.entry < 0) {
        all = std::move(part);
        return;
      }
      patch(all.exits, part.entry);
      all.exits = std::move(part.exits);
    };
    bool used = false;
    const auto next = [&] {
      if (used) return again();
      used = true;
      return atom;
    };
    for (int i = 0; i < low; ++i) append(next());
    if (high < 0) {
      Fragment loop = next();
      const int split = add({.op = Op::split, .next = loop.entry});
      patch(loop.exits, split);
      append({split, {{split, true}}});
    }
    std::vector<Exit> skips;
    for (int i = low; i < high; ++i) {
      Fragment part = next();
      const int split = add({.op = Op::split, .next = part.entry});
      skips.push_back({split, true});
      append({split, std::move(part.exits)});
    }
    if (all.entry < 0) unsupported("a quantifier of zero");
    all.exits.insert(all.exits.end(), skips.begin(), skips.end());
    return all;
  }

  int number() {
    int value = 0;
    const std::size_t begin = at_;
    for (; at_ < pattern_.size() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_)
      value = std::min(10'000, value * 10 + (pattern_[at_] - '0'));
    if (at_ == begin) unsupported("a quantifier without a number");
    return value;
  }

  Fragment atom() {
    if (accept("(?=") || accept("(?!")) {
      const Op op = pattern_[at_ - 1] == '=' ? Op::ahead : Op::not_ahead;
      const CodeSet set = one_character();
      if (!accept(")")) unsupported("a look-ahead of more than one character");
      return single(op, set);
    }
    if (accept("(?i:")) return group(true);
    if (accept("(?:") || accept("(")) return group(any_case_);
    if (accept("$")) {
      const int index = add({.op = Op::end});
      return {index, {{index, false}}};
    }
    return single(Op::take, one_character());
  }
  Fragment group(bool any_case) {
    const bool outer = std::exchange(any_case_, any_case);
    Fragment inside = alternatives();
    any_case_ = outer;
    if (!accept(")")) unsupported("a group without )");
    return inside;
  }

  CodeSet one_character() {
    if (accept("[")) return bracket();
    if (accept(".")) return CodeSet(U'\n', U'\n').negated();
    if (peek('\\')) return escape();
    return literal(next_character());
  }
  CodeSet literal(char32_t c) const {
    const CodeSet set(c, c);
    const char32_t other = c ^ 0x20;
    const bool letter = (c | 0x20) >= U'a' && (c | 0x20) <= U'z';
    return any_case_ && letter ? set.unite(CodeSet(other, other)) : set;
  }
  CodeSet bracket() {
    const bool negated = accept("^");
    CodeSet set;
    for (bool first = true; first || !peek(']'); first = false) {
      if (peek('\\') && !range_escape()) {
        set = set.unite(escape());
        continue;
      }
      const char32_t begin = range_end();
      if (peek('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        const char32_t last = range_end();
        if (last < begin) unsupported("a range whose end is before its start");
        set = set.unite(CodeSet(begin, last));
      } else {
        set = set.unite(literal(begin));
      }
    }
    ++at_;
    return negated ? set.negated() : set;
  }
  // Is the escape at this place one character, which may start or end a range?
  bool range_escape() const {
    return at_ + 1 < pattern_.size() &&
           std::string_view("sSdDpP").find(pattern_[at_ + 1]) == std::string_view::npos;
  }
  char32_t range_end() {
    const char32_t c = next_character();
    return c == U'\\' ? escaped(next_character()) : c;
  }
  char32_t escaped(char32_t c) const {
    if (c == U'n') return U'\n';
    if (c == U'r') return U'\r';
    if (c == U't') return U'\t';
    if ((c | 0x20) >= U'a' && (c | 0x20) <= U'z') unsupported("an unknown escape");
    return c;
  }
  CodeSet escape() {
    ++at_;
    const char32_t c = next_character();
    switch (c) {
      case U's':
      case U'S': {
        std::vector<char32_t> bounds;
        for (char32_t space = 0; space <= kLastSpace + 1; ++space)
          if (is_whitespace(space) != (bounds.size() % 2 == 1)) bounds.push_back(space);
        const CodeSet set(std::move(bounds));
        return c == U's' ? set : set.negated();
      }
      case U'd':
      case U'D': {
        const CodeSet set = property("Nd");
        return c == U'd' ? set : set.negated();
      }
      case U'p':
      case U'P': {
        const std::size_t close = pattern_.find('}', at_);
        if (!accept("{") || close == std::string_view::npos) unsupported("a property without {}");
        const CodeSet set = property(pattern_.substr(at_, close - at_));
        at_ = close + 1;
        return c == U'p' ? set : set.negated();
      }
      default:
        return literal(escaped(c));
    }
  }
  CodeSet property(std::string_view name) {
    if (name == "Han") return CodeSet({std::begin(kHan), std::end(kHan)});
    std::vector<char32_t> bounds = category_bounds(name);
    if (bounds.empty()) unsupported("an unknown property");
    return CodeSet(std::move(bounds));
  }

  // ---- symbols and states ------------------------------------------------------------------------------

  // Code points that are in the same sets get the same symbol.
  void make_symbols() {
    std::vector<char32_t> starts{0};
    for (const CodeSet& set : sets_)
      for (const char32_t bound : set.bounds())
        if (bound < kEnd) starts.push_back(bound);
    std::sort(starts.begin(), starts.end());
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
    std::map<std::vector<bool>, uint8_t> known;
    for (const char32_t start : starts) {
      std::vector<bool> members;
      for (const CodeSet& set : sets_) members.push_back(set.contains(start));
      const auto [entry, added] = known.try_emplace(members, static_cast<uint8_t>(known.size()));
      if (added) {
        if (known.size() > 255) unsupported("too many classes of characters");
        members_.push_back(std::move(members));
      }
      if (into_.runs_.empty() || into_.runs_.back().symbol != entry->second)
        into_.runs_.push_back({start, entry->second});
    }
    into_.symbols_ = members_.size() + 1;
    into_.direct_.resize(Regex::kDirect);
    std::size_t run = 0;
    for (char32_t c = 0; c < Regex::kDirect; ++c) {
      while (run + 1 < into_.runs_.size() && into_.runs_[run + 1].first <= c) ++run;
      into_.direct_[c] = into_.runs_[run].symbol;
    }
  }

  using State = std::vector<int>;  // instructions in order of priority; a prefix of them leads to the match

  void make_states() {
    std::map<State, uint16_t> known{{State{}, 0}, {State{start_}, 1}};
    std::vector<State> states{State{}, State{start_}};
    for (std::size_t i = 0; i < states.size(); ++i)
      for (std::size_t symbol = 0; symbol < into_.symbols_; ++symbol) {
        State after;
        const bool matched = step(states[i], symbol, after);
        const auto [entry, added] = known.try_emplace(after, static_cast<uint16_t>(states.size()));
        if (added) {
          if (states.size() == kMaxStates) unsupported("too many states");
          states.push_back(after);
        }
        into_.next_.push_back(static_cast<uint16_t>(entry->second << 1 | (matched ? 1 : 0)));
      }
  }

  // Reads `symbol` in a state. Returns whether a match ends before it.
  bool step(const State& state, std::size_t symbol, State& after) const {
    std::bitset<kMaxInstructions> seen, added;
    std::vector<int> stack;
    for (const int entry : state) {
      stack.push_back(entry);
      while (!stack.empty()) {
        const int index = stack.back();
        stack.pop_back();
        if (seen.test(static_cast<std::size_t>(index))) continue;
        seen.set(static_cast<std::size_t>(index));
        const Instruction& instruction = program_[static_cast<std::size_t>(index)];
        const bool at_end = symbol + 1 == into_.symbols_;
        const bool member =
            !at_end && instruction.set >= 0 && members_[symbol][static_cast<std::size_t>(instruction.set)];
        switch (instruction.op) {
          case Op::match:
            return true;  // alternatives of lower priority end here
          case Op::split:
            stack.push_back(instruction.other);
            stack.push_back(instruction.next);
            break;
          case Op::ahead:
            if (member) stack.push_back(instruction.next);
            break;
          case Op::not_ahead:
            if (!member) stack.push_back(instruction.next);
            break;
          case Op::end:
            if (at_end) stack.push_back(instruction.next);
            break;
          case Op::take:
            if (member && !added.test(static_cast<std::size_t>(instruction.next))) {
              added.set(static_cast<std::size_t>(instruction.next));
              after.push_back(instruction.next);
            }
            break;
        }
      }
    }
    return false;
  }

  std::string_view pattern_;
  Regex& into_;
  std::size_t at_ = 0;
  bool any_case_ = false;
  std::vector<Instruction> program_;
  std::vector<CodeSet> sets_;
  std::vector<std::vector<bool>> members_;  // of each symbol, by set
  int start_ = 0;
};

Regex::Regex(std::string_view pattern) {
  RegexCompiler(pattern, *this).compile();
}

uint8_t Regex::symbol_of(char32_t c) const {
  if (c < kDirect) return direct_[c];
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), c,
                                      [](char32_t value, const Run& run) { return value < run.first; });
  return std::prev(after)->symbol;
}

std::size_t Regex::match(std::string_view text, std::size_t start, std::size_t* work) const {
  std::size_t found = kNoMatch, state = 1, characters = 0;
  for (std::size_t at = start;; ++characters) {
    std::size_t after = at;
    const std::size_t symbol = at < text.size() ? symbol_of(next_codepoint(text, after)) : symbols_ - 1;
    const uint16_t transition = next_[state * symbols_ + symbol];
    if (transition & 1) found = at;
    state = transition >> 1;
    if (state == 0 || at == text.size()) break;
    at = after;
  }
  if (work) *work += characters + 1;
  return found == start ? kNoMatch : found;
}

}  // namespace binhdan::text

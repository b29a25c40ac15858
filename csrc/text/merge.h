// The merge loop of both kinds of BPE: merges the adjacent pair of lowest cost until no pair merges.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

// A part of the text that is one token so far, linked to the symbols before and after it.
struct Symbol {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t begin, size;  // in the text; size 0: merged into the symbol before it
  uint32_t prev, next;   // indices of symbols, or kNone
  Token token;           // -1: the vocabulary has no such token
};

// Keeps its memory between words. A heap of candidates gives O(n log n) for n symbols.
class Merger {
 public:
  void clear() { symbols_.clear(); }
  void add(uint32_t begin, uint32_t size, Token token) {
    const auto i = static_cast<uint32_t>(symbols_.size());
    if (i > 0) symbols_.back().next = i;
    symbols_.push_back({begin, size, i == 0 ? Symbol::kNone : i - 1, Symbol::kNone, token});
  }

  // find(left symbol, right symbol) returns a const Merge* or std::optional<Merge>. Of equal costs, the
  // leftmost merges first.
  template <typename Find>
  void run(const Find& find) {
    heap_.clear();
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) add_candidate(i, find);
    std::make_heap(heap_.begin(), heap_.end());
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate best = heap_.back();
      heap_.pop_back();
      if (is_stale(best)) continue;
      join(best);
      if (symbols_[best.left].prev != Symbol::kNone) push_candidate(symbols_[best.left].prev, find);
      push_candidate(best.left, find);
    }
  }

  // Calls take(symbol) for the remaining symbols, in text order.
  template <typename Take>
  void each(const Take& take) const {
    for (uint32_t i = symbols_.empty() ? Symbol::kNone : 0; i != Symbol::kNone; i = symbols_[i].next)
      take(symbols_[i]);
  }

 private:
  struct Candidate {
    float cost;
    uint32_t left;  // index of the left symbol
    uint32_t size;  // of both together
    Token token;
    bool operator<(const Candidate& other) const {  // the top of a heap is its maximum
      return cost != other.cost ? cost > other.cost : left > other.left;
    }
  };

  template <typename Find>
  bool add_candidate(uint32_t left, const Find& find) {
    const Symbol& a = symbols_[left];
    if (a.next == Symbol::kNone) return false;
    const Symbol& b = symbols_[a.next];
    const auto merge = find(a, b);
    if (merge) heap_.push_back({merge->cost, left, a.size + b.size, merge->token});
    return static_cast<bool>(merge);
  }

  template <typename Find>
  void push_candidate(uint32_t left, const Find& find) {
    if (add_candidate(left, find)) std::push_heap(heap_.begin(), heap_.end());
  }

  // Symbols only grow, so a different sum shows that one of them has changed.
  bool is_stale(const Candidate& candidate) const {
    const Symbol& a = symbols_[candidate.left];
    return a.size == 0 || a.next == Symbol::kNone || a.size + symbols_[a.next].size != candidate.size;
  }

  void join(const Candidate& candidate) {
    Symbol& a = symbols_[candidate.left];
    Symbol& b = symbols_[a.next];
    a.size += b.size;
    a.token = candidate.token;
    b.size = 0;
    a.next = b.next;
    if (a.next != Symbol::kNone) symbols_[a.next].prev = candidate.left;
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace binhdan::text

// Which positions of a page a row sees (AttentionArgs::begin, end, limit).
#pragma once
#include <cstdint>

#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

// Positions [begin, end) of a page.
struct Positions {
  int64_t begin, end;

  [[gnu::always_inline]] bool empty() const { return begin >= end; }
  [[gnu::always_inline]] bool whole_page() const { return begin == 0 && end == kKvPageTokens; }
};

// Both bounds grow with the row, so the positions that some row of [first, last] sees are those from the
// begin of `first` to the end of `last`, if both rows see some.
BINHDAN_INLINE Positions seen_positions(const AttentionArgs& args, int64_t row, int64_t page) {
  const int64_t origin = page * kKvPageTokens;
  const int64_t end = args.end + row < args.limit ? args.end + row : args.limit;
  const int64_t from = args.begin + row - origin, to = end - origin;
  return {from > 0 ? from : 0, to < kKvPageTokens ? to : kKvPageTokens};
}

BINHDAN_INLINE bool sees_split(const AttentionArgs& args, int64_t row) {
  const int64_t end = args.end + row < args.limit ? args.end + row : args.limit, begin = args.begin + row;
  return end > 0 && begin < kSplitTokens && begin < end;
}

// The rows [begin, end) that see at least one position of a page.
struct Rows {
  int64_t begin, end;

  [[gnu::always_inline]] bool empty() const { return begin >= end; }
};

BINHDAN_INLINE Rows seeing_rows(const AttentionArgs& args, int64_t page) {
  const int64_t first = page * kKvPageTokens, last = first + kKvPageTokens;
  const int64_t from = first - args.end + 1;                                // end + row > first
  const int64_t to = (args.limit < last ? args.limit : last) - args.begin;  // begin + row < both
  const int64_t end = args.limit <= first ? 0 : to < args.rows ? to : args.rows;
  return {from > 0 ? from : 0, end};
}

}  // namespace
}  // namespace binhdan

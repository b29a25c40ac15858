// The types of the generated tables in unicode_tables.inc; only for unicode.cpp and nfc.cpp.
#pragma once
#include <cstdint>

namespace binhdan::text {

// A run of code points that NFC may change or move, with their canonical combining class.
struct ActiveRun {
  char32_t first, last;
  uint8_t combining;
};

// One step of canonical decomposition; second is 0 for a decomposition to one character.
struct Decomposition {
  char32_t from, first, second;
};

// Every step-th code point of a run is a capital; its small letter is `distance` after it.
struct LowercaseRun {
  char32_t first, last, step;
  int32_t distance;
};

#include "text/unicode_tables.inc"

}  // namespace binhdan::text

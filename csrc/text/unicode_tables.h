// The shape of the generated tables in unicode_tables.inc; for unicode.cpp and nfc.cpp only.
#pragma once
#include <cstdint>

namespace binhdan::text {

// Neighbours that NFC may change or move, and their canonical combining class.
struct ActiveRun {
  char32_t first, last;
  uint8_t combining;
};

// One step of canonical decomposition; second is 0 where one character stands for another.
struct Decomposition {
  char32_t from, first, second;
};

#include "text/unicode_tables.inc"

}  // namespace binhdan::text

// What a block of a GGUF type can represent, and what an encoder has chosen for one block.
//
// Except for the codebook types IQ1 to IQ3, a weight is
//   x = scale value(quant) - minimum
// where a group of 16 to 256 columns shares scale and minimum. In a super-block both are products of a float16
// of the block and a small integer, the code of the group. In the other types they are the float16 itself.
#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace binhdan::encode {

inline constexpr int kMaxGroups = 16;

// The choice for one block. `scale` and `minimum` are the floats that a decoder computes; a decoder computes
// x = scale value + offset for types with a float16 offset, which is -minimum.
struct Plan {
  uint16_t d = 0, m = 0;            // float16: of the scales, of the minima (the offset in Q4_1 and Q5_1)
  int16_t scale_codes[kMaxGroups];  // unused without super-blocks
  int16_t min_codes[kMaxGroups];    // unused without minima
  float scale[kMaxGroups], minimum[kMaxGroups];
  int8_t quants[kSuper];
};

// Values that are not consecutive integers.
struct Codebook {
  int size;
  int8_t values[16];   // increasing
  uint8_t quants[16];  // the quant of each value
};

struct Format {
  DType type;
  int block, group;  // columns
  int low, high;     // the quants; with a codebook, the smallest and the largest value
  const Codebook* codebook = nullptr;
  bool has_minimum = false;
  // The codes of scales, and of minima (0 .. max_minimum_code). Both 0: the block has one group.
  int min_scale_code = 0, max_scale_code = 0, max_minimum_code = 0;
  void (*pack)(void* block, const Plan& plan) = nullptr;

  int groups() const { return block / group; }
  bool is_super() const { return max_scale_code > 0; }
};

// nullptr for a type whose weights do not have this form, and for floats.
const Format* find_format(DType type);

}  // namespace binhdan::encode

// The tensor types of GGUF and the layout of their blocks (ggml's: little endian, unpadded).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace binhdan {

// Values are those of ggml_type in a GGUF file.
enum class DType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
};
inline constexpr uint32_t kDTypeLimit = 31;  // one past the largest value above

struct DTypeInfo {
  DType type;
  const char* name;  // as in GGUF tools: "Q4_0"
  uint32_t block;    // elements in a block
  uint32_t block_bytes;
};

std::span<const DTypeInfo> all_dtypes();
// nullptr for a type that binhdan does not support.
const DTypeInfo* find_dtype(uint32_t gguf_type);
const DTypeInfo& dtype_info(DType type);
// Bytes of a row of `n` elements; n must be a multiple of the block.
uint64_t row_bytes(DType type, uint64_t n);

inline constexpr int kSuper = 256;  // elements of a k-quant super-block

// clang-format off
struct BlockQ4_0 { uint16_t d; uint8_t qs[16]; };                           // x = d (q - 8)
struct BlockQ4_1 { uint16_t d, m; uint8_t qs[16]; };                        // x = d q + m
struct BlockQ5_0 { uint16_t d; uint8_t qh[4]; uint8_t qs[16]; };            // x = d (q - 16)
struct BlockQ5_1 { uint16_t d, m; uint8_t qh[4]; uint8_t qs[16]; };         // x = d q + m
struct BlockQ8_0 { uint16_t d; int8_t qs[32]; };                            // x = d q
struct BlockQ2_K { uint8_t scales[16]; uint8_t qs[64]; uint16_t d, dmin; };
struct BlockQ3_K { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d; };
struct BlockQ4_K { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; };
struct BlockQ5_K { uint16_t d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; };
struct BlockQ6_K { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; };
struct BlockIQ4_NL { uint16_t d; uint8_t qs[16]; };
struct BlockIQ4_XS { uint16_t d, scales_h; uint8_t scales_l[4]; uint8_t qs[128]; };
// clang-format on

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);

}  // namespace binhdan

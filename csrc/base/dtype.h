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
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};
inline constexpr uint32_t kDTypeLimit = 43;  // one past the largest value above

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
struct BlockQ1_0 { uint16_t d; uint8_t qs[16]; };                           // x = d (2 q - 1), 128 weights
struct BlockQ2_0 { uint16_t d; uint8_t qs[16]; };                           // x = d (q - 1), 64 weights
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
struct BlockTQ1_0 { uint8_t qs[48]; uint8_t qh[4]; uint16_t d; };           // x = d (q - 1), q is a base-3 digit
struct BlockTQ2_0 { uint8_t qs[64]; uint16_t d; };                          // x = d (q - 1)
struct BlockMXFP4 { uint8_t e; uint8_t qs[16]; };                           // a scale of 2^(e - 127)
struct BlockNVFP4 { uint8_t scales[4]; uint8_t qs[32]; };                   // UE4M3 scales of 16 weights each
struct BlockIQ1_S { uint16_t d; uint8_t qs[32]; uint16_t qh[8]; };
struct BlockIQ1_M { uint8_t qs[32]; uint8_t qh[16]; uint16_t scales[4]; };
struct BlockIQ2_XXS { uint16_t d; uint8_t qs[64]; };
struct BlockIQ2_XS { uint16_t d; uint16_t qs[32]; uint8_t scales[8]; };
struct BlockIQ2_S { uint16_t d; uint8_t qs[32]; uint8_t signs[32]; uint8_t qh[8]; uint8_t scales[8]; };
struct BlockIQ3_XXS { uint16_t d; uint8_t qs[64]; uint8_t signs[32]; };
struct BlockIQ3_S { uint16_t d; uint8_t qs[64]; uint8_t qh[8]; uint8_t signs[32]; uint8_t scales[4]; };
// clang-format on

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockQ1_0) == 18 && sizeof(BlockQ2_0) == 18 && sizeof(BlockTQ1_0) == 54);
static_assert(sizeof(BlockTQ2_0) == 66 && sizeof(BlockMXFP4) == 17 && sizeof(BlockNVFP4) == 36);
static_assert(sizeof(BlockIQ1_S) == 50 && sizeof(BlockIQ1_M) == 56 && sizeof(BlockIQ2_XXS) == 66);
static_assert(sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82 && sizeof(BlockIQ3_XXS) == 98);
static_assert(sizeof(BlockIQ3_S) == 110);

}  // namespace binhdan

// The block types that have scales and minima, and the inverse of their decoders (kernels/codec_decode.cpp).
#include "encode/plan.h"

#include <cstring>

namespace binhdan::encode {
namespace {

// Quant j of a plan, as an unsigned integer: the quant itself, or its distance from the lowest.
struct Quants {
  const Plan& plan;
  int low;
  uint32_t operator[](int j) const { return static_cast<uint32_t>(plan.quants[j] - low); }
};

template <class Block>
void store(void* dst, const Block& block) {
  std::memcpy(dst, &block, sizeof block);
}

uint8_t byte(uint32_t bits) {
  return static_cast<uint8_t>(bits);
}

// ---- blocks of 32: byte j has quants j (low nibble) and j + 16 ----------------------------------------

void pack_nibbles(uint8_t* qs, const Quants& q, int first) {
  for (int j = 0; j < 16; ++j) qs[j] = byte((q[first + j] & 15) | (q[first + j + 16] & 15) << 4);
}

void pack_fifth_bits(uint8_t* qh, const Quants& q) {
  for (int j = 0; j < 32; j += 8) {
    uint32_t bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (q[j + i] >> 4) << i;
    qh[j / 8] = byte(bits);
  }
}

template <class Block, int low>
void pack_32(void* dst, const Plan& plan) {
  Block b{};
  if constexpr (requires { b.d; }) b.d = plan.d;
  if constexpr (requires { b.e; }) b.e = byte(plan.d);
  if constexpr (requires { b.m; }) b.m = plan.m;
  const Quants q{plan, low};
  if constexpr (requires { b.qh; }) pack_fifth_bits(b.qh, q);
  pack_nibbles(b.qs, q, 0);
  store(dst, b);
}

void pack_q8_0(void* dst, const Plan& plan) {
  BlockQ8_0 b;
  b.d = plan.d;
  std::memcpy(b.qs, plan.quants, sizeof b.qs);
  store(dst, b);
}

// ---- super-blocks -------------------------------------------------------------------------------------

// Two bits of each quant; 4 groups of 32 columns share 32 bytes.
void pack_pairs(uint8_t (&qs)[64], const Quants& q) {
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 32; ++j) {
      uint32_t bits = 0;
      for (int i = 0; i < 4; ++i) bits |= (q[half * 128 + i * 32 + j] & 3) << 2 * i;
      qs[half * 32 + j] = byte(bits);
    }
}

void pack_q2_k(void* dst, const Plan& plan) {
  BlockQ2_K b;
  b.d = plan.d;
  b.dmin = plan.m;
  for (int g = 0; g < 16; ++g)
    b.scales[g] = byte(static_cast<uint32_t>(plan.scale_codes[g] | plan.min_codes[g] << 4));
  pack_pairs(b.qs, {plan, 0});
  store(dst, b);
}

void pack_q3_k(void* dst, const Plan& plan) {
  BlockQ3_K b{};
  b.d = plan.d;
  for (int g = 0; g < 16; ++g) {
    const auto code = static_cast<uint32_t>(plan.scale_codes[g] + 32);
    b.scales[g % 8] |= byte((code & 15) << (g / 8 * 4));
    b.scales[8 + g % 4] |= byte((code >> 4) << (g / 4 * 2));
  }
  const Quants q{plan, -4};
  pack_pairs(b.qs, q);
  for (int j = 0; j < 32; ++j) {
    uint32_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (q[g * 32 + j] >> 2) << g;
    b.hmask[j] = byte(bits);
  }
  store(dst, b);
}

void pack_scales_and_minima(uint8_t (&s)[12], const Plan& plan) {
  for (int g = 0; g < 4; ++g) {
    const auto scale = static_cast<uint32_t>(plan.scale_codes[g]),
               min = static_cast<uint32_t>(plan.min_codes[g]);
    const auto scale4 = static_cast<uint32_t>(plan.scale_codes[g + 4]);
    const auto min4 = static_cast<uint32_t>(plan.min_codes[g + 4]);
    s[g] = byte(scale | (scale4 >> 4) << 6);
    s[g + 4] = byte(min | (min4 >> 4) << 6);
    s[g + 8] = byte((scale4 & 15) | (min4 & 15) << 4);
  }
}

// Four bits of each quant; two groups of 32 columns share 32 bytes.
void pack_four_bits(uint8_t (&qs)[128], const Quants& q) {
  for (int pair = 0; pair < 4; ++pair)
    for (int j = 0; j < 32; ++j)
      qs[pair * 32 + j] = byte((q[pair * 64 + j] & 15) | (q[pair * 64 + 32 + j] & 15) << 4);
}

void pack_q4_k(void* dst, const Plan& plan) {
  BlockQ4_K b;
  b.d = plan.d;
  b.dmin = plan.m;
  pack_scales_and_minima(b.scales, plan);
  pack_four_bits(b.qs, {plan, 0});
  store(dst, b);
}

void pack_q5_k(void* dst, const Plan& plan) {
  BlockQ5_K b;
  b.d = plan.d;
  b.dmin = plan.m;
  pack_scales_and_minima(b.scales, plan);
  const Quants q{plan, 0};
  pack_four_bits(b.qs, q);
  for (int j = 0; j < 32; ++j) {
    uint32_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (q[g * 32 + j] >> 4) << g;
    b.qh[j] = byte(bits);
  }
  store(dst, b);
}

void pack_q6_k(void* dst, const Plan& plan) {
  BlockQ6_K b;
  b.d = plan.d;
  for (int g = 0; g < 16; ++g) b.scales[g] = static_cast<int8_t>(plan.scale_codes[g]);
  const Quants all{plan, -32};
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 32; ++j) {
      const uint32_t q[4] = {all[half * 128 + j], all[half * 128 + 32 + j], all[half * 128 + 64 + j],
                             all[half * 128 + 96 + j]};
      b.ql[half * 64 + j] = byte((q[0] & 15) | (q[2] & 15) << 4);
      b.ql[half * 64 + 32 + j] = byte((q[1] & 15) | (q[3] & 15) << 4);
      b.qh[half * 32 + j] = byte(q[0] >> 4 | (q[1] >> 4) << 2 | (q[2] >> 4) << 4 | (q[3] >> 4) << 6);
    }
  store(dst, b);
}

void pack_iq4_xs(void* dst, const Plan& plan) {
  BlockIQ4_XS b{};
  b.d = plan.d;
  for (int g = 0; g < 8; ++g) {
    const auto code = static_cast<uint32_t>(plan.scale_codes[g] + 32);
    b.scales_l[g / 2] |= byte((code & 15) << (g % 2 * 4));
    b.scales_h = static_cast<uint16_t>(b.scales_h | (code >> 4) << (g * 2));
    pack_nibbles(b.qs + g * 16, {plan, 0}, g * 32);
  }
  store(dst, b);
}

// ---- one scale, few values ----------------------------------------------------------------------------

void pack_q1_0(void* dst, const Plan& plan) {
  BlockQ1_0 b{};
  b.d = plan.d;
  for (int j = 0; j < 128; ++j) b.qs[j / 8] |= byte(static_cast<uint32_t>(plan.quants[j]) << j % 8);
  store(dst, b);
}

void pack_q2_0(void* dst, const Plan& plan) {
  BlockQ2_0 b{};
  b.d = plan.d;
  const Quants q{plan, -1};
  for (int j = 0; j < 64; ++j) b.qs[j / 4] |= byte(q[j] << j % 4 * 2);
  store(dst, b);
}

void pack_tq2_0(void* dst, const Plan& plan) {
  BlockTQ2_0 b;
  b.d = plan.d;
  pack_pairs(b.qs, {plan, -1});
  store(dst, b);
}

// Base 3, `digits` in a byte, `count` bytes: column first + i * count + j is digit i of byte j. A decoder multiplies the
// byte, a fraction of 256, by 3 and takes the integer; so the fraction is rounded up.
void pack_base_3(uint8_t* qs, const Quants& q, int first, int count, int digits) {
  for (int j = 0; j < count; ++j) {
    uint32_t number = 0;
    for (int i = 0; i < 5; ++i) number = number * 3 + (i < digits ? q[first + i * count + j] : 0);
    qs[j] = byte((number * 256 + 242) / 243);
  }
}

void pack_tq1_0(void* dst, const Plan& plan) {
  BlockTQ1_0 b;
  b.d = plan.d;
  const Quants q{plan, -1};
  pack_base_3(b.qs, q, 0, 32, 5);
  pack_base_3(b.qs + 32, q, 160, 16, 5);
  pack_base_3(b.qh, q, 240, 4, 4);
  store(dst, b);
}

// ---- the table ----------------------------------------------------------------------------------------

constexpr Codebook kIQ4 = {
    16,
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
};
constexpr Codebook kFP4 = {
    15,
    {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12},
    {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7},
};
constexpr Codebook kSigns = {2, {-1, 1}, {0, 1}};

constexpr Format kFormats[] = {
    {.type = DType::q4_0, .block = 32, .group = 32, .low = -8, .high = 7, .pack = pack_32<BlockQ4_0, -8>},
    {.type = DType::q5_0, .block = 32, .group = 32, .low = -16, .high = 15, .pack = pack_32<BlockQ5_0, -16>},
    {.type = DType::q8_0, .block = 32, .group = 32, .low = -127, .high = 127, .pack = pack_q8_0},
    {.type = DType::q4_1,
     .block = 32,
     .group = 32,
     .low = 0,
     .high = 15,
     .has_minimum = true,
     .pack = pack_32<BlockQ4_1, 0>},
    {.type = DType::q5_1,
     .block = 32,
     .group = 32,
     .low = 0,
     .high = 31,
     .has_minimum = true,
     .pack = pack_32<BlockQ5_1, 0>},
    {.type = DType::q2_k,
     .block = 256,
     .group = 16,
     .low = 0,
     .high = 3,
     .has_minimum = true,
     .max_scale_code = 15,
     .max_minimum_code = 15,
     .pack = pack_q2_k},
    {.type = DType::q3_k,
     .block = 256,
     .group = 16,
     .low = -4,
     .high = 3,
     .min_scale_code = -32,
     .max_scale_code = 31,
     .pack = pack_q3_k},
    {.type = DType::q4_k,
     .block = 256,
     .group = 32,
     .low = 0,
     .high = 15,
     .has_minimum = true,
     .max_scale_code = 63,
     .max_minimum_code = 63,
     .pack = pack_q4_k},
    {.type = DType::q5_k,
     .block = 256,
     .group = 32,
     .low = 0,
     .high = 31,
     .has_minimum = true,
     .max_scale_code = 63,
     .max_minimum_code = 63,
     .pack = pack_q5_k},
    {.type = DType::q6_k,
     .block = 256,
     .group = 16,
     .low = -32,
     .high = 31,
     .min_scale_code = -128,
     .max_scale_code = 127,
     .pack = pack_q6_k},
    {.type = DType::iq4_nl,
     .block = 32,
     .group = 32,
     .low = -127,
     .high = 113,
     .codebook = &kIQ4,
     .pack = pack_32<BlockIQ4_NL, 0>},
    {.type = DType::iq4_xs,
     .block = 256,
     .group = 32,
     .low = -127,
     .high = 113,
     .codebook = &kIQ4,
     .min_scale_code = -32,
     .max_scale_code = 31,
     .pack = pack_iq4_xs},
    {.type = DType::mxfp4,
     .block = 32,
     .group = 32,
     .low = -12,
     .high = 12,
     .codebook = &kFP4,
     .pack = pack_32<BlockMXFP4, 0>},
    {.type = DType::q1_0,
     .block = 128,
     .group = 128,
     .low = -1,
     .high = 1,
     .codebook = &kSigns,
     .pack = pack_q1_0},
    {.type = DType::q2_0, .block = 64, .group = 64, .low = -1, .high = 2, .pack = pack_q2_0},
    {.type = DType::tq1_0, .block = 256, .group = 256, .low = -1, .high = 1, .pack = pack_tq1_0},
    {.type = DType::tq2_0, .block = 256, .group = 256, .low = -1, .high = 1, .pack = pack_tq2_0},
};

}  // namespace

const Format* find_format(DType type) {
  for (const Format& format : kFormats)
    if (format.type == type) return &format;
  return nullptr;
}

}  // namespace binhdan::encode

// Decodes a Q8_0 page to a bfloat16 page in the layout of attention.cpp: pairs of neighbouring rows
// interleaved. Cost of 64 elements (Sapphire Rapids): 4 vpermb (p5), 4 FMA and 2 vcvtne2ps2bf16 (3 uops),
// about 8 cycles.
#pragma once
#include <immintrin.h>

#include "kernels/kv_q8.h"

namespace binhdan::amx {
namespace {

// Byte 1 of 32-bit lane i: the index of quant i of the first eight pairs, in 32 quants of one row followed by
// 32 of the next row.
struct PairOrder {
  uint8_t bytes[64];

  constexpr PairOrder() : bytes{} {
    for (int lane = 0; lane < 16; ++lane)
      bytes[4 * lane + 1] = static_cast<uint8_t>(lane % 2 * 32 + lane / 2);
  }
};
alignas(64) constexpr PairOrder kPairOrder;

// For four vectors of 8 pairs: the scale of each element, and -(2^15 + 128) times the scale.
struct PairScales {
  __m512 scale[4], bias[4];

  [[gnu::always_inline]] void set(int i, __m512 x) {
    scale[i] = x;
    bias[i] = _mm512_mul_ps(x, _mm512_set1_ps(-(0x1p15f + 128)));
  }
};

// Interleaves 32 quants of each of two rows. vpermb moves quant + 128 to the second byte of 2^15, which makes
// the float 2^15 + 128 + quant; one FMA subtracts 2^15 + 128 and scales, exactly.
BINHDAN_INLINE void unpack_pairs(uint16_t* dst, const int8_t* even, const int8_t* odd,
                                 const PairScales& scales) {
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(even));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd));
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  const __m512i quants = _mm512_xor_si512(both, _mm512_set1_epi8(static_cast<char>(0x80)));
  const __m512i order = _mm512_load_si512(&kPairOrder), magic = _mm512_set1_epi32(0x47000000);
  __m512 x[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512i at = _mm512_add_epi8(order, _mm512_set1_epi8(static_cast<char>(8 * i)));
    const __m512i bits = _mm512_mask_permutexvar_epi8(magic, 0x2222222222222222, at, quants);
    x[i] = _mm512_fmadd_ps(_mm512_castsi512_ps(bits), scales.scale[i], scales.bias[i]);
  }
  _mm512_storeu_si512(dst, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x[1], x[0])));
  _mm512_storeu_si512(dst + 32, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x[3], x[2])));
}

using Q8Source = Q8Page<const int8_t, const uint16_t>;

BINHDAN_INLINE void unpack_keys(uint16_t* dst, const Q8Source& page, const Q8Source& ahead) {
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  for (int64_t block = 0; block < page.width; block += kKvBlock) {
    const uint16_t* scales = page.key_scales + block / kKvBlock * kKvPageTokens;
    PairScales halves[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const __m256 of = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales) + i));
      halves[i / 4].set(i % 4, _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(of)));
    }
    for (int64_t d = block; d < block + kKvBlock; d += 2) {
      const int64_t at = d * kKvPageTokens, next = at + kKvPageTokens;
      _mm_prefetch(ahead.keys + at, _MM_HINT_T0);
      _mm_prefetch(ahead.keys + next, _MM_HINT_T0);
      unpack_pairs(dst + at, page.keys + at, page.keys + next, halves[0]);
      unpack_pairs(dst + at + 64, page.keys + at + 32, page.keys + next + 32, halves[1]);
    }
  }
}

BINHDAN_INLINE void unpack_values(uint16_t* dst, const Q8Source& page, const Q8Source& ahead) {
  for (int64_t block = 0; block < page.width; block += kKvBlock) {
    const uint16_t* from = page.value_scales + block / kKvBlock * kKvPageTokens;
    alignas(64) float scales[kKvPageTokens];
    for (int j = 0; j < kKvPageTokens; j += 16)
      _mm512_store_ps(scales + j, _mm512_cvtph_ps(_mm256_loadu_epi16(from + j)));
    for (int64_t j = 0; j < kKvPageTokens; j += 2) {
      const int8_t* values = page.values + j * page.width;
      const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + j));
      PairScales both;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) both.set(i, _mm512_castsi512_ps(_mm512_broadcastq_epi64(two)));
      _mm_prefetch(ahead.values + j * page.width + 2 * block, _MM_HINT_T0);
      unpack_pairs(dst + j * page.width + 2 * block, values + block, values + block + page.width, both);
    }
  }
}

// `next` is the page after this one; it is only prefetched.
static void unpack_page(uint16_t* dst, const void* page, const void* next, int64_t head_dim) {
  const Q8Source from(static_cast<const int8_t*>(page), head_dim);
  const Q8Source ahead(static_cast<const int8_t*>(next), head_dim);
  for (int64_t i = 0; i < 2 * from.width / kKvBlock * kKvPageTokens; i += 32)  // of keys, then of values
    _mm_prefetch(ahead.key_scales + i, _MM_HINT_T0);
  unpack_keys(dst, from, ahead);
  unpack_values(dst + from.width * kKvPageTokens, from, ahead);
}

}  // namespace
}  // namespace binhdan::amx

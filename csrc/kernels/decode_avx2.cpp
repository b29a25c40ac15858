// File blocks decoded to float32: the same bits as codec_decode.cpp.
//
// d q and d s q are exact (11 bits of a float16 times at most 6 of a scale times at most 5 of a code), so
// FMA with an offset rounds once, like the subtraction there; where they are not (Q6_K, IQ4_XS), both round
// once, in d s q. Codes are put together as 32 bytes, then widened eight at a time: vpmovsxbd (p5, one a
// cycle), vcvtdq2ps, vmulps or FMA, a store: 4 operations for 8 weights, plus 1 to 2 for their bits.
#include "kernels/avx2.h"

namespace binhdan::avx2 {
namespace {

BINHDAN_INLINE float half_to_float(uint16_t h) {
  return _cvtsh_ss(h);
}

BINHDAN_INLINE __m256i load32(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}

// 16 bytes of nibbles as 32 codes: all the low ones, then all the high ones.
BINHDAN_INLINE __m256i nibbles16(const void* src) {
  const __m128i both = _mm_loadu_si128(static_cast<const __m128i*>(src));
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
}

// `width` bits of each of 32 bytes, from bit `shift` on; what a 16-bit shift brings in from the neighbour is
// cut off.
BINHDAN_INLINE __m256i bits(__m256i bytes, int shift, int width) {
  return _mm256_and_si256(_mm256_srli_epi16(bytes, shift),
                          _mm256_set1_epi8(static_cast<char>((1 << width) - 1)));
}

// Codes 8k .. 8k + 7 of 32 as float32.
BINHDAN_INLINE __m256 widen(__m256i codes, int k) {
  const __m128i half = k < 2 ? _mm256_castsi256_si128(codes) : _mm256_extracti128_si256(codes, 1);
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(k % 2 == 0 ? half : _mm_unpackhi_epi64(half, half)));
}

// A value for elements 0..15 of 32 and one for 16..31.
struct Halves {
  float low, high;
  Halves(float both) : low(both), high(both) {}
  Halves(float l, float h) : low(l), high(h) {}
  __m256 lanes(int k) const { return _mm256_set1_ps(k < 2 ? low : high); }
};

BINHDAN_INLINE void store_scaled(float* dst, __m256i codes, Halves scale) {
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) _mm256_storeu_ps(dst + 8 * k, _mm256_mul_ps(widen(codes, k), scale.lanes(k)));
}

// dst = scale * codes + offset
BINHDAN_INLINE void store_affine(float* dst, __m256i codes, Halves scale, Halves offset) {
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k)
    _mm256_storeu_ps(dst + 8 * k, _mm256_fmadd_ps(widen(codes, k), scale.lanes(k), offset.lanes(k)));
}

// 32 bits as 32 bytes of `value` or 0.
BINHDAN_INLINE __m256i spread_bits(const uint8_t* src, int value) {
  const __m256i bytes =
      _mm256_shuffle_epi8(_mm256_set1_epi32(four_bytes(src)),
                          _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
}

BINHDAN_INLINE __m256i five_bits(const uint8_t* qs, const uint8_t* qh) {
  return _mm256_or_si256(nibbles16(qs), spread_bits(qh, 16));
}

// ---- blocks of 32 ------------------------------------------------------------------------------------

// Calls f(destination, block) for each block of a row. GGUF aligns tensors to 8 bytes or more, and sizes are
// even.
template <class Block, int kElements, class F>
BINHDAN_INLINE void each_block(float* dst, const void* src, int64_t n, F f) {
  const auto* block = static_cast<const Block*>(src);
  for (; n > 0; n -= kElements, dst += kElements, ++block) f(dst, *block);
}

// ---- super-blocks of 256 -----------------------------------------------------------------------------

struct ScalesAndMins {
  float scale[8], min[8];  // d s and -dmin m of each group of 32
};

// Six bits each; codec_decode.cpp tells where they lie. Four bytes of scales and of mins at a time.
template <class Block>
BINHDAN_INLINE ScalesAndMins scales_and_mins(const Block& b) {
  const uint32_t s03 = four_bytes(b.scales), m03 = four_bytes(b.scales + 4), low = four_bytes(b.scales + 8);
  const uint32_t s47 = (low & 0x0f0f0f0f) | (s03 >> 6 & 0x03030303) << 4;
  const uint32_t m47 = (low >> 4 & 0x0f0f0f0f) | (m03 >> 6 & 0x03030303) << 4;
  const __m128i bytes = _mm_setr_epi32(static_cast<int>(s03 & 0x3f3f3f3f), static_cast<int>(s47),
                                       static_cast<int>(m03 & 0x3f3f3f3f), static_cast<int>(m47));
  const __m256 scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
  const __m256 min = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)));
  ScalesAndMins all;
  _mm256_storeu_ps(all.scale, _mm256_mul_ps(scale, _mm256_set1_ps(half_to_float(b.d))));
  _mm256_storeu_ps(all.min, _mm256_mul_ps(min, _mm256_set1_ps(-half_to_float(b.dmin))));
  return all;
}

// Sixteen scales, as float32 times d.
BINHDAN_INLINE void store_scales(float* dst, __m128i scales, float d) {
  const __m256i low = _mm256_cvtepi8_epi32(scales);
  const __m256i high = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(scales, scales));
  _mm256_storeu_ps(dst, _mm256_mul_ps(_mm256_cvtepi32_ps(low), _mm256_set1_ps(d)));
  _mm256_storeu_ps(dst + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(high), _mm256_set1_ps(d)));
}

// The low nibbles of bytes 0..7, then the high ones; two more bits from bytes 8..11, two by two; minus 32.
BINHDAN_INLINE __m128i q3_k_scales(const uint8_t* scales) {
  const uint32_t a = four_bytes(scales), b = four_bytes(scales + 4), high = four_bytes(scales + 8);
  const auto join = [&](uint32_t nibbles, int shift) {
    return static_cast<int>((nibbles & 0x0f0f0f0f) | (high >> shift & 0x03030303) << 4);
  };
  return _mm_sub_epi8(_mm_setr_epi32(join(a, 0), join(b, 2), join(a >> 4, 4), join(b >> 4, 6)),
                      _mm_set1_epi8(32));
}

// ---- four bits that index a table --------------------------------------------------------------------

BINHDAN_INLINE __m256i iq4_values(__m256i codes) {
  const __m256i values =
      _mm256_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, -127, -104,
                       -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
  return _mm256_shuffle_epi8(values, codes);
}

}  // namespace

// Written for whole rows and pieces of them; n may be odd for the three float types only.
void decode_f32(float* dst, const void* src, int64_t n) {
  __builtin_memcpy(dst, src, static_cast<size_t>(n) * 4);
}

void decode_f16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, load_f16(half + i));
  for (; i < n; ++i) dst[i] = half_to_float(half[i]);
}

void decode_bf16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i bits16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i));
    const __m256i bits32 = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits16), 16);
    _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(bits32));
  }
  for (; i < n; ++i) {
    const uint32_t bits32 = static_cast<uint32_t>(half[i]) << 16;
    __builtin_memcpy(dst + i, &bits32, 4);
  }
}

void decode_q4_1(float* dst, const void* src, int64_t n) {
  each_block<BlockQ4_1, 32>(dst, src, n, [](float* x, const BlockQ4_1& b) {
    store_affine(x, nibbles16(b.qs), half_to_float(b.d), half_to_float(b.m));
  });
}

void decode_q5_0(float* dst, const void* src, int64_t n) {
  each_block<BlockQ5_0, 32>(dst, src, n, [](float* x, const BlockQ5_0& b) {
    const float d = half_to_float(b.d);
    store_scaled(x, _mm256_sub_epi8(five_bits(b.qs, b.qh), _mm256_set1_epi8(16)), d);
  });
}

void decode_q5_1(float* dst, const void* src, int64_t n) {
  each_block<BlockQ5_1, 32>(dst, src, n, [](float* x, const BlockQ5_1& b) {
    store_affine(x, five_bits(b.qs, b.qh), half_to_float(b.d), half_to_float(b.m));
  });
}

void decode_iq4_nl(float* dst, const void* src, int64_t n) {
  each_block<BlockIQ4_NL, 32>(dst, src, n, [](float* x, const BlockIQ4_NL& b) {
    const float d = half_to_float(b.d);
    store_scaled(x, iq4_values(nibbles16(b.qs)), d);
  });
}

void decode_q2_k(float* dst, const void* src, int64_t n) {
  each_block<BlockQ2_K, kSuper>(dst, src, n, [](float* x, const BlockQ2_K& b) {
    const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b.scales));
    const __m128i low = _mm_set1_epi8(15);
    float scale[16], min[16];
    store_scales(scale, _mm_and_si128(both, low), half_to_float(b.d));
    store_scales(min, _mm_and_si128(_mm_srli_epi16(both, 4), low), -half_to_float(b.dmin));
    for (int g = 0; g < 8; ++g) {  // two groups of 16 share 32 bytes
      const __m256i codes = bits(load32(b.qs + g / 4 * 32), g % 4 * 2, 2);
      store_affine(x + 32 * g, codes, {scale[2 * g], scale[2 * g + 1]}, {min[2 * g], min[2 * g + 1]});
    }
  });
}

void decode_q3_k(float* dst, const void* src, int64_t n) {
  each_block<BlockQ3_K, kSuper>(dst, src, n, [](float* x, const BlockQ3_K& b) {
    float scale[16];
    store_scales(scale, q3_k_scales(b.scales), half_to_float(b.d));
    const __m256i mask = load32(b.hmask);
    for (int g = 0; g < 8; ++g) {  // a clear mask bit takes 4 off
      const __m256i low = bits(load32(b.qs + g / 4 * 32), g % 4 * 2, 2);
      const __m256i high = _mm256_slli_epi16(bits(mask, g, 1), 2);
      const __m256i codes = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(4));
      store_scaled(x + 32 * g, codes, {scale[2 * g], scale[2 * g + 1]});
    }
  });
}

void decode_q4_k(float* dst, const void* src, int64_t n) {
  each_block<BlockQ4_K, kSuper>(dst, src, n, [](float* x, const BlockQ4_K& b) {
    const ScalesAndMins s = scales_and_mins(b);
    for (int g = 0; g < 8; ++g) {
      const __m256i codes = bits(load32(b.qs + g / 2 * 32), g % 2 * 4, 4);
      store_affine(x + 32 * g, codes, s.scale[g], s.min[g]);
    }
  });
}

void decode_q5_k(float* dst, const void* src, int64_t n) {
  each_block<BlockQ5_K, kSuper>(dst, src, n, [](float* x, const BlockQ5_K& b) {
    const ScalesAndMins s = scales_and_mins(b);
    const __m256i fifth = load32(b.qh);
    for (int g = 0; g < 8; ++g) {
      const __m256i low = bits(load32(b.qs + g / 2 * 32), g % 2 * 4, 4);
      const __m256i codes = _mm256_or_si256(low, _mm256_slli_epi16(bits(fifth, g, 1), 4));
      store_affine(x + 32 * g, codes, s.scale[g], s.min[g]);
    }
  });
}

void decode_q6_k(float* dst, const void* src, int64_t n) {
  each_block<BlockQ6_K, kSuper>(dst, src, n, [](float* x, const BlockQ6_K& b) {
    float scale[16];
    store_scales(scale, _mm_loadu_si128(reinterpret_cast<const __m128i*>(b.scales)), half_to_float(b.d));
    for (int g = 0; g < 8; ++g) {  // halves of 128 have their own bytes
      const __m256i low = bits(load32(b.ql + g / 4 * 64 + g % 2 * 32), g % 4 / 2 * 4, 4);
      const __m256i high = _mm256_slli_epi16(bits(load32(b.qh + g / 4 * 32), g % 4 * 2, 2), 4);
      const __m256i codes = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
      store_scaled(x + 32 * g, codes, {scale[2 * g], scale[2 * g + 1]});
    }
  });
}

void decode_iq4_xs(float* dst, const void* src, int64_t n) {
  each_block<BlockIQ4_XS, kSuper>(dst, src, n, [](float* x, const BlockIQ4_XS& b) {
    const float d = half_to_float(b.d);
    for (int g = 0; g < 8; ++g) {  // a scale has 4 bits in scales_l, 2 in scales_h
      const int scale = (b.scales_l[g / 2] >> (g % 2 * 4) & 15) | (b.scales_h >> (2 * g) & 3) << 4;
      const float ds = d * static_cast<float>(scale - 32);
      store_scaled(x + 32 * g, iq4_values(nibbles16(b.qs + 16 * g)), ds);
    }
  });
}

}  // namespace binhdan::avx2

// Panels decoded into bf16 tiles: 16 weight rows x 32 columns become 16 lines of 16 pairs (amx.h).
//
// A code is made a float by its place in one: as bits 16 .. 23 of 2^7 a byte b < 128 reads 2^7 + b, as bits 8
// .. 15 of 2^15 any byte reads 2^15 + b. One vpermb puts the bytes of two columns of eight rows there, in the
// order that a line of the tile has, and one FMA takes base and offset off:
//   w = scale (base + b) - scale (base + zero) [+ min]
// Without a minimum that is exact (IQ4_XS: within 2^-10 scale), so that vcvtne2ps2bf16 is the only rounding;
// with one, float32 rounds before it. 64 weights cost 4 vpermb, 4 FMA and 2 vcvtne2ps2bf16 of 3 uops beside
// what decoding the codes costs (panels_avx512.h). Port 0 is the limit (FMA, and two of those three): 16 rows
// x 32 columns take about 70 cycles.
#pragma once
#include "kernels/amx/tiles.h"
#include "kernels/avx512/panels.h"

namespace binhdan::amx {

template <DType type>
inline constexpr bool kFullBytes = avx512::kZero<type> == 128;
template <DType type>
inline constexpr float kBase = kFullBytes<type> ? 0x1p15f : 0x1p7f;

// Byte indices for vpermb. Dword 2 r + c of source s: row 8 (s % 2) + r, column 2 (s / 2) + c of a group.
struct PairIndices {
  alignas(64) uint8_t index[4][64] = {};
  consteval explicit PairIndices(int place) {
    for (int s = 0; s < 4; ++s)
      for (int dword = 0; dword < 16; ++dword)
        index[s][4 * dword + place] =
            static_cast<uint8_t>(4 * (8 * (s % 2) + dword / 2) + 2 * (s / 2) + dword % 2);
  }
};
template <DType type>
static constexpr PairIndices kPairs{kFullBytes<type> ? 1 : 2};

// A vector of one value for each row as two, with each value twice: rows 0 .. 7 and 8 .. 15.
BINHDAN_INLINE void twice(__m512 (&pairs)[2], __m512 rows) {
  const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  pairs[0] = _mm512_permutexvar_ps(low, rows);
  pairs[1] = _mm512_permutexvar_ps(_mm512_add_epi32(low, _mm512_set1_epi32(8)), rows);
}

// 16 rows x 32 columns between their panel and a tile; groups are of four columns, eight in all.
template <DType type>
struct TileBlock {
  using Block = avx512::BlockOf<type>;
  Block block;
  __m512 scale[Block::kScales][2], offset[Block::kScales][2];

  // Block i of a panel.
  [[gnu::always_inline]] void load(const typename PanelOf<type>::Panel& panel, int i) {
    avx512::decode_block<type>(block, panel, avx512::PanelScales(panel), i);
    const __m512 base = _mm512_set1_ps(-(kBase<type> + avx512::kZero<type>));
#pragma GCC unroll 2
    for (int part = 0; part < Block::kScales; ++part) {
      twice(scale[part], block.scale[part]);
      if constexpr (Block::kMins) {
        __m512 min[2];
        twice(min, block.min[part]);
        for (int half = 0; half < 2; ++half)
          offset[part][half] = _mm512_fmadd_ps(scale[part][half], base, min[half]);
      } else {
        for (int half = 0; half < 2; ++half) offset[part][half] = _mm512_mul_ps(scale[part][half], base);
      }
    }
  }

  // Groups 2 q and 2 q + 1: a quarter of the tile.
  [[gnu::always_inline]] void store_quarter(std::byte* tile, int q) const {
    constexpr __mmask64 kPlace = kFullBytes<type> ? 0x2222222222222222 : 0x4444444444444444;
    const __m512i base = _mm512_castps_si512(_mm512_set1_ps(kBase<type>));
#pragma GCC unroll 2
    for (int g = 2 * q; g < 2 * q + 2; ++g) {
      const int part = g * Block::kScales / 8;
      __m512 w[4];
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s) {
        const __m512i index = _mm512_load_si512(kPairs<type>.index[s]);
        const __m512i placed = _mm512_mask_permutexvar_epi8(base, kPlace, index, block.q[g]);
        w[s] = _mm512_fmadd_ps(_mm512_castsi512_ps(placed), scale[part][s % 2], offset[part][s % 2]);
      }
      store_line(tile + 2 * g * kTileLine, w[0], w[1]);
      store_line(tile + (2 * g + 1) * kTileLine, w[2], w[3]);
    }
  }

 private:
  [[gnu::always_inline]] static void store_line(std::byte* line, __m512 low, __m512 high) {
    _mm512_store_si512(line, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
};

}  // namespace binhdan::amx

// Panels decoded to bf16 tiles: 16 weight rows x 32 columns become 16 lines of 16 pairs (tiles.h).
//
// Instructions (512-bit forms, Intel Sapphire Rapids, uops.info): vpermb latency 3, 1 a cycle (p5);
// vfmadd231ps latency 4, 2 a cycle (p05); vcvtne2ps2bf16 3 uops (2 of p0).
//
// Algebra. A byte becomes a float by its position in one: as bits 16 .. 23 of 2^7 a byte b < 128 is the float
// 2^7 + b; as bits 8 .. 15 of 2^15 any byte b is 2^15 + b. One vpermb moves the bytes of two columns of eight
// rows there, in the order of a line of the tile, and one FMA subtracts base and zero point and scales:
//   w = scale (base + b) - scale (base + zero_point) [+ min]
// Without a minimum that is exact (IQ4_XS: within 2^-10 scale), so that vcvtne2ps2bf16 is the only rounding;
// with a minimum, float32 rounds first.
//
// Cost of 64 weights: 4 vpermb, 4 FMA and 2 vcvtne2ps2bf16, and the decoding of the quants (avx512/panels.h).
// Port 0 is the limit (FMA, and two uops of each conversion): 16 rows x 32 columns take about 70 cycles.
#pragma once
#include "kernels/amx/tiles.h"
#include "kernels/avx512/panels.h"

namespace binhdan::amx {

template <DType type>
inline constexpr bool kFullBytes = avx512::kZeroPoint<type> == 128;
template <DType type>
inline constexpr float kBase = kFullBytes<type> ? 0x1p15f : 0x1p7f;

// Byte indices for vpermb. Dword 2 r + c of vector s is row 8 (s % 2) + r, column 2 (s / 2) + c of a group.
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

// Duplicates the 16 lanes of `rows`: pairs[0] has each of lanes 0 .. 7 twice, pairs[1] lanes 8 .. 15.
BINHDAN_INLINE void duplicate_lanes(__m512 (&pairs)[2], __m512 rows) {
  const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  pairs[0] = _mm512_permutexvar_ps(low, rows);
  pairs[1] = _mm512_permutexvar_ps(_mm512_add_epi32(low, _mm512_set1_epi32(8)), rows);
}

// 16 rows x 32 columns, decoded from a panel and not yet stored to a tile: eight groups of four columns.
template <DType type>
struct TileBlock {
  using Block = avx512::BlockOf<type>;
  static_assert(kFullBytes<type> || PanelOf<type>::kMaxQuant < 128);
  Block block;
  __m512 scale[Block::kScales][2], bias[Block::kScales][2];  // w = scale (base + b) + bias

  // Block i of a panel.
  [[gnu::always_inline]] void load(const typename PanelOf<type>::Panel& panel, int i) {
    avx512::decode_block<type>(block, panel, avx512::PanelScales(panel), i);
    const __m512 base = _mm512_set1_ps(-(kBase<type> + avx512::kZeroPoint<type>));
#pragma GCC unroll 2
    for (int part = 0; part < Block::kScales; ++part) {
      duplicate_lanes(scale[part], block.scale[part]);
      if constexpr (Block::kMins) {
        __m512 min[2];
        duplicate_lanes(min, block.min[part]);
        for (int half = 0; half < 2; ++half)
          bias[part][half] = _mm512_fmadd_ps(scale[part][half], base, min[half]);
      } else {
        for (int half = 0; half < 2; ++half) bias[part][half] = _mm512_mul_ps(scale[part][half], base);
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
        w[s] = _mm512_fmadd_ps(_mm512_castsi512_ps(placed), scale[part][s % 2], bias[part][s % 2]);
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

// The tile unit as the amx kernels use it.
//
// Instructions (Sapphire Rapids; Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter on
// AMX):
//   TDPBF16PS, TDPBSSD   one in 16 cycles with 16 rows, latency 52
//   TILELOADD            one in 8 cycles from L1, latency 45
//   TILESTORED           one in 16 cycles
//   LDTILECFG            about 200 cycles; the configuration belongs to the thread
//
// A tile register has up to 16 rows of 64 bytes. TDPBF16PS accumulates in C (rows x 16 float32) the product
// of A (rows x 32 bf16) and B (32 x 16 bf16). Row k of B's register has rows 2 k and 2 k + 1 of B, a pair for
// each column. So a panel becomes B lane by lane: weight row = column of B = 32-bit lane.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan::amx {

inline constexpr int kTileRows = 16, kTileLine = 64, kTileBytes = kTileRows * kTileLine;
static_assert(kTileRows == ActivationLayout::kTileRows && kTileLine == ActivationLayout::kTileLine);

// The operand of ldtilecfg. Palette 1 has eight registers: 0 .. 3 are sums and 4 and 5 activations, of
// `activation_rows` rows; 6 is weights; 7 is not used (matmul.cpp says why). A line of activations has
// `activation_bytes` bytes and needs a quarter as many lines of weights.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t line_bytes[16] = {};
  uint8_t rows[16] = {};

  [[gnu::always_inline]] explicit TileConfig(int64_t activation_rows, int64_t activation_bytes = kTileLine) {
    for (int tile = 0; tile < 8; ++tile) {
      const bool activations = tile == 4 || tile == 5;
      line_bytes[tile] = static_cast<uint16_t>(activations ? activation_bytes : kTileLine);
      rows[tile] = static_cast<uint8_t>(tile < 6 ? activation_rows : activation_bytes / 4);
    }
  }
};
static_assert(sizeof(TileConfig) == 64);

// Not the intrinsic: that of GCC 12 declares that it reads 8 of the 64 bytes, so the others may never be
// stored.
BINHDAN_INLINE void configure_tiles(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}

// The intrinsics that load tiles do not declare that they read memory. This keeps earlier stores before them.
BINHDAN_INLINE void compiler_memory_barrier() {
  asm volatile("" : : : "memory");
}

}  // namespace binhdan::amx

// The tile unit as the amx kernels use it.
//
// A tile register is up to 16 rows of 64 bytes. TDPBF16PS adds to C (rows x 16 float32) the product of A
// (rows x 32 bf16) and B (32 x 16 bf16); row k of B's register is rows 2 k and 2 k + 1 of B, a pair for each
// column. So panels become B lane by lane: weight row = column of B = 32-bit lane.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan::amx {

inline constexpr int kTileRows = 16, kTileLine = 64, kTileBytes = kTileRows * kTileLine;
static_assert(kTileRows == ActivationLayout::kTileRows && kTileLine == ActivationLayout::kTileLine);

// What ldtilecfg reads: palette 1 has eight registers. Here 0 .. 3 are sums, 4 and 5 activations, of so many
// rows, 6 weights; 7 is left alone (matmul_amx.cpp says why). A line of activations meets a quarter as many
// lines of weights.
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

// Own asm: the intrinsic of GCC 12 tells the compiler that 8 of the 64 bytes are read. The configuration
// belongs to the thread; it costs about 200 cycles.
BINHDAN_INLINE void configure_tiles(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}

// Intrinsics that load tiles do not tell the compiler that they read memory either: what was stored before
// must not be moved behind them.
BINHDAN_INLINE void stores_end_here() {
  asm volatile("" : : : "memory");
}

}  // namespace binhdan::amx

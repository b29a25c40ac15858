// TDPBF16PS: one in 16 cycles, latency 52 (tiles.h), so four independent sums.
#include "kernels/amx/functions.h"
#include "kernels/amx/tiles.h"

namespace binhdan::amx {

int64_t peak_bf16(int64_t rounds) {
  configure_tiles(TileConfig(kTileRows));
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_release();
  return rounds * 4 * kTileRows * kTileRows * 32;
}

}  // namespace binhdan::amx

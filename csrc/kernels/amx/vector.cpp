// Rounds rows of activations to bf16 (nearest even), into one line of each of their tiles. vcvtne2ps2bf16
// treats float32 below 2^-126 as zero, as the tile unit does.
#include "kernels/amx/functions.h"
#include "kernels/amx/tiles.h"

namespace binhdan::amx {

void quantize_bf16(void* dst, const float* x, int64_t n) {
  auto* line = static_cast<std::byte*>(dst);
  for (int64_t i = 0; i < n; i += 32, line += kTileBytes) {
    const __m512bh pair = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i));
    _mm512_storeu_si512(line, reinterpret_cast<__m512i>(pair));
  }
}

}  // namespace binhdan::amx

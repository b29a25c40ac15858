// The kernels of the neon_dotprod table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::neon_dotprod {

// Types that have panels, and q8 activations.
template <DType type>
void matmul(const MatmulArgs& args);
template <DType type>
size_t scratch_size(int64_t rows, int64_t cols, int64_t m);

bool supported(const CpuFeatures& cpu);
int64_t peak_q8(int64_t rounds);

}  // namespace binhdan::neon_dotprod

#include "kernels/avx2/table.h"
#include "kernels/tables.h"

namespace binhdan {

bool avx2::supported(const CpuFeatures& cpu) {
  return cpu.avx2;
}

constinit const KernelTable kAvx2Table = avx2::table();

}  // namespace binhdan

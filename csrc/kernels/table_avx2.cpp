#include "kernels/table_avx2.h"
#include "kernels/tables.h"

namespace binhdan {

bool avx2::supported(const CpuFeatures& cpu) {
  return cpu.avx2;
}

constinit const KernelTable kAvx2Table = avx2::table();

}  // namespace binhdan

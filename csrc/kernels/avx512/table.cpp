#include "kernels/avx512/table.h"
#include "kernels/tables.h"

namespace binhdan {

bool avx512::supported(const CpuFeatures& cpu) {
  return cpu.avx512_vnni;
}

constinit const KernelTable kAvx512Table = avx512::table();

}  // namespace binhdan

#include "kernels/table_avx512vnni.h"
#include "kernels/tables.h"

namespace binhdan {

bool avx512vnni::supported(const CpuFeatures& cpu) {
  return cpu.avx512_vnni;
}

constinit const KernelTable kAvx512vnniTable = avx512vnni::table();

}  // namespace binhdan

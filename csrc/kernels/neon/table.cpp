#include "kernels/neon/table.h"
#include "kernels/tables.h"

namespace binhdan {

bool neon::supported(const CpuFeatures& cpu) {
  return cpu.neon;
}

constinit const KernelTable kNeonTable = neon::table();

}  // namespace binhdan

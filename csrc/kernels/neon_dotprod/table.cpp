#include "kernels/neon_dotprod/table.h"
#include "kernels/tables.h"

namespace binhdan {

bool neon_dotprod::supported(const CpuFeatures& cpu) {
  return cpu.dotprod;
}

constinit const KernelTable kNeonDotprodTable = neon_dotprod::table();

}  // namespace binhdan

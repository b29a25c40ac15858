#include "kernels/scalar/table.h"

namespace binhdan {

bool scalar::supported(const CpuFeatures&) {
  return true;
}

constinit const KernelTable kScalarTable = scalar::table();

}  // namespace binhdan

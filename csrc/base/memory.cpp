#include "base/buffer.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace binhdan {

void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t size) {
#ifdef __linux__
  madvise(data, size, MADV_HUGEPAGE);  // a hint; systems without huge pages ignore it
#endif
}

}  // namespace binhdan

// Selects the kernel table.
#include <string>

#include "base/error.h"
#include "kernels/tables.h"

namespace binhdan {
namespace {

constexpr const KernelTable* kTables[] = {
    &kScalarTable,
#if defined(BINHDAN_X86_64)
    &kAvx2Table,   &kAvxvnniTable,     &kAvx512Table,
#endif
#if defined(BINHDAN_AMX)
    &kAmxTable,
#endif
#if defined(BINHDAN_AARCH64)
    &kNeonTable,   &kNeonDotprodTable, &kNeonI8mmTable,
#endif
#if defined(BINHDAN_RVV)
    &kRvvTable,
#endif
};

const KernelTable& fastest_table() {
  const KernelTable* fastest = &kScalarTable;
  for (const KernelTable* table : kTables)
    if (table->supported(cpu_features())) fastest = table;
  return *fastest;
}

bool runs_here(const KernelTable& table) {
  return table.supported(cpu_features());
}

template <typename Filter>
std::string names_of_tables(const Filter& filter) {
  std::string names;
  for (const KernelTable* table : kTables)
    if (filter(*table)) names += (names.empty() ? "" : ", ") + std::string(table->isa);
  return names;
}

}  // namespace

std::span<const KernelTable* const> compiled_tables() {
  return kTables;
}

const KernelTable& select_table(std::string_view forced) {
  if (forced.empty()) return fastest_table();
  for (const KernelTable* table : kTables) {
    if (forced != table->isa) continue;
    if (!runs_here(*table))
      fail(Code::unsupported, "instruction set ", forced,
           ": this CPU or operating system cannot run it; expected one of ", names_of_tables(runs_here));
    return *table;
  }
  fail(Code::invalid_argument, "instruction set ", forced, ": unknown; this build has ",
       names_of_tables([](const KernelTable&) { return true; }));
}

}  // namespace binhdan

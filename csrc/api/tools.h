// Shared by the files of binhdan_tools.h: checks of sizes.
#pragma once
#include "api/binhdan_tools.h"
#include "api/c_api.h"
#include "api/internal.h"
#include "base/checked.h"

namespace binhdan::tools {

inline void expect_size(const char* what, uint64_t expected, uint64_t got) {
  if (expected != got) fail(Code::invalid_argument, what, ": expected ", expected, ", got ", got);
}

inline void expect_positive(const char* what, int64_t got) {
  if (got <= 0) fail(Code::invalid_argument, what, ": expected at least 1, got ", got);
}

inline void expect_multiple(const char* what, int64_t of, int64_t got) {
  if (got <= 0 || got % of != 0)
    fail(Code::invalid_argument, what, ": expected a positive multiple of ", of, ", got ", got);
}

inline uint64_t blocks_size(const DTypeInfo& info, int64_t n) {
  expect_multiple(info.name, info.block, n);
  return checked_mul(static_cast<uint64_t>(n) / static_cast<uint64_t>(info.block),
                     static_cast<uint64_t>(info.block_bytes), "bytes of blocks");
}

inline const DTypeInfo& type_of(const char* type) {
  return internal::dtype_by_name(api::require(type, "type"));
}

inline const KernelTable& table_of(const char* isa) {
  return internal::table(api::require(isa, "isa"));
}

// The entry of a list of names, or NOT_FOUND past the end.
template <typename List>
const auto& entry(const List& list, size_t index) {
  if (index >= list.size()) fail(Code::not_found, "index: expected less than ", list.size(), ", got ", index);
  return list[index];
}

}  // namespace binhdan::tools

// binhdan_tools.h: names, and block codecs.
#include "api/tools.h"

using namespace binhdan;
using namespace binhdan::api;
using namespace binhdan::tools;

int32_t binhdan_tools_type_at(size_t index, binhdan_tools_type* type) {
  return guarded([&] {
    const DTypeInfo& info = entry(all_dtypes(), index);
    *require(type, "type") = {info.name, info.block, info.block_bytes};
  });
}

int32_t binhdan_tools_isa(size_t index, const char** name) {
  return guarded([&] {
    static const std::vector<std::string> names = internal::isa_names();
    *require(name, "name") = entry(names, index).c_str();
  });
}

const char* binhdan_tools_compiler(void) {
  return BINHDAN_COMPILER;
}

int32_t binhdan_tools_decode(const char* type, const void* blocks, size_t size, float* values, int64_t n) {
  return guarded([&] {
    const DTypeInfo& info = type_of(type);
    expect_size("bytes of blocks", n == 0 ? 0 : blocks_size(info, n), size);
    internal::decode(info.type, static_cast<const std::byte*>(blocks), values, n);
  });
}

int32_t binhdan_tools_round(const char* type, const float* values, int64_t n, void* blocks) {
  return guarded([&] { internal::encode(type_of(type).type, values, static_cast<std::byte*>(blocks), n); });
}

int32_t binhdan_tools_encode(const char* type, const float* values, int64_t rows, int64_t cols,
                             const float* importance, void* blocks, int32_t threads, const char* isa) {
  return guarded([&] {
    internal::encode_rows(type_of(type).type, values, rows, cols, importance, static_cast<std::byte*>(blocks),
                          threads, require(isa, "isa"));
  });
}

int32_t binhdan_tools_encode_feedback(const char* type, const float* values, int64_t rows, int64_t cols,
                                      const float* factor, void* blocks, int32_t threads, const char* isa) {
  return guarded([&] {
    const DTypeInfo& info = type_of(type);
    blocks_size(info, cols);
    internal::encode_feedback(info.type, values, rows, cols, factor, static_cast<std::byte*>(blocks), threads,
                              require(isa, "isa"));
  });
}

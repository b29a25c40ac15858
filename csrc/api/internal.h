// What the pybind11 module and the tests reach beyond the public ABI. Not installed; no stability promised.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/kernels.h"

#if defined(_WIN32)
#define BINHDAN_INTERNAL __declspec(dllexport)
#else
#define BINHDAN_INTERNAL __attribute__((visibility("default")))
#endif

namespace binhdan::internal {

// Codecs (kernels/codec.h) over whole arrays. Throw Error for sizes that do not fit.
BINHDAN_INTERNAL std::vector<std::string> dtype_names();
BINHDAN_INTERNAL const DTypeInfo& dtype_by_name(const std::string& name);
BINHDAN_INTERNAL void decode(DType type, const std::byte* src, float* dst, int64_t n);
BINHDAN_INTERNAL void encode(DType type, const float* src, std::byte* dst, int64_t n);

// Kernel tables by name, supported on this machine or Error.
BINHDAN_INTERNAL std::vector<std::string> isa_names();
BINHDAN_INTERNAL const KernelTable& table(const std::string& isa);

// Logits of every position of `tokens` on a model handle of the C ABI, in chunks: row(position, logits).
BINHDAN_INTERNAL void forward_logits(uint64_t model, std::span<const int32_t> tokens, int threads,
                                     const std::function<void(int64_t, std::span<const float>)>& row);

}  // namespace binhdan::internal

#include "base/dtype.h"

#include "base/checked.h"

namespace binhdan {
namespace {
constexpr DTypeInfo kTypes[] = {
    {DType::f32, "F32", 1, 4},
    {DType::f16, "F16", 1, 2},
    {DType::bf16, "BF16", 1, 2},
    {DType::q8_0, "Q8_0", 32, sizeof(BlockQ8_0)},
    {DType::q1_0, "Q1_0", 128, sizeof(BlockQ1_0)},
    {DType::q2_0, "Q2_0", 64, sizeof(BlockQ2_0)},
    {DType::q4_0, "Q4_0", 32, sizeof(BlockQ4_0)},
    {DType::q4_1, "Q4_1", 32, sizeof(BlockQ4_1)},
    {DType::q5_0, "Q5_0", 32, sizeof(BlockQ5_0)},
    {DType::q5_1, "Q5_1", 32, sizeof(BlockQ5_1)},
    {DType::iq4_nl, "IQ4_NL", 32, sizeof(BlockIQ4_NL)},
    {DType::q2_k, "Q2_K", kSuper, sizeof(BlockQ2_K)},
    {DType::q3_k, "Q3_K", kSuper, sizeof(BlockQ3_K)},
    {DType::q4_k, "Q4_K", kSuper, sizeof(BlockQ4_K)},
    {DType::q5_k, "Q5_K", kSuper, sizeof(BlockQ5_K)},
    {DType::q6_k, "Q6_K", kSuper, sizeof(BlockQ6_K)},
    {DType::iq4_xs, "IQ4_XS", kSuper, sizeof(BlockIQ4_XS)},
    {DType::tq1_0, "TQ1_0", kSuper, sizeof(BlockTQ1_0)},
    {DType::tq2_0, "TQ2_0", kSuper, sizeof(BlockTQ2_0)},
    {DType::mxfp4, "MXFP4", 32, sizeof(BlockMXFP4)},
    {DType::nvfp4, "NVFP4", 64, sizeof(BlockNVFP4)},
    {DType::iq1_s, "IQ1_S", kSuper, sizeof(BlockIQ1_S)},
    {DType::iq1_m, "IQ1_M", kSuper, sizeof(BlockIQ1_M)},
    {DType::iq2_xxs, "IQ2_XXS", kSuper, sizeof(BlockIQ2_XXS)},
    {DType::iq2_xs, "IQ2_XS", kSuper, sizeof(BlockIQ2_XS)},
    {DType::iq2_s, "IQ2_S", kSuper, sizeof(BlockIQ2_S)},
    {DType::iq3_xxs, "IQ3_XXS", kSuper, sizeof(BlockIQ3_XXS)},
    {DType::iq3_s, "IQ3_S", kSuper, sizeof(BlockIQ3_S)},
};
}  // namespace

std::span<const DTypeInfo> all_dtypes() {
  return kTypes;
}

const DTypeInfo* find_dtype(uint32_t gguf_type) {
  for (const DTypeInfo& info : kTypes)
    if (static_cast<uint32_t>(info.type) == gguf_type) return &info;
  return nullptr;
}

const DTypeInfo& dtype_info(DType type) {
  const DTypeInfo* info = find_dtype(static_cast<uint32_t>(type));
  if (!info) fail(Code::internal, "unknown tensor type ", static_cast<uint32_t>(type));
  return *info;
}

uint64_t row_bytes(DType type, uint64_t n) {
  const DTypeInfo& info = dtype_info(type);
  if (n % info.block != 0)
    fail(Code::bad_format, "rows of ", info.name, ": expected a multiple of ", info.block, " elements, got ",
         n);
  return checked_mul(n / info.block, info.block_bytes, "bytes of a row");
}

}  // namespace binhdan

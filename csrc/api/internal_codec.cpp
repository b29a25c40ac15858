// Looks up tensor types and kernel tables by name, and converts whole arrays.
#include "api/internal.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "encode/encode.h"
#include "encode/feedback.h"
#include "kernels/codec.h"

namespace binhdan::internal {
namespace {

void check_blocks(const DTypeInfo& info, int64_t n) {
  if (n < 0 || n % info.block != 0)
    fail(Code::invalid_argument, info.name, ": expected a multiple of ", info.block, " elements, got ", n);
}

template <class Predicate>
std::string types_with(Predicate predicate) {
  std::string names;
  for (const DTypeInfo& info : all_dtypes())
    if (predicate(info.type)) names.append(names.empty() ? "" : ", ").append(info.name);
  return names;
}

int threads_of(int threads) {
  if (threads < 0) fail(Code::invalid_argument, "threads: expected at least 0, got ", threads);
  return threads > 0 ? threads : usable_cores();
}

}  // namespace

std::vector<std::string> dtype_names() {
  std::vector<std::string> names;
  for (const DTypeInfo& info : all_dtypes()) names.emplace_back(info.name);
  return names;
}

const DTypeInfo& dtype_by_name(const std::string& name) {
  std::string known;
  for (const DTypeInfo& info : all_dtypes()) {
    if (name == info.name) return info;
    known.append(known.empty() ? "" : ", ").append(info.name);
  }
  fail(Code::invalid_argument, "tensor type: expected one of ", known, "; got ", name);
}

void decode(DType type, const std::byte* src, float* dst, int64_t n) {
  check_blocks(dtype_info(type), n);
  decode_row(type)(dst, src, n);
}

void encode(DType type, const float* src, std::byte* dst, int64_t n) {
  const DTypeInfo& info = dtype_info(type);
  const EncodeRow encode_values = encode_row(type);
  if (!encode_values)
    fail(Code::unsupported, "encoding to ", info.name, " without a search is not supported; expected one of ",
         types_with([](DType other) { return encode_row(other) != nullptr; }));
  check_blocks(info, n);
  encode_values(dst, src, n);
}

void encode_rows(DType type, const float* src, int64_t rows, int64_t cols, const float* importance,
                 std::byte* dst, int threads, const std::string& isa) {
  const DTypeInfo& info = dtype_info(type);
  if (!encode::can_encode(type))
    fail(Code::unsupported, "encoding to ", info.name, " is not supported; expected one of ",
         types_with(encode::can_encode));
  check_blocks(info, cols);
  ThreadPool pool(threads_of(threads));
  encode::encode_rows(type, src, rows, cols, importance, dst, select_table(isa), pool);
}

void encode_feedback(DType type, const float* src, int64_t rows, int64_t cols, const float* factor,
                     std::byte* dst, int threads, const std::string& isa) {
  const DTypeInfo& info = dtype_info(type);
  if (!encode::can_feed_back(type))
    fail(Code::unsupported, "encoding to ", info.name, " with feedback is not supported; expected one of ",
         types_with(encode::can_feed_back));
  check_blocks(info, cols);
  ThreadPool pool(threads_of(threads));
  encode::encode_feedback(type, src, rows, cols, factor, dst, select_table(isa), pool);
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : compiled_tables())
    if (table->supported(cpu_features())) names.emplace_back(table->isa);
  return names;
}

const KernelTable& table(const std::string& isa) {
  return select_table(isa);
}

}  // namespace binhdan::internal

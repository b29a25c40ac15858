// Block codecs on numpy arrays.
#include <optional>

#include "api/native.h"

namespace binhdan {
namespace {

py::array_t<float> decode(const std::string& type, const py::buffer& blocks, int64_t n) {
  const DTypeInfo& info = internal::dtype_by_name(type);
  const py::buffer_info buffer = blocks.request();
  const auto src = bytes_of(buffer, "blocks");
  expect_size("bytes of blocks", n == 0 ? 0 : blocks_size(info, n), src.size());
  py::array_t<float> out(n);
  float* dst = out.mutable_data();
  py::gil_scoped_release release;
  internal::decode(info.type, src.data(), dst, n);
  return out;
}

// Rows are the last axis of `values`; with one axis, rows of importance.size() values, or one row.
py::array_t<uint8_t> encode(const std::string& type, const Floats& values,
                            const std::optional<Floats>& importance, int threads, bool search,
                            const std::string& isa) {
  const DTypeInfo& info = internal::dtype_by_name(type);
  if (values.ndim() < 1) fail(Code::invalid_argument, "values: expected at least one axis");
  std::vector<py::ssize_t> shape(values.shape(), values.shape() + values.ndim());
  if (shape.back() % info.block != 0)
    fail(Code::invalid_argument, type, ": expected rows of a multiple of ", info.block, " elements, got ",
         shape.back());
  int64_t cols = shape.back();
  if (importance) {
    const int64_t size = importance->size();
    if (values.ndim() == 1 && size > 0 && cols % size == 0) cols = size;
    expect_size("size of importance", static_cast<uint64_t>(cols), static_cast<uint64_t>(size));
    if (!search) fail(Code::invalid_argument, "importance: expected None without a search");
  }
  if (cols % info.block != 0)
    fail(Code::invalid_argument, type, ": expected rows of a multiple of ", info.block, " elements, got ",
         cols);
  shape.back() = shape.back() / info.block * info.block_bytes;
  py::array_t<uint8_t> out(shape);
  auto* dst = reinterpret_cast<std::byte*>(out.mutable_data());
  const float *src = values.data(), *weights = importance ? importance->data() : nullptr;
  const int64_t n = values.size();
  py::gil_scoped_release release;
  if (search)
    internal::encode_rows(info.type, src, cols > 0 ? n / cols : 0, cols, weights, dst, threads, isa);
  else
    internal::encode(info.type, src, dst, n);
  return out;
}

py::array_t<uint8_t> encode_feedback(const std::string& type, const Floats& values, const Floats& factor,
                                     int threads, const std::string& isa) {
  const DTypeInfo& info = internal::dtype_by_name(type);
  expect_axes(values, "values", 2);
  expect_axes(factor, "factor", 2);
  const int64_t rows = values.shape(0), cols = values.shape(1);
  expect_size("rows of factor", static_cast<uint64_t>(cols), static_cast<uint64_t>(factor.shape(0)));
  expect_size("columns of factor", static_cast<uint64_t>(cols), static_cast<uint64_t>(factor.shape(1)));
  py::array_t<uint8_t> out({rows, static_cast<int64_t>(blocks_size(info, cols))});
  auto* dst = reinterpret_cast<std::byte*>(out.mutable_data());
  const float *src = values.data(), *upper = factor.data();
  py::gil_scoped_release release;
  internal::encode_feedback(info.type, src, rows, cols, upper, dst, threads, isa);
  return out;
}

py::dict dtypes() {
  py::dict all;
  for (const std::string& name : internal::dtype_names()) {
    const DTypeInfo& info = internal::dtype_by_name(name);
    all[py::str(name)] = py::make_tuple(info.block, info.block_bytes);
  }
  return all;
}

}  // namespace

void add_codecs(py::module_& module) {
  using py::arg;
  module.def("dtypes", dtypes);
  module.def("decode", decode, arg("type"), arg("blocks"), arg("n"));
  module.def("encode", encode, arg("type"), arg("values"), arg("importance") = py::none(), arg("threads") = 0,
             arg("search") = true, arg("isa") = "");
  module.def("encode_feedback", encode_feedback, arg("type"), arg("values"), arg("factor"),
             arg("threads") = 0, arg("isa") = "");
}

}  // namespace binhdan

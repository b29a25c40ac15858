// What the files of the numpy module share: checks of arguments, and the parts that the other files add.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "api/internal.h"
#include "base/checked.h"

namespace binhdan {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

// The bytes of an object with the buffer protocol. Throws Error if they are not contiguous.
inline std::span<const std::byte> bytes_of(const py::buffer_info& info, const char* what) {
  py::ssize_t step = info.itemsize;
  for (py::ssize_t axis = info.ndim; axis-- > 0; step *= info.shape[static_cast<size_t>(axis)])
    if (info.shape[static_cast<size_t>(axis)] > 1 && info.strides[static_cast<size_t>(axis)] != step)
      fail(Code::invalid_argument, what, ": expected contiguous bytes");
  return {static_cast<const std::byte*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)};
}

inline void expect_size(const char* what, uint64_t expected, uint64_t got) {
  if (expected != got) fail(Code::invalid_argument, what, ": expected ", expected, ", got ", got);
}

inline void expect_axes(const py::array& array, const char* what, py::ssize_t axes) {
  if (array.ndim() != axes)
    fail(Code::invalid_argument, what, ": expected ", axes, " axes, got ", array.ndim());
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
  return checked_mul(static_cast<uint64_t>(n) / info.block, info.block_bytes, "bytes of blocks");
}

void add_codecs(py::module_& module);  // native_codec.cpp

void add_evaluation(py::module_& module);  // native_evaluate.cpp

}  // namespace binhdan

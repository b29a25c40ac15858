// Parts of the numpy module in files of their own.
#pragma once
#include <pybind11/pybind11.h>

namespace binhdan {

void add_evaluation(pybind11::module_& module);  // native_evaluate.cpp

}  // namespace binhdan

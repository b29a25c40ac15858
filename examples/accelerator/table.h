// An example of a kernel table for an accelerator that offers a matrix product: prompts go through a function
// pointer that is loaded at run time; everything else is the portable table. docs/porting.md explains it.
#pragma once
#include "accelerator.h"
#include "kernels/kernels.h"

namespace accelerator {

// Before a model is loaded with the table. nullptr: the table computes by itself.
void set_gemm(accelerator_gemm gemm);

extern const binhdan::KernelTable kTable;

}  // namespace accelerator

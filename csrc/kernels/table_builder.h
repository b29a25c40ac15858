// Functions that build a table. A table starts as a copy of a simpler one and replaces some kernels by faster
// ones:
//     consteval KernelTable table() {
//       KernelTable table = scalar::table();
//       table.isa = "avx2";
//       set_matmul(table, DType::q4_0, matmul<DType::q4_0>, scratch_size<DType::q4_0>);
//       ...
// Everything is consteval: a function that built a table at program start would be compiled with the flags of
// one instruction set and run on every CPU.
#pragma once
#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan {

consteval void set(KernelTable& table, const MatmulKernel& kernel) {
  table.matmul[static_cast<size_t>(kernel.type)] = kernel;
}

consteval void set(KernelTable& table, KvType type, const AttentionKernel& kernel) {
  table.attention[static_cast<size_t>(type)] = kernel;
}

// One function for gemv and gemm. Packing and row access stay as they are.
consteval void set_matmul(KernelTable& table, DType type, void (*matmul)(const MatmulArgs&),
                          size_t (*scratch_size)(int64_t, int64_t, int64_t)) {
  MatmulKernel& kernel = table.matmul[static_cast<size_t>(type)];
  kernel.gemv = kernel.gemm = matmul;
  kernel.scratch_size = scratch_size;
}

// The types that are packed as another type: its kernels, and their own `pack`, which is set before. A table
// that replaces the kernels of types with panels calls this afterwards.
consteval void set_repacked(KernelTable& table) {
#define SET(name, other)                                                   \
  {                                                                        \
    MatmulKernel kernel = table.matmul[static_cast<size_t>(DType::other)]; \
    kernel.type = DType::name;                                             \
    kernel.pack = table.matmul[static_cast<size_t>(DType::name)].pack;     \
    set(table, kernel);                                                    \
  }
  BINHDAN_REPACKED_TYPES(SET)
#undef SET
}

consteval void set(KernelTable& table, Nonlinearity f, void (*apply)(float*, const float*, int64_t)) {
  table.apply[static_cast<size_t>(f)] = apply;
}

// One function for both numeric classes. The layout of the pages stays as it is.
consteval void set_attention(KernelTable& table, KvType type, void (*attention)(const AttentionArgs&),
                             size_t (*scratch_size)(int64_t, int64_t, int64_t)) {
  AttentionKernel& kernel = table.attention[static_cast<size_t>(type)];
  kernel.decode = kernel.prefill = attention;
  kernel.scratch_size = scratch_size;
}

}  // namespace binhdan

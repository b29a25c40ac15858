// The kernel tables that this build has, one for each folder of csrc/kernels/.
//
//   folder        name (KernelTable::isa, BINHDAN_ISA)   starts from
//   scalar        scalar
//   avx2          avx2                                   scalar
//   avxvnni       avxvnni                                avx2
//   avx512        avx512vnni                             avx2
//   amx           amx                                    avx512
//   neon          neon                                   scalar
//   neon_dotprod  neon_dotprod                           neon
//   neon_i8mm     neon_i8mm                              neon_dotprod
//   rvv           rvv                                    scalar
//
// A folder is also the namespace of its files. They include only what tables share (this folder), their own
// headers, and those of the folders that their table starts from. File names are the same in every folder:
//   functions.h       declarations of the kernels
//   table.h, .cpp     the table, and the test whether a CPU supports it
//   panels.h          panels in the registers of this instruction set
//   matmul.cpp        panels times rows of activations
//   matmul_few.cpp    panels times few rows, if it is another kernel
//   matmul_float.cpp  float weights times float rows
//   attention.cpp     attention over one split
//   delta.cpp         the gated delta rule
//   vector.cpp        rows: quantization, norms, RoPE, nonlinear functions, ...
//   candidates.cpp    sums for the search of the encoders
//   pack.cpp          panels of its own, if the table has other panels than kernels/panels.h
//   lanes.h           one vector, for loops that tables share (*_lanes.h)
//   peak.cpp          loops that measure the peak rate
// To add an instruction set: a folder, a line in csrc/CMakeLists.txt, and entries below and in dispatch.cpp.
#pragma once
#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define BINHDAN_X86_64 1
#if defined(__linux__) && !defined(__ANDROID__)
#define BINHDAN_AMX 1  // base/cpu.cpp requests tile permission on Linux only
#endif
#endif
#if defined(__aarch64__)
#define BINHDAN_AARCH64 1
#endif
// BINHDAN_RVV: csrc/CMakeLists.txt defines it if the compiler has the intrinsics.

namespace binhdan {

extern const KernelTable kScalarTable;
#if defined(BINHDAN_X86_64)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvxvnniTable;
extern const KernelTable kAvx512Table;
#endif
#if defined(BINHDAN_AMX)
extern const KernelTable kAmxTable;
#endif
#if defined(BINHDAN_AARCH64)
extern const KernelTable kNeonTable;
extern const KernelTable kNeonDotprodTable;
extern const KernelTable kNeonI8mmTable;
#endif
#if defined(BINHDAN_RVV)
extern const KernelTable kRvvTable;
#endif

}  // namespace binhdan

// The tables of each instruction set, and which of them this build's processor family has.
#pragma once
#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define BINHDAN_X86_64 1
#if defined(__linux__)
#define BINHDAN_AMX 1  // other systems are not asked for tiles yet (base/cpu.cpp)
#endif
#endif

namespace binhdan {

extern const KernelTable kScalarTable;
#if defined(BINHDAN_X86_64)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvxvnniTable;
extern const KernelTable kAvx512vnniTable;
#endif
#if defined(BINHDAN_AMX)
extern const KernelTable kAmxTable;
#endif

}  // namespace binhdan

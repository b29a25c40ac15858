// The instruction sets and cores that the processor and the operating system let this process use.
#pragma once
#include <string>

namespace binhdan {

struct CpuFeatures {
  // x86-64; each is true only when the OS saves the registers it needs (XCR0).
  bool avx2 = false;      // with FMA, F16C and BMI2
  bool avx_vnni = false;  // 256-bit
  bool avx512 = false;    // F, BW, CD, DQ, VL
  bool avx512_vnni = false;
  bool avx512_vbmi = false;
  bool avx512_bf16 = false;
  bool amx = false;  // tile, int8 and bf16; the OS must also grant the permission (request_amx)
  // 64-bit ARM
  bool neon = false;
  bool dotprod = false;  // sdot: FEAT_DotProd
  bool i8mm = false;     // smmla: FEAT_I8MM
  // 64-bit RISC-V
  bool rvv = false;  // version 1.0 of the V extension
};

const CpuFeatures& cpu_features();
// Requests permission from the OS for this process to use tile registers; false when the OS refuses.
bool request_amx();
// The processor's name; "" when unknown.
std::string cpu_name();
// Cores that this process may use: the smaller of its affinity mask and its cgroup's CPU quota (v1 and v2,
// rounded up), at least 1.
int usable_cores();
// Threads that compute by default: usable_cores(), but no more than the big cores of the processor.
int default_threads();

}  // namespace binhdan

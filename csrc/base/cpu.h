// What the processor AND the operating system let us use, and how many threads are ours.
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
  // ARM
  bool dotprod = false;
  bool i8mm = false;
};

const CpuFeatures& cpu_features();
// Asks the OS, once, to let every thread of this process use tile registers; false when it refuses.
bool request_amx();
// The processor's own name, "" when unknown.
std::string cpu_name();
// Cores this process may really use: the smaller of the affinity mask and the cgroup's CPU quota (v1 and v2,
// rounded up), at least 1.
int usable_cores();

}  // namespace binhdan

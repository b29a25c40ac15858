#include "base/cpu.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/big_cores.h"
#include "base/cgroup.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#endif

namespace binhdan {
namespace {

#if defined(__x86_64__)

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Zeros for a leaf that the processor does not have.
Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(uint32_t word, int n) {
  return word >> n & 1;
}

// XCR0: the registers that the OS saves when it switches threads. Intel SDM volume 1, chapter 13.
uint64_t saved_registers() {
  if (!bit(cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

constexpr uint64_t kAvxState = 0x6;      // XMM, YMM
constexpr uint64_t kAvx512State = 0xe6;  // also opmask, upper ZMM, ZMM16-31
constexpr uint64_t kAmxState = 0x60000;  // tile config, tile data

// Bit numbers: Intel SDM volume 2A, CPUID, leaves 1 and 7.
CpuFeatures detect() {
  const Registers one = cpuid(1), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  const uint64_t saved = saved_registers();
  const auto saves = [&](uint64_t state) { return (saved & state) == state; };
  const bool fma_f16c_avx = bit(one.ecx, 12) && bit(one.ecx, 29) && bit(one.ecx, 28);
  const bool avx512_f_dq_cd_bw_vl = bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 28) &&
                                    bit(seven.ebx, 30) && bit(seven.ebx, 31);
  CpuFeatures f;
  f.avx2 = saves(kAvxState) && fma_f16c_avx && bit(seven.ebx, 5) && bit(seven.ebx, 8);
  f.avx_vnni = f.avx2 && bit(seven_one.eax, 4);
  f.avx512 = f.avx2 && saves(kAvx512State) && avx512_f_dq_cd_bw_vl;
  f.avx512_vnni = f.avx512 && bit(seven.ecx, 11);
  f.avx512_vbmi = f.avx512 && bit(seven.ecx, 1);
  f.avx512_bf16 = f.avx512 && bit(seven_one.eax, 5);
  f.amx = f.avx512 && saves(kAmxState) && bit(seven.edx, 22) && bit(seven.edx, 24) && bit(seven.edx, 25);
  return f;
}

// The brand string: 48 bytes in three leaves, padded by blanks and NULs.
std::string brand() {
  if (cpuid(0x80000000).eax < 0x80000004) return "";
  std::array<char, 49> text{};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002 + i);
    std::memcpy(text.data() + 16 * i, &r, 16);
  }
  return text.data();
}

#elif defined(__aarch64__)

#if defined(__APPLE__)
// Names: Apple, "Determining Instruction Set Characteristics".
bool has(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
#endif

CpuFeatures detect() {
  CpuFeatures f;
  f.neon = true;  // part of ARMv8-A
#if defined(__linux__)
  // Bit numbers: Linux, arch/arm64/include/uapi/asm/hwcap.h.
  f.dotprod = getauxval(AT_HWCAP) >> 20 & 1;
  f.i8mm = getauxval(AT_HWCAP2) >> 13 & 1;
#elif defined(__APPLE__)
  f.dotprod = has("hw.optional.arm.FEAT_DotProd");
  f.i8mm = has("hw.optional.arm.FEAT_I8MM");
#elif defined(_WIN32)
  // Numbers: Windows SDK, winnt.h (PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE),
  // which older SDKs do not name.
  f.dotprod = IsProcessorFeaturePresent(43);
  f.i8mm = IsProcessorFeaturePresent(66);
#endif
  return f;
}

#elif defined(__riscv) && __riscv_xlen == 64 && defined(__linux__)

// Linux, Documentation/arch/riscv/hwprobe.rst, since 6.4. AT_HWCAP has one bit for each letter of an extension; old
// kernels of vendors set that of V for version 0.7 too, so the newer interface decides where it is present.
CpuFeatures detect() {
  struct Pair {
    int64_t key;
    uint64_t value;
  };
  constexpr long kHwprobe = 258;           // riscv_hwprobe
  constexpr int64_t kImaExtensions = 4;    // RISCV_HWPROBE_KEY_IMA_EXT_0
  constexpr uint64_t kVector = 1ULL << 2;  // RISCV_HWPROBE_IMA_V
  CpuFeatures f;
  f.rvv = getauxval(AT_HWCAP) >> ('V' - 'A') & 1;
  Pair pair{kImaExtensions, 0};
  if (f.rvv && syscall(kHwprobe, &pair, 1, 0, nullptr, 0) == 0 && pair.key == kImaExtensions)
    f.rvv = pair.value & kVector;
  return f;
}

#else

CpuFeatures detect() {
  return {};
}

#endif

std::string trim(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

[[maybe_unused]] std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line, '\0');  // device-tree strings end in NUL
  return trim(line.substr(0, line.find('\n')));
}

// A board's name is in the device tree ("Raspberry Pi 5 Model B Rev 1.0"), that of other machines in
// /proc/cpuinfo.
[[maybe_unused]] std::string name_from_system() {
  const std::string board = first_line("/proc/device-tree/model");
  if (!board.empty()) return board;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    for (const char* field : {"model name", "Hardware", "uarch", "isa"})
      if (line.starts_with(field) && line.find(':') != std::string::npos)
        return trim(line.substr(line.find(':') + 1));
  return "";
}

int affinity_cores() {
#if defined(__linux__)
  // The call fails when the set is smaller than the kernel's.
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
    if (!set) break;
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

// Linux, Documentation/arch/x86/xstate.rst. Not implemented for other systems.
bool request_amx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

std::string cpu_name() {
#if defined(__x86_64__)
  return trim(brand());
#else
  return name_from_system();
#endif
}

int usable_cores() {
  const int cores = affinity_cores();
  const int quota = cgroup_cores();
  return quota > 0 ? std::min(cores, quota) : cores;
}

int default_threads() {
  const int cores = usable_cores(), big = big_cores();
  return big > 0 ? std::min(cores, big) : cores;
}

}  // namespace binhdan

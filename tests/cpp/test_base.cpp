#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/bandwidth.h"
#include "base/big_cores.h"
#include "base/buffer.h"
#include "base/cgroup.h"
#include "base/checked.h"
#include "base/cpu.h"
#include "base/dtype.h"
#include "base/half.h"
#include "base/process.h"
#include "base/utf8.h"
#include "base/wake_fd.h"
#include "check.h"
#include "temporary_folder.h"

#ifndef _WIN32
#include <poll.h>
#endif

using namespace binhdan;

namespace {

// IEEE 754 binary16, from its definition: (-1)^sign * 2^(exponent - 15) * 1.fraction.
double half_by_formula(uint16_t h) {
  const int exponent = h >> 10 & 31;
  const double fraction = (h & 0x3ff) / 1024.0;
  const double sign = h & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15));
}

}  // namespace

// ---- numbers -----------------------------------------------------------------------------------------

TEST(half_decodes_every_pattern) {
  int wrong = 0;
  for (uint32_t h = 0; h < 65536; ++h) {
    const double expected = half_by_formula(static_cast<uint16_t>(h));
    const float got = f16_to_f32(static_cast<uint16_t>(h));
    const bool same = std::isnan(expected) ? std::isnan(got)
                                           : got == expected && std::signbit(got) == std::signbit(expected);
    wrong += !same;
  }
  CHECK(wrong == 0);
}

TEST(half_round_trips) {
  int wrong = 0;
  for (uint32_t h = 0; h < 65536; ++h) {
    const float value = f16_to_f32(static_cast<uint16_t>(h));
    const uint16_t back = f32_to_f16(value);
    wrong += std::isnan(value) ? !std::isnan(f16_to_f32(back)) : back != h;
  }
  CHECK(wrong == 0);
}

// Between two adjacent halves, values below the middle round down, values above it round up, and the middle
// rounds to the even one.
TEST(half_rounds_to_nearest_even) {
  int wrong = 0;
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const double low = half_by_formula(static_cast<uint16_t>(h));
    const double high = h == 0x7bff ? 65536.0 : half_by_formula(static_cast<uint16_t>(h + 1));
    const auto middle = static_cast<float>((low + high) / 2);  // exact: float has 13 more bits
    wrong += f32_to_f16(middle) != h + (h & 1);
    wrong += f32_to_f16(std::nextafter(middle, 0.0f)) != h;
    wrong += f32_to_f16(std::nextafter(middle, 1e30f)) != h + 1;
    wrong += f32_to_f16(-middle) != (0x8000 | (h + (h & 1)));
  }
  CHECK(wrong == 0);
  CHECK(f32_to_f16(1e30f) == 0x7c00);
  CHECK(f32_to_f16(-std::numeric_limits<float>::infinity()) == 0xfc00);
}

TEST(bf16_is_the_upper_half_of_a_float) {
  int wrong = 0;
  for (uint32_t b = 0; b < 65536; ++b) {
    const float value = bf16_to_f32(static_cast<uint16_t>(b));
    if (std::isnan(value)) {
      wrong += !std::isnan(bf16_to_f32(f32_to_bf16(value)));
      continue;
    }
    wrong += f32_to_bf16(value) != b;
    if (std::isinf(value)) continue;
    const uint32_t middle = b << 16 | 0x8000;
    wrong += f32_to_bf16(std::bit_cast<float>(middle)) != b + (b & 1);
  }
  CHECK(wrong == 0);
}

TEST(checked_arithmetic_rejects_overflow) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  CHECK(checked_add(kMax - 1, 1, "sum") == kMax);
  CHECK_FAILS(checked_add(kMax, 1, "bytes of x"), "bytes of x");
  CHECK(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1, "product") == kMax - 0xffffffff);
  CHECK_FAILS(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32, "product"), "overflows 64 bits");
  CHECK(checked_cast<uint8_t>(255, "byte") == 255);
  CHECK_FAILS(checked_cast<uint8_t>(256, "byte"), "out of range");
  CHECK_FAILS(checked_cast<uint8_t>(-1, "byte"), "out of range");
  CHECK(checked_align(0, 32, "start") == 0);
  CHECK(checked_align(33, 32, "start") == 64);
  CHECK_FAILS(checked_align(kMax, 32, "start"), "start");
}

TEST(row_bytes_requires_whole_blocks) {
  CHECK(row_bytes(DType::q4_0, 64) == 36);
  CHECK(row_bytes(DType::f16, 3) == 6);
  CHECK_FAILS(row_bytes(DType::q4_k, 255), "rows of Q4_K: expected a multiple of 256");
  CHECK_FAILS(row_bytes(DType::f32, uint64_t{1} << 62), "overflows");
  CHECK(find_dtype(4) == nullptr);
}

TEST(buffer_is_aligned_and_moves) {
  Buffer a(100);
  CHECK(reinterpret_cast<uintptr_t>(a.as<>()) % kCacheLine == 0);
  a.zero();
  CHECK(a.as<uint8_t>()[99] == 0);
  Buffer b = std::move(a);
  CHECK(a.size() == 0 && b.size() == 100);
  b.reserve(50);
  CHECK(b.size() == 100);
  b.reserve(200);
  CHECK(b.size() == 200);
}

TEST(buffer_of_an_impossible_size_is_an_error) {
  // On a 32-bit processor, the first size is 64 bytes after a conversion to size_t.
  for (const uint64_t size : {(uint64_t{1} << 40) * (uint64_t{1} << 23) + 64, UINT64_MAX})
    CHECK_FAILS(Buffer{size}, "out of memory: cannot allocate");
}

// ---- text --------------------------------------------------------------------------------------------

TEST(utf8_follows_the_standard) {
  const auto valid = [](std::string_view s) { return utf8_valid_prefix(s) == s.size(); };
  CHECK(valid("") && valid("tiếng Việt") && valid("\xf0\x9f\x87\xbb") && valid("\xf4\x8f\xbf\xbf"));
  CHECK(!valid("\xc0\x80") && !valid("\xe0\x9f\xbf") && !valid("\xf0\x8f\xbf\xbf"));  // overlong
  CHECK(!valid("\xed\xa0\x80") && valid("\xed\x9f\xbf"));                             // surrogate
  CHECK(!valid("\xf4\x90\x80\x80") && !valid("\xf5\x80\x80\x80"));                    // past U+10FFFF
  CHECK(!valid("\x80") && !valid("\xe1\xba") && !valid("a\xff"));
  CHECK(utf8_valid_prefix("vi\xe1\xba") == 2);
}

TEST(quoted_names_are_one_short_printable_line) {
  CHECK(quote_name("blk.0.attn_q.weight") == "'blk.0.attn_q.weight'");
  CHECK(quote_name("khóa") == "'khóa'");
  CHECK(quote_name(std::string_view("a\n\x1b[2J\0", 7)) == "'a\\x0a\\x1b[2J\\x00'");
  CHECK(quote_name("\xff\xc2\x9b") == "'\\xff\\xc2\\x9b'");
  CHECK(quote_name(std::string(100000, 'x')).size() < 200);
}

// ---- the machine -------------------------------------------------------------------------------------

TEST(cpu_features_are_consistent) {
  const CpuFeatures& cpu = cpu_features();
  CHECK(!cpu.avx512 || cpu.avx2);
  CHECK(!cpu.amx || cpu.avx512);
#if defined(__x86_64__)
  CHECK(!cpu_name().empty());
  CHECK(cpu.avx2 == static_cast<bool>(__builtin_cpu_supports("avx2")));
  CHECK(cpu.avx512_vnni == static_cast<bool>(__builtin_cpu_supports("avx512vnni")));
#endif
  CHECK(usable_cores() >= 1);
  CHECK(usable_cores() <= static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

TEST(big_cores_have_most_of_the_capacity_of_the_fastest) {
  const TemporaryFolder root;
  const auto write = [&](int core, const std::string& capacity) {
    root.write("sys/devices/system/cpu/cpu" + std::to_string(core) + "/cpu_capacity", capacity + "\n");
  };
  CHECK(big_cores(root / "") == 0);
  for (int core = 0; core < 4; ++core) write(core, "530");
  CHECK(big_cores(root / "") == 4);
  for (int core = 4; core < 7; ++core) write(core, "800");
  write(7, "1024");
  CHECK(big_cores(root / "") == 4);
  write(0, "no number");  // the list ends here
  CHECK(big_cores(root / "") == 0);
  CHECK(default_threads() >= 1 && default_threads() <= usable_cores());
}

#ifdef __linux__  // other systems do not keep it in files
TEST(reads_the_available_memory) {
  const TemporaryFolder root;
  CHECK(!available_memory(root / ""));
  root.write("proc/meminfo",
             "MemTotal:  8000000 kB\nMemFree:  10 kB\nMemAvailable:  4000000 kB\nBuffers:  1 kB\n");
  CHECK(available_memory(root / "") == uint64_t{4000000} << 10);
  root.write("proc/self/cgroup", "5:memory:/docker/ab\n0::/app\n");
  root.write("sys/fs/cgroup/app/memory.max", "max\n");
  CHECK(available_memory(root / "") == uint64_t{4000000} << 10);
  // The cache of files is free memory.
  root.write("sys/fs/cgroup/app/memory.max", "1000000\n");
  CHECK(available_memory(root / "") == 1'000'000);  // the usage is unknown
  root.write("sys/fs/cgroup/app/memory.current", "700000\n");
  root.write("sys/fs/cgroup/app/memory.stat", "anon 500000\ninactive_file 50000\nactive_file 150000\n");
  CHECK(available_memory(root / "") == 500'000);
  root.write("sys/fs/cgroup/app/memory.current", "2000000\n");
  CHECK(available_memory(root / "") == 0);
  root.write("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "900000\n");
  root.write("sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes", "600000\n");
  root.write("sys/fs/cgroup/memory/docker/ab/memory.stat", "total_inactive_file 100000\n");
  root.write("sys/fs/cgroup/app/memory.max", "max\n");
  CHECK(available_memory(root / "") == 400'000);
}
#endif

TEST(reads_the_memory_limits_of_cgroups) {
  const TemporaryFolder root;
  CHECK(cgroup_memory(root / "") == 0);
  root.write("proc/self/cgroup", "5:memory:/docker/ab\n0::/app\n");
  root.write("sys/fs/cgroup/app/memory.max", "max\n");
  CHECK(cgroup_memory(root / "") == 0);
  root.write("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "3000000000\n");
  CHECK(cgroup_memory(root / "") == 3'000'000'000);
  root.write("sys/fs/cgroup/app/memory.max", "2000000000\n");
  CHECK(cgroup_memory(root / "") == 2'000'000'000);
  CHECK(usable_memory() > 0);
}

TEST(reads_the_quota_of_cgroup_v2) {
  const TemporaryFolder root;
  CHECK(cgroup_cores(root / "") == 0);
  root.write("proc/self/cgroup", "0::/user.slice/app.scope\n");
  CHECK(cgroup_cores(root / "") == 0);
  root.write("sys/fs/cgroup/user.slice/app.scope/cpu.max", "max 100000\n");
  CHECK(cgroup_cores(root / "") == 0);
  root.write("sys/fs/cgroup/user.slice/app.scope/cpu.max", "250000 100000\n");
  CHECK(cgroup_cores(root / "") == 3);  // rounded up
  root.write("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
  CHECK(cgroup_cores(root / "") == 2);  // a parent's limit applies too
  root.write("sys/fs/cgroup/cpu.max", "10000 100000\n");
  CHECK(cgroup_cores(root / "") == 1);
}

TEST(reads_the_quota_of_cgroup_v1) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:cpuset:/\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_cores(root / "") == 0);
  // In a container the host's path does not exist; the mount itself is the container's group.
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_cores(root / "") == 4);
}

TEST(invalid_cgroup_files_set_no_limit) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "garbage\n:\n0::\n0::no-slash\n7:cpu:/../..\n");
  for (const char* text :
       {"", "x y", "100000", "100000 0", "0 100000", "-5 100000", "9999999999999999999999 1"}) {
    root.write("sys/fs/cgroup/cpu.max", text);
    CHECK(cgroup_cores(root / "") == 0);
  }
  root.write("sys/fs/cgroup/cpu.max", "9223372036854775807 1");
  CHECK(cgroup_cores(root / "") == 0);
}

#ifndef _WIN32
TEST(wake_fd_is_readable_while_set) {
  WakeFd wake;
  const auto readable = [&] {
    pollfd one{wake.fd(), POLLIN, 0};
    return poll(&one, 1, 0) == 1;
  };
  CHECK(!readable());
  for (int i = 0; i < 1000; ++i) wake.set();
  CHECK(readable());
  wake.clear();
  CHECK(!readable());
  wake.set();
  CHECK(readable());
}
#endif

TEST(bandwidth_is_plausible) {
  const double one = measure_bandwidth(1);
  CHECK(one > 1e7 && one < 1e13);
  CHECK_FAILS(measure_bandwidth(0), "thread");
}

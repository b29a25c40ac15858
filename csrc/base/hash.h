// A fast hash of many bytes. It detects damage and distinguishes files; it does not resist forgery.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace binhdan {

// Four lanes of multiply and xor-shift, at about the speed of memory. The result depends on the byte order.
inline uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;
  uint64_t lanes[4] = {seed, seed + kFactor, seed ^ kFactor, ~seed};
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32)
    for (std::size_t lane = 0; lane < 4; ++lane) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + i + 8 * lane, 8);
      lanes[lane] = (lanes[lane] ^ word) * kFactor;
      lanes[lane] ^= lanes[lane] >> 29;
    }
  uint64_t hash = bytes.size();
  for (const uint64_t lane : lanes) hash = (hash ^ lane) * kFactor;
  for (; i < bytes.size(); ++i) hash = (hash ^ static_cast<uint64_t>(bytes[i])) * kFactor;
  return hash ^ (hash >> 32);
}

}  // namespace binhdan

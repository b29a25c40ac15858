#include "model/pack_file.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/output_file.h"

namespace binhdan::model {
namespace {

constexpr char kMagic[8] = {'B', 'I', 'N', 'H', 'P', 'A', 'C', 'K'};
constexpr uint32_t kVersion = 1, kByteOrder = 0x01020304;
// Page-aligned on every system, as the kernels need at least a cache line.
constexpr size_t kWeightsOffset = size_t{64} << 10;
constexpr size_t kPiece = size_t{1} << 20;

struct Header {
  char magic[8];
  uint32_t version, byte_order;
  PackIdentity identity;
  uint64_t checksum;  // of the hashes of the pieces
};
static_assert(sizeof(Header) == 48);

size_t count_pieces(size_t bytes) {
  return (bytes + kPiece - 1) / kPiece;
}

uint64_t hash_piece(std::span<const std::byte> weights, size_t index) {
  const size_t begin = index * kPiece;
  return hash_bytes(weights.subspan(begin, std::min(kPiece, weights.size() - begin)), index);
}

uint64_t checksum(std::span<const uint64_t> hashes) {
  return hash_bytes(std::as_bytes(hashes), kVersion);
}

Header header_of(const FileMap& map) {
  Header header;
  std::memcpy(&header, map.bytes().data(), sizeof header);
  return header;
}

// Why a pack file cannot be used; "" if it can.
std::string mismatch(const FileMap& map, const PackIdentity& expected) {
  if (map.bytes().size() < kWeightsOffset) return "the file is truncated";
  const Header header = header_of(map);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return "this is not a pack file";
  if (header.version != kVersion || header.byte_order != kByteOrder)
    return "another version of binhdan or another kind of processor has made it";
  if (header.identity.model != expected.model)
    return "it was made of another model file, or the model file has changed since";
  if (header.identity.layout != expected.layout || header.identity.bytes != expected.bytes)
    return "its layout of the weights is that of another version of binhdan";
  if (map.bytes().size() - kWeightsOffset != expected.bytes) return "the file has the wrong size";
  return "";
}

void warn(const std::string& path, const std::string& reason) {
  log(LogLevel::warning, path, ": the pack file is not used: ", reason,
      "; run binhdan pack again, or delete it");
}

}  // namespace

PackFile::PackFile(std::unique_ptr<FileMap> map) : map_(std::move(map)) {
  hashes_.resize(count_pieces(weights().size()));
}

std::optional<PackFile> PackFile::open(const std::string& path, const PackIdentity& identity) {
  std::unique_ptr<FileMap> map;
  std::string reason;
  try {
    map = std::make_unique<FileMap>(path);
    reason = mismatch(*map, identity);
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return std::nullopt;
    reason = error.what();
  }
  if (reason.empty()) return PackFile(std::move(map));
  warn(path, reason);
  return std::nullopt;
}

void PackFile::write(const std::string& path, const PackIdentity& identity,
                     std::span<const std::byte> weights) {
  std::vector<uint64_t> hashes;
  for (size_t i = 0; i < count_pieces(weights.size()); ++i) hashes.push_back(hash_piece(weights, i));
  Header header{{}, kVersion, kByteOrder, identity, checksum(hashes)};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::vector<std::byte> first(kWeightsOffset);
  std::memcpy(first.data(), &header, sizeof header);
  OutputFile file(path);
  file.write(first);
  file.write(weights);
  file.commit();
}

void PackFile::hash_weights(Team& team) {
  team.distribute(static_cast<int64_t>(hashes_.size()), 1, 1, [&](int64_t i, int64_t) {
    hashes_[static_cast<size_t>(i)] = hash_piece(weights(), static_cast<size_t>(i));
  });
}

bool PackFile::intact() const {
  std::string reason;
  try {
    if (checksum(hashes_) != header_of(*map_).checksum) reason = "the file is damaged";
    map_->check_intact();
  } catch (const Error& error) {
    reason = error.what();
  }
  if (!reason.empty()) warn(map_->path(), reason);
  return reason.empty();
}

std::span<const std::byte> PackFile::weights() const {
  return map_->bytes().subspan(kWeightsOffset);
}

}  // namespace binhdan::model

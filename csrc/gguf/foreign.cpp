#include "gguf/foreign.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/utf8.h"
#include "gguf/value.h"

namespace binhdan::gguf {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  std::string_view description;
};

#define BINHDAN_CONVERT "convert the folder of the checkpoint with: binhdan quantize FOLDER"
constexpr std::string_view kArchive = "a compressed file or an archive; unpack it";
constexpr std::string_view kOldGgml =
    "a GGML model of 2023, a format before GGUF; download a GGUF file of this model";
constexpr std::string_view kPickle = "a PyTorch checkpoint; " BINHDAN_CONVERT;
constexpr std::string_view kNumpy = "a NumPy file, not a model";
constexpr Signature kSignatures[] = {
    {0, "version https://git-lfs.github.com/spec/"sv,
     "a Git LFS pointer, which names the model but does not contain it; run: git lfs pull"sv},
    {0, "lmgg"sv, kOldGgml},  // the magic numbers are little-endian integers
    {0, "fmgg"sv, kOldGgml},
    {0, "tjgg"sv, kOldGgml},
    {0, "algg"sv, "a GGML LoRA adapter; merge it into its model, and convert that to GGUF"sv},
    {0, "\x80\x02"sv, kPickle},
    {0, "\x80\x03"sv, kPickle},
    {0, "\x80\x04"sv, kPickle},
    {0, "\x80\x05"sv, kPickle},
    {0, "PK\x03\x04"sv, "a ZIP archive; unpack it. If it is a PyTorch checkpoint, " BINHDAN_CONVERT},
    {0, "\x1f\x8b"sv, kArchive},            // gzip
    {0, "\x28\xb5\x2f\xfd"sv, kArchive},    // Zstandard
    {0, "\xfd\x37zXZ"sv, kArchive},         // xz
    {0, "BZh"sv, kArchive},                 // bzip2
    {0, "7z\xbc\xaf\x27\x1c"sv, kArchive},  // 7-Zip
    {0, "Rar!"sv, kArchive},                // RAR
    {257, "ustar"sv, kArchive},             // tar
    {0, "\x89HDF"sv, "an HDF5 file, such as a Keras model; download a GGUF file of this model"sv},
    {4, "TFL3"sv, "a LiteRT (TFLite) model; download a GGUF file of this model"sv},
    {0, "\x93NUMPY"sv, kNumpy},
};

// Without leading spaces and a byte order mark, in lower case.
std::string normalized(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

// A safetensors file is the length of a JSON header, and the header.
bool is_safetensors(std::span<const std::byte> bytes) {
  constexpr std::size_t kPrefix = sizeof(uint64_t);
  if (bytes.size() < kPrefix + 2) return false;
  const auto header = load<uint64_t>(bytes.data());
  return header >= 2 && header <= bytes.size() - kPrefix && bytes[kPrefix] == std::byte{'{'};
}

std::string describe_text(std::string_view start) {
  const std::string text = normalized(start);
  if (text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head"))
    return "an HTML page; the address of the download was that of a page. Download the file itself: binhdan "
           "pull";
  if (text.starts_with("<?xml"))
    return "an XML document, probably the error message of a server; download the file again";
  if (text.starts_with("{") || text.starts_with("["))
    return "a JSON document, not a model; if it belongs to a checkpoint, " BINHDAN_CONVERT;
  const bool printable = std::ranges::all_of(text, [](char c) {
    return static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\r' || c == '\t';
  });
  if (!text.empty() && printable && utf8_valid_prefix(text) + 4 > text.size())
    return "a text that starts with " + quote_name(start.substr(0, start.find_first_of("\r\n"))) +
           ", probably the message of a server; download the file again";
  return "of a format that is not known here; download a GGUF file of the model";
}

}  // namespace

std::string describe_foreign(std::span<const std::byte> bytes) {
  constexpr std::size_t kStart = 512;  // bytes of a file that are looked at
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (all.empty()) return "the file is empty; download or copy it again";
  const std::string_view start = all.substr(0, kStart);
  for (const Signature& signature : kSignatures)
    if (start.size() >= signature.offset && start.substr(signature.offset).starts_with(signature.bytes))
      return "it is " + std::string(signature.description);
  if (std::ranges::all_of(start, [](char c) { return c == 0; }))
    return "it starts with zeros, so its download was interrupted; download it again";
  if (is_safetensors(bytes)) return "it is a safetensors checkpoint; " BINHDAN_CONVERT;
  return "it is " + describe_text(start);
}

}  // namespace binhdan::gguf

// Recognises files of other formats in place of a GGUF file, for error messages.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace binhdan::gguf {

// What a file is, and what to do, by its first bytes: "it is a ZIP archive; unpack it". Always printable.
std::string describe_foreign(std::span<const std::byte> bytes);

}  // namespace binhdan::gguf

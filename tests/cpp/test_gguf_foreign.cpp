// Files of other formats in place of a model: the error says what they are and what to do.
#include <string>
#include <string_view>

#include "check.h"
#include "gguf/foreign.h"
#include "gguf/reader.h"

using namespace binhdan;
using namespace std::string_view_literals;

namespace {

std::string describe(std::string_view content) {
  return gguf::describe_foreign(std::as_bytes(std::span(content.data(), content.size())));
}

bool says(std::string_view content, std::string_view part) {
  return describe(content).find(part) != std::string::npos;
}

}  // namespace

TEST(names_what_was_downloaded_instead) {
  CHECK(says("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "run: git lfs pull"));
  CHECK(says("<!DOCTYPE html><html>", "an HTML page"));
  CHECK(says("\xef\xbb\xbf \r\n<HTML lang=vi>", "an HTML page"));
  CHECK(says("<?xml version=\"1.0\"?><Error>", "an XML document"));
  CHECK(says("{\"error\": \"x\"}", "a JSON document"));
  CHECK(says("Entry not found", "a text that starts with 'Entry not found'"));
  CHECK(says("Không có\nhai", "'Không có'"));
  CHECK(says("", "the file is empty"));
  CHECK(says(std::string(1000, '\0'), "its download was interrupted"));
}

TEST(names_other_formats) {
  CHECK(says("PK\x03\x04rest", "a ZIP archive; unpack it"));
  CHECK(says("\x1f\x8b\x08", "a compressed file or an archive"));
  CHECK(says(std::string(257, 'x') + "ustar", "a compressed file or an archive"));
  CHECK(says("\x80\x02}q", "a PyTorch checkpoint; convert the folder"));
  CHECK(says("tjgg\x03\0\0\0"sv, "a GGML model of 2023"));
  CHECK(says("lmgg", "a GGML model of 2023") && says("algg", "a GGML LoRA adapter"));
  CHECK(says("\x0c\0\0\0\0\0\0\0{\"a\":[1, 2]}"sv, "a safetensors checkpoint; convert the folder"));
  CHECK(says("\x0c\0\0\0TFL3"sv, "a LiteRT"));
}

TEST(other_bytes_are_of_an_unknown_format) {
  CHECK(says("\x01\x02\x03", "a format that is not known here"));
  CHECK(says("a\x01", "a format that is not known here"));
  CHECK(says("\xff\xfe\xfd\xfc\xfb", "a format that is not known here"));
  CHECK(says("\x63\0\0\0\0\0\0\0{}"sv, "a format that is not known here"));  // a header past the end
}

TEST(the_error_of_opening_says_it) {
  const std::string_view pointer = "version https://git-lfs.github.com/spec/v1";
  CHECK_FAILS(gguf::File::parse(std::as_bytes(std::span(pointer)), "m.gguf"),
              "m.gguf: header, byte 0: not a GGUF file: expected it to start with 'GGUF'; it is a Git LFS");
}

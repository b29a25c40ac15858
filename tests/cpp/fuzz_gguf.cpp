// libFuzzer: parsing any bytes returns a file or throws Error. Then reads all keys and tensors of the file.
//   cmake -S . -B build -DCMAKE_CXX_COMPILER=clang++ -DBINHDAN_TESTS=ON -DBINHDAN_FUZZ=ON
//     -DBINHDAN_SANITIZE=address,undefined
//   build/tests/cpp/fuzz_gguf -max_total_time=60 [CORPUS_FOLDER]
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "api/inspect.h"
#include "base/error.h"
#include "gguf/reader.h"

using namespace binhdan;

namespace {

// A typed read may throw Error, but no other exception.
template <typename F>
void allow_error(F read) {
  try {
    read();
  } catch (const Error&) {
  }
}

void touch_values(const gguf::File& file) {
  for (const std::string& key : file.keys()) {
    if (!file.find(key)) std::abort();
    allow_error([&] { file.get_uint(key); });
    allow_error([&] { file.get_float(key); });
    allow_error([&] { file.get_bool(key, false); });
    allow_error([&] { std::string(file.get_string(key)); });
    allow_error([&] {
      for (const auto text : file.get_strings(key)) std::string{text};
    });
    allow_error([&] { file.get_ints(key); });
    allow_error([&] { file.get_floats(key); });
  }
}

void touch_tensors(const gguf::File& file) {
  volatile unsigned sum = 0;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    if (file.find_tensor(tensor.name) != &tensor) std::abort();
    for (const std::byte byte : file.data(tensor)) sum = sum + std::to_integer<unsigned>(byte);
    if (tensor.rows() * tensor.cols() == 0) std::abort();
  }
  for (const gguf::UnsupportedTensor& tensor : file.unsupported_tensors())
    if (tensor.offset > file.bytes() || tensor.bytes > file.bytes() - tensor.offset) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  allow_error([&] {
    const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
    touch_values(file);
    touch_tensors(file);
    if (api::describe_file(file).empty()) std::abort();
  });
  return 0;
}

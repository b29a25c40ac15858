// The exception type of the core. The C ABI (api/c_api.h) converts it to a status and a message.
#pragma once
#include <exception>
#include <sstream>
#include <string>
#include <utility>

namespace binhdan {

// Values are those of binhdan_status in binhdan.h (checked there by static_assert).
enum class Code : int {
  invalid_argument = 1,
  invalid_handle = 2,
  not_found = 3,
  io = 4,
  bad_format = 5,
  unsupported = 6,
  out_of_memory = 7,
  too_large = 8,
  busy = 9,
  closed = 10,
  internal = 11,
  too_small = 12,
};

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Code code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  Code code_;
  std::string message_;
};

// Throws an Error with the joined pieces: fail(Code::bad_format, "key ", name, ": expected a string, got ",
// type).
template <typename... Pieces>
[[noreturn]] void fail(Code code, const Pieces&... pieces) {
  std::ostringstream text;
  (text << ... << pieces);
  throw Error(code, text.str());
}

}  // namespace binhdan

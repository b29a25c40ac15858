// The test framework of the C++ tests: TEST registers a test, CHECK reports a false condition and continues,
// CHECK_FAILS expects an Error.
#pragma once
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"

namespace check {
struct Case {
  const char* name;
  void (*run)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int failures = 0;
struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};
inline void report(const char* file, int line, const std::string& message) {
  ++failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, message.c_str());
}
}  // namespace check

#define TEST(name)                                           \
  static void name();                                        \
  static const check::Register register_##name(#name, name); \
  static void name()

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) check::report(__FILE__, __LINE__, "CHECK(" #condition ") failed"); \
  } while (0)

// The expression must throw a binhdan::Error whose message contains `text`.
#define CHECK_FAILS(expression, text)                                                                \
  do {                                                                                               \
    try {                                                                                            \
      (void)(expression);                                                                            \
      check::report(__FILE__, __LINE__, #expression ": expected an Error, got none");                \
    } catch (const binhdan::Error& error) {                                                          \
      if (std::string(error.what()).find(text) == std::string::npos)                                 \
        check::report(__FILE__, __LINE__,                                                            \
                      std::string("expected an error with \"") + text + "\", got: " + error.what()); \
    }                                                                                                \
  } while (0)

#ifndef CHECK_NO_MAIN
int main(int argc, char** argv) {
  int ran = 0;
  for (const check::Case& test : check::cases()) {
    if (argc > 1 && std::strcmp(argv[1], test.name) != 0) continue;
    const int before = check::failures;
    try {
      test.run();
    } catch (const std::exception& error) {
      check::report(test.name, 0, std::string("unexpected exception: ") + error.what());
    }
    std::printf("%s %s\n", check::failures == before ? "ok  " : "FAIL", test.name);
    ++ran;
  }
  std::printf("%d tests, %d failures\n", ran, check::failures);
  return check::failures != 0 || ran == 0;
}
#endif

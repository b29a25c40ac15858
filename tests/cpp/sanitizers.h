// Whether this program is built with a sanitizer of GCC or Clang.
#pragma once

#if defined(__has_feature)
#define BINHDAN_CLANG_HAS(feature) __has_feature(feature)
#else
#define BINHDAN_CLANG_HAS(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || BINHDAN_CLANG_HAS(address_sanitizer)
#define BINHDAN_ASAN 1
#else
#define BINHDAN_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || BINHDAN_CLANG_HAS(thread_sanitizer)
#define BINHDAN_TSAN 1
#else
#define BINHDAN_TSAN 0
#endif

// Shared by the files of the C ABI: converts exceptions to status values, and structs of other versions to
// this one.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "api/handles.h"
#include "base/cpu.h"
#include "base/error.h"
#include "binhdan.h"
#include "engine/engine.h"
#include "model/adapter.h"
#include "model/model.h"
#include "text/restore/model.h"
#include "text/restore/scorer.h"

namespace binhdan::api {

struct QueueHandle {
  std::shared_ptr<engine::EventQueue> events;
  std::weak_ptr<engine::Engine> engine;
};

struct Restorer {
  std::shared_ptr<const text::restore::NgramModel> ngrams;
  std::shared_ptr<const text::restore::Scorer> scorer;  // may be null
};

using Models = Handles<const model::Model, 1>;
using Engines = Handles<engine::Engine, 2>;
using Queues = Handles<QueueHandle, 3>;
using Restorers = Handles<const Restorer, 4>;
using Adapters = Handles<const model::Adapter, 5>;
// Never destroyed: a forked child and an exiting program must not join threads.
Models& models();
// Throws Error(invalid_argument), which names the argument, also for a model that was opened for its vocabulary alone.
std::shared_ptr<const model::Model> model_with_weights(binhdan_model handle, const char* argument);
Engines& engines();
Queues& queues();
Restorers& restorers();
Adapters& adapters();

void set_last_error(const char* message) noexcept;

// Runs `body` and converts an exception to a status and the thread's last error.
template <typename Body>
int32_t guarded(Body&& body) noexcept {
  try {
    body();
    return BINHDAN_OK;
  } catch (const Error& error) {
    set_last_error(error.what());
    return static_cast<int32_t>(error.code());
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return BINHDAN_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    set_last_error(error.what());
    return BINHDAN_INTERNAL;
  }
}

template <typename T>
T* require(T* pointer, const char* name) {
  if (!pointer) fail(Code::invalid_argument, name, ": expected a pointer, got NULL");
  return pointer;
}

// A constant of binhdan.h with its name, for messages.
struct Constant {
  int64_t value;
  const char* name;
};
#define BINHDAN_CONSTANT(name) (binhdan::api::Constant{name, #name})

inline std::ostream& operator<<(std::ostream& out, const Constant& constant) {
  return out << constant.name << " (" << constant.value << ")";
}

// Throws Error if `flags` has bits that are not `known`.
inline void check_flags(uint32_t flags, std::initializer_list<Constant> known) {
  uint32_t unknown = flags;
  std::ostringstream names;
  for (const Constant& flag : known) unknown &= ~static_cast<uint32_t>(flag.value);
  if (unknown == 0) return;
  for (const Constant& flag : known) names << (names.tellp() > 0 ? ", " : "") << flag;
  fail(Code::invalid_argument, "flags: expected 0 or a combination of ", names.str(), ", got ", flags);
}

// An array argument; NULL is allowed when it has no elements.
template <typename T>
std::span<const T> array(const T* data, size_t count, const char* name) {
  constexpr size_t kLimit = PTRDIFF_MAX / sizeof(T);
  if (count > kLimit)
    fail(Code::invalid_argument, name, ": expected at most ", kLimit, " elements, got ", count);
  if (count > 0) require(data, name);
  return {data, count};
}

inline std::string_view text(const char* data, size_t size, const char* name) {
  const auto bytes = array(data, size, name);
  return {bytes.data(), bytes.size()};
}

template <typename T>
uint32_t checked_struct_size(const T* given, const char* name) {
  if (given->struct_size < sizeof(uint32_t) || given->struct_size > 1 << 16)
    fail(Code::invalid_argument, name, ".struct_size: expected sizeof(", name, ") = ", sizeof(T), ", got ",
         given->struct_size);
  return std::min(given->struct_size, static_cast<uint32_t>(sizeof(T)));
}

// The caller's struct in this version's layout. Fields that the caller's version lacks have the value in
// `defaults`.
template <typename T>
T read_struct(const T* given, const char* name, T defaults) {
  if (given) std::memcpy(&defaults, given, checked_struct_size(given, name));
  return defaults;
}

// Writes the fields that the caller's version of the struct has.
template <typename T>
void write_struct(T* out, const char* name, T value) {
  value.struct_size = require(out, name)->struct_size;
  std::memcpy(out, &value, checked_struct_size(out, name));
}

// The caller's number of threads; 0 = default_threads().
inline int checked_threads(int32_t threads) {
  constexpr int32_t kMaxThreads = 1024;
  if (threads < 0 || threads > kMaxThreads)
    fail(Code::invalid_argument, "threads: expected 0 to ", kMaxThreads, ", got ", threads);
  return threads == 0 ? default_threads() : threads;
}

// Copies a result to the caller's buffer. Sets *size to the size of the result, also when the buffer is too
// small.
template <typename T>
void write_array(std::span<const T> result, T* out, size_t capacity, size_t* size) {
  *require(size, "size") = result.size();
  if (result.size() > capacity)
    fail(Code::too_small, "buffer: expected a capacity of at least ", result.size(), ", got ", capacity);
  if (!result.empty()) std::copy(result.begin(), result.end(), require(out, "buffer"));
}

}  // namespace binhdan::api

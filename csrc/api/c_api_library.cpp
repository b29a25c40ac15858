// The C ABI: library and machine.
#include <string>

#include "api/c_api.h"
#include "base/bandwidth.h"
#include "base/cpu.h"
#include "base/log.h"
#include "kernels/kernels.h"
#include "text/unicode.h"

namespace binhdan::api {
namespace {
thread_local std::string last_error;
}  // namespace

Models& models() {
  static Models& all = *new Models;
  return all;
}
std::shared_ptr<const model::Model> model_with_weights(binhdan_model handle, const char* argument) {
  auto model = models().get(handle, argument);
  if (!model->weights.loaded)
    fail(Code::invalid_argument, argument,
         ": expected a model that was opened with its weights; open it without ",
         BINHDAN_CONSTANT(BINHDAN_MODEL_VOCABULARY_ONLY));
  return model;
}
Engines& engines() {
  static Engines& all = *new Engines;
  return all;
}
Queues& queues() {
  static Queues& all = *new Queues;
  return all;
}
Adapters& adapters() {
  static Adapters& all = *new Adapters;
  return all;
}
Restorers& restorers() {
  static Restorers& all = *new Restorers;
  return all;
}

void set_last_error(const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();  // no memory for the message: the caller has the status
  }
}

static_assert(static_cast<int>(Code::invalid_argument) == BINHDAN_INVALID_ARGUMENT);
static_assert(static_cast<int>(Code::invalid_handle) == BINHDAN_INVALID_HANDLE);
static_assert(static_cast<int>(Code::not_found) == BINHDAN_NOT_FOUND);
static_assert(static_cast<int>(Code::io) == BINHDAN_IO);
static_assert(static_cast<int>(Code::bad_format) == BINHDAN_BAD_FORMAT);
static_assert(static_cast<int>(Code::unsupported) == BINHDAN_UNSUPPORTED);
static_assert(static_cast<int>(Code::out_of_memory) == BINHDAN_OUT_OF_MEMORY);
static_assert(static_cast<int>(Code::too_large) == BINHDAN_TOO_LARGE);
static_assert(static_cast<int>(Code::busy) == BINHDAN_BUSY);
static_assert(static_cast<int>(Code::closed) == BINHDAN_CLOSED);
static_assert(static_cast<int>(Code::internal) == BINHDAN_INTERNAL);
static_assert(static_cast<int>(Code::too_small) == BINHDAN_TOO_SMALL);

}  // namespace binhdan::api

using namespace binhdan;
using namespace binhdan::api;

const char* binhdan_version(void) {
  return BINHDAN_VERSION;
}

const char* binhdan_status_name(int32_t status) {
  static constexpr const char* kNames[] = {
      "OK",         "INVALID_ARGUMENT", "INVALID_HANDLE", "NOT_FOUND", "IO",
      "BAD_FORMAT", "UNSUPPORTED",      "OUT_OF_MEMORY",  "TOO_LARGE", "BUSY",
      "CLOSED",     "INTERNAL",         "TOO_SMALL"};
  return status >= 0 && status < static_cast<int32_t>(std::size(kNames)) ? kNames[status] : "UNKNOWN";
}

const char* binhdan_last_error(void) {
  return last_error.c_str();
}

void binhdan_set_log_sink(binhdan_log_sink sink, void* user) {
  set_log_sink(sink, user);
}

const char* binhdan_isas(void) {
  static const std::string names = [] {
    std::string joined;
    for (const KernelTable* table : compiled_tables()) {
      if (!joined.empty()) joined += ' ';
      joined += table->isa;
    }
    return joined;
  }();
  return names.c_str();
}

const char* binhdan_cpu_name(void) {
  static const std::string name = cpu_name();
  return name.c_str();
}

int32_t binhdan_usable_cores(void) {
  return usable_cores();
}

int32_t binhdan_measure_bandwidth(int32_t threads, double* bytes_per_second) {
  return guarded([&] {
    require(bytes_per_second, "bytes_per_second");
    *bytes_per_second = measure_bandwidth(checked_threads(threads));
  });
}

int32_t binhdan_normalize(const char* data, size_t size, char* out, size_t capacity, size_t* out_size) {
  return guarded([&] {
    const std::string result = text::nfc(api::text(data, size, "text"));
    write_array<char>(result, out, capacity, out_size);
  });
}

// The example of an accelerator (examples/accelerator, docs/porting.md): a table that calls a function of a
// shared library, which the tests build.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>

#include "check.h"
#include "embedded_model.h"
#include "model/forward.h"
#include "table.h"

using namespace binhdan;
using model::Chunk;
using model::Model;
using model::Outputs;

namespace {

// The library stays open until the program ends.
void* library() {
  static void* const handle = dlopen(BINHDAN_TEST_ACCELERATOR, RTLD_NOW | RTLD_LOCAL);
  CHECK(handle != nullptr);
  return handle;
}

accelerator_gemm load_gemm() {
  return reinterpret_cast<accelerator_gemm>(dlsym(library(), ACCELERATOR_GEMM));
}

int64_t calls() {
  return *static_cast<int64_t*>(dlsym(library(), "accelerator_calls"));
}

std::vector<float> logits(const Model& m, int threads, size_t chunk) {
  model::Forward forward(m, threads);
  model::SequenceState state(m.config);
  const auto tokens = some_tokens(40);
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t count = std::min(chunk, tokens.size() - begin);
    state.reserve(static_cast<int64_t>(count));
    const Chunk part{&state, std::span(tokens).subspan(begin, count), Outputs::last_logits, false};
    forward.run({&part, 1});
  }
  const auto values = forward.logits(0);
  return {values.begin(), values.end()};
}

}  // namespace

TEST(prompts_go_through_the_accelerator) {
  const Model m = Model::load(BINHDAN_TEST_MODEL, "", {.threads = 2, .table = &accelerator::kTable});
  const auto here = logits(m, 2, 40);
  accelerator::set_gemm(load_gemm());
  const int64_t before = calls();
  const auto there = logits(m, 2, 40);
  CHECK(calls() > before);
  CHECK(here == there);
  // Its activations are not rounded to int8, as those of the other tables.
  const auto oracle = logits(*embedded_model("scalar"), 2, 40);
  float difference = 0, largest = 0;
  for (size_t i = 0; i < oracle.size(); ++i) {
    difference = std::max(difference, std::abs(there[i] - oracle[i]));
    largest = std::max(largest, std::abs(oracle[i]));
  }
  CHECK(difference > 0 && difference < 0.1f * largest);
  // The bits of a row depend on the row and the weights alone.
  CHECK(there == logits(m, 1, 40));
  CHECK(there == logits(m, 3, 17));
  accelerator::set_gemm(nullptr);
}

TEST(a_failing_accelerator_is_replaced) {
  const Model m = Model::load(BINHDAN_TEST_MODEL, "", {.threads = 2, .table = &accelerator::kTable});
  const auto here = logits(m, 2, 40);
  accelerator::set_gemm([](const float*, int64_t, int64_t, const float*, int64_t, int64_t, float*, int64_t) {
    return int32_t{1};
  });
  CHECK(here == logits(m, 2, 40));
  accelerator::set_gemm(nullptr);
}

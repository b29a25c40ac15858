// The gated delta rule: both kernels of every table that this machine supports, compared with a recurrence in
// double, and its distribution over a team.
#include <algorithm>
#include <cmath>
#include <string>

#include "check.h"
#include "kernel_fixture.h"
#include "ops/delta_rule.h"

using namespace kernel_fixture;

namespace {

struct Shape {
  int64_t key_dim, value_dim;
};
constexpr Shape kShapes[] = {{128, 128}, {64, 96}, {72, 200}, {256, 64}, {64, 256}};

struct Gates {
  const char* name;
  float min_decay, max_decay, min_beta, max_beta;
};
constexpr Gates kGates[] = {{"usual", -2, 0, 0, 1},
                            {"no decay, beta 1", 0, 0, 1, 1},
                            {"decay near 0", -1e-5f, -1e-7f, 0, 1},
                            {"strong decay", -200, -50, 0, 1},
                            {"decay beyond the range of float32", -3e38f, -1e5f, 0, 1},
                            {"some strong decay", -1000, 1000, 0, 1},  // values above 0 become -0.01
                            {"beta 0", -1, 0, 0, 0}};

// Rows of one head. Strides are larger than the rows.
struct Input {
  int64_t rows, key_dim, value_dim;
  int64_t qk_stride, v_stride, gate_stride = 3;
  std::vector<float> q, k, v, decay, beta, state;

  Input(Random& random, int64_t rows, Shape shape, const Gates& gates)
      : rows(rows),
        key_dim(shape.key_dim),
        value_dim(shape.value_dim),
        qk_stride(key_dim + 5),
        v_stride(value_dim + 3),
        q(gauss_vector(random, rows * qk_stride)),
        k(gauss_vector(random, rows * qk_stride)),
        v(gauss_vector(random, rows * v_stride)),
        state(gauss_vector(random, key_dim * value_dim)) {
    const auto uniform = [&](float low, float high) {
      return low + (high - low) * static_cast<float>(random() / 4294967296.0);
    };
    for (int64_t i = 0; i < rows; ++i) {
      normalise(q.data() + i * qk_stride, 1.0 / std::sqrt(static_cast<double>(key_dim)));
      // Keys that resemble each other make the triangular system far from the identity.
      for (int64_t d = 0; d < key_dim; ++d) k[static_cast<size_t>(i * qk_stride + d)] += 0.5f;
      normalise(k.data() + i * qk_stride, 1.0);
      const float x = uniform(gates.min_decay, gates.max_decay), unused = 1e30f;
      decay.insert(decay.end(), {x > 0 ? -0.01f : x, unused, unused});
      beta.insert(beta.end(), {uniform(gates.min_beta, gates.max_beta), unused, unused});
    }
  }

 private:
  void normalise(float* x, double length) const {
    double squares = 0;
    for (int64_t d = 0; d < key_dim; ++d) squares += static_cast<double>(x[d]) * x[d];
    for (int64_t d = 0; d < key_dim; ++d) x[d] = static_cast<float>(x[d] * length / std::sqrt(squares));
  }
};

struct Output {
  std::vector<float> out, state;

  bool operator==(const Output& other) const {
    return same_bits(out.data(), other.out.data(), static_cast<int64_t>(out.size())) &&
           same_bits(state.data(), other.state.data(), static_cast<int64_t>(state.size()));
  }
};

using DeltaFunction = void (*)(const DeltaRuleArgs&);

// Computes all rows in calls of at most `max_rows`. out: (rows, value_dim).
Output compute(DeltaFunction kernel, const Input& x, int64_t max_rows) {
  Output y{std::vector<float>(static_cast<size_t>(x.rows * (x.value_dim + 1)), kUntouched), x.state};
  Buffer scratch(delta_scratch_size(x.key_dim, x.value_dim));
  std::memset(scratch.as(), 0xff, scratch.size());  // NaN: a kernel that reads what it has not written fails
  for (int64_t i = 0; i < x.rows; i += max_rows)
    kernel({.q = x.q.data() + i * x.qk_stride,
            .k = x.k.data() + i * x.qk_stride,
            .qk_stride = x.qk_stride,
            .v = x.v.data() + i * x.v_stride,
            .v_stride = x.v_stride,
            .decay = x.decay.data() + i * x.gate_stride,
            .beta = x.beta.data() + i * x.gate_stride,
            .gate_stride = x.gate_stride,
            .state = y.state.data(),
            .out = y.out.data() + i * (x.value_dim + 1),
            .out_stride = x.value_dim + 1,
            .rows = std::min(max_rows, x.rows - i),
            .key_dim = x.key_dim,
            .value_dim = x.value_dim,
            .scratch = scratch.as()});
  return y;
}

// The recurrence of DeltaRuleArgs in double.
struct Oracle {
  std::vector<double> out, state;

  explicit Oracle(const Input& x) : state(x.state.begin(), x.state.end()) {
    const auto multiply = [&](const float* vector) {
      std::vector<double> sums(static_cast<size_t>(x.value_dim));
      for (int64_t d = 0; d < x.key_dim; ++d)
        for (int64_t e = 0; e < x.value_dim; ++e)
          sums[static_cast<size_t>(e)] += vector[d] * state[static_cast<size_t>(d * x.value_dim + e)];
      return sums;
    };
    for (int64_t i = 0; i < x.rows; ++i) {
      const float *q = x.q.data() + i * x.qk_stride, *k = x.k.data() + i * x.qk_stride;
      const auto gate = static_cast<size_t>(i * x.gate_stride);
      const double factor = std::exp(static_cast<double>(x.decay[gate]));
      for (double& s : state) s *= factor;
      std::vector<double> delta = multiply(k);
      for (int64_t e = 0; e < x.value_dim; ++e) {
        double& value = delta[static_cast<size_t>(e)];
        value = x.beta[gate] * (x.v[static_cast<size_t>(i * x.v_stride + e)] - value);
      }
      for (int64_t d = 0; d < x.key_dim; ++d)
        for (int64_t e = 0; e < x.value_dim; ++e)
          state[static_cast<size_t>(d * x.value_dim + e)] += k[d] * delta[static_cast<size_t>(e)];
      const std::vector<double> sums = multiply(q);
      out.insert(out.end(), sums.begin(), sums.end());
      out.push_back(kUntouched);
    }
  }
};

// The largest difference relative to the largest magnitude.
double error(const std::vector<float>& got, const std::vector<double>& want) {
  double worst = 0, top = 1e-30;
  for (size_t i = 0; i < got.size(); ++i) {
    if (want[i] == kUntouched) {
      if (got[i] != kUntouched) return INFINITY;  // written outside of the row
      continue;
    }
    top = std::max(top, std::fabs(want[i]));
    const double difference = std::fabs(got[i] - want[i]);
    if (!(difference <= worst)) worst = difference;
  }
  return worst / top;
}

void expect(bool ok, const KernelTable& table, const std::string& what) {
  if (!ok) check::report(table.isa, 0, what);
}

std::string name(const Input& x, const char* kernel) {
  return std::string(kernel) + ": rows " + std::to_string(x.rows) + ", dimensions " +
         std::to_string(x.key_dim) + " and " + std::to_string(x.value_dim);
}

// Errors of up to 200 float32 updates, relative to the largest output or element of the state.
constexpr double kTolerance = 5e-6;

void expect_near(const KernelTable& table, const std::string& what, const Output& got, const Oracle& want) {
  for (const auto& [part, e] :
       {std::pair("out", error(got.out, want.out)), std::pair("state", error(got.state, want.state))})
    expect(e <= kTolerance, table, what + ", error of " + part + " " + std::to_string(e * 1e6) + "e-6");
}

}  // namespace

TEST(delta_rule_agrees_with_double) {
  Random random(1);
  for (const Shape shape : kShapes)
    for (const Gates& gates : kGates) {
      const Input x(random, 150, shape, gates);
      const Oracle want(x);
      for (const KernelTable* table : supported_tables()) {
        expect_near(*table, name(x, "delta_step, ") + gates.name, compute(table->delta_step, x, x.rows),
                    want);
        expect_near(*table, name(x, "delta_chunk, ") + gates.name,
                    compute(table->delta_chunk, x, kDeltaChunk), want);
      }
    }
}

TEST(delta_chunk_takes_any_number_of_rows) {
  Random random(2);
  for (int64_t rows = 1; rows <= kDeltaChunk; ++rows) {
    const Input x(random, rows, {72, 88}, kGates[0]);
    const Oracle want(x);
    for (const KernelTable* table : supported_tables())
      expect_near(*table, name(x, "delta_chunk"), compute(table->delta_chunk, x, kDeltaChunk), want);
  }
}

TEST(delta_step_does_not_depend_on_the_rows_of_a_call) {
  Random random(3);
  const Input x(random, 40, {72, 88}, kGates[0]);
  for (const KernelTable* table : supported_tables()) {
    const Output all = compute(table->delta_step, x, x.rows);
    for (const int64_t rows : {1, 7})
      expect(compute(table->delta_step, x, rows) == all, *table, "delta_step: rows of a call");
  }
}

TEST(row_of_delta_chunk_does_not_depend_on_later_rows) {
  Random random(4);
  const Input x(random, kDeltaChunk, {72, 88}, kGates[0]);
  for (int64_t rows = 1; rows < kDeltaChunk; ++rows) {
    Input first = x;
    first.rows = rows;
    Input changed = x;  // NaN in a later row
    changed.q[static_cast<size_t>(rows * x.qk_stride)] = NAN;
    changed.k[static_cast<size_t>(rows * x.qk_stride)] = NAN;
    changed.v[static_cast<size_t>(rows * x.v_stride)] = NAN;
    for (const KernelTable* table : supported_tables()) {
      const Output all = compute(table->delta_chunk, x, kDeltaChunk);
      for (const Input& other : {first, changed})
        expect(same_bits(compute(table->delta_chunk, other, kDeltaChunk).out.data(), all.out.data(),
                         rows * (x.value_dim + 1)),
               *table, "delta_chunk: first rows of " + std::to_string(rows));
    }
  }
}

TEST(delta_rule_passes_nan_on) {
  Random random(5);
  Input x(random, 20, {64, 64}, kGates[0]);
  x.v[static_cast<size_t>(4 * x.v_stride + 9)] = NAN;
  for (const KernelTable* table : supported_tables())
    for (const DeltaFunction kernel : {table->delta_step, table->delta_chunk}) {
      const Output y = compute(kernel, x, kDeltaChunk);
      for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t e = 0; e < x.value_dim; ++e)
          expect(std::isnan(y.out[static_cast<size_t>(i * (x.value_dim + 1) + e)]) == (i >= 4 && e == 9),
                 *table, "NaN of row 4, element 9, in row " + std::to_string(i));
    }
}

// ---- ops --------------------------------------------------------------------------------------------------

namespace {

// Two sequences in one batch: rows of the class decode, then rows of the class prefill.
struct Batch {
  static constexpr int64_t kDecodeRows = 3, kRows = 103, kPosition = 2 * kDeltaChunk;
  static constexpr ops::DeltaShape kShape{.heads = 6, .key_heads = 3, .key_dim = 64, .value_dim = 72};
  static constexpr int64_t kState = kShape.heads * kShape.key_dim * kShape.value_dim;
  std::vector<float> q, k, v, decay, beta, out, states;

  explicit Batch(Random& random)
      : q(gauss_vector(random, kRows * kShape.key_heads * kShape.key_dim)),
        k(gauss_vector(random, kRows * kShape.key_heads * kShape.key_dim)),
        v(gauss_vector(random, kRows * kShape.heads * kShape.value_dim)),
        decay(gauss_vector(random, kRows * kShape.heads)),
        beta(gauss_vector(random, kRows * kShape.heads)),
        out(v.size()),
        states(gauss_vector(random, 2 * kState)) {
    for (float& x : q) x *= 1.0f / 64;
    for (float& x : k) x *= 1.0f / 8;
    for (float& x : decay) x = -std::fabs(x);
    for (float& x : beta) x = std::min(1.0f, std::fabs(x));
  }
  ops::DeltaRows rows() {
    return {.q = q.data(),
            .k = k.data(),
            .qk_stride = kShape.key_heads * kShape.key_dim,
            .v = v.data(),
            .v_stride = kShape.heads * kShape.value_dim,
            .decay = decay.data(),
            .beta = beta.data(),
            .gate_stride = kShape.heads,
            .out = out.data(),
            .out_stride = kShape.heads * kShape.value_dim};
  }
  // Rows [begin, end) of the prefill.
  ops::DeltaRun prefill(int64_t begin, int64_t end) {
    return {kDecodeRows + begin, end - begin, kPosition + begin, NumericClass::prefill,
            states.data() + kState};
  }
  void run(const KernelTable& table, int threads, std::span<const ops::DeltaRun> runs) {
    ThreadPool pool(threads);
    std::vector<Buffer> scratch(static_cast<size_t>(threads));
    pool.run([&](Team& team) {
      ops::delta_rule(team, table, runs, kShape, rows(), scratch[static_cast<size_t>(team.rank())]);
    });
  }
  void run(const KernelTable& table, int threads) {
    const ops::DeltaRun runs[] = {{0, kDecodeRows, 77, NumericClass::decode, states.data()},
                                  prefill(0, kRows - kDecodeRows)};
    run(table, threads, runs);
  }
  bool operator==(const Batch& other) const {
    return same_bits(out.data(), other.out.data(), static_cast<int64_t>(out.size())) &&
           same_bits(states.data(), other.states.data(), static_cast<int64_t>(states.size()));
  }
};

}  // namespace

TEST(delta_rule_uses_the_head_and_the_kernel_of_each_row) {
  Random random(6);
  const Batch input(random);
  constexpr ops::DeltaShape shape = Batch::kShape;
  for (const KernelTable* table : supported_tables()) {
    Batch got = input;
    got.run(*table, 2);
    Batch want = input;
    Buffer scratch(delta_scratch_size(shape.key_dim, shape.value_dim));
    const ops::DeltaRows rows = want.rows();
    const auto compute_rows = [&](DeltaFunction kernel, int64_t row, int64_t count, int64_t h, float* state) {
      kernel({.q = rows.q + row * rows.qk_stride + h % 3 * shape.key_dim,
              .k = rows.k + row * rows.qk_stride + h % 3 * shape.key_dim,
              .qk_stride = rows.qk_stride,
              .v = rows.v + row * rows.v_stride + h * shape.value_dim,
              .v_stride = rows.v_stride,
              .decay = rows.decay + row * rows.gate_stride + h,
              .beta = rows.beta + row * rows.gate_stride + h,
              .gate_stride = rows.gate_stride,
              .state = state + h * shape.key_dim * shape.value_dim,
              .out = rows.out + row * rows.out_stride + h * shape.value_dim,
              .out_stride = rows.out_stride,
              .rows = count,
              .key_dim = shape.key_dim,
              .value_dim = shape.value_dim,
              .scratch = scratch.as()});
    };
    for (int64_t h = 0; h < shape.heads; ++h) {
      compute_rows(table->delta_step, 0, Batch::kDecodeRows, h, want.states.data());
      for (int64_t i = Batch::kDecodeRows; i < Batch::kRows; i += kDeltaChunk)
        compute_rows(table->delta_chunk, i, std::min<int64_t>(kDeltaChunk, Batch::kRows - i), h,
                     want.states.data() + Batch::kState);
    }
    expect(got == want, *table, "delta_rule: heads and kernels");
  }
}

TEST(delta_rule_does_not_depend_on_threads_or_on_cuts_at_chunks) {
  Random random(7);
  const Batch input(random);
  for (const KernelTable* table : supported_tables()) {
    Batch want = input;
    want.run(*table, 1);
    Batch more_threads = input;
    more_threads.run(*table, 3);
    expect(more_threads == want, *table, "delta_rule: threads");

    Batch cut = input;
    const ops::DeltaRun decode{0, Batch::kDecodeRows, 77, NumericClass::decode, cut.states.data()};
    cut.run(*table, 2, {&decode, 1});
    for (int64_t begin = 0; begin < 100; begin += 2 * kDeltaChunk) {
      const ops::DeltaRun run = cut.prefill(begin, std::min<int64_t>(begin + 2 * kDeltaChunk, 100));
      cut.run(*table, 2, {&run, 1});
    }
    expect(cut == want, *table, "delta_rule: cuts");
  }
}

// A prompt that continues at a position between two multiples of kDeltaChunk: the first chunk is short.
TEST(delta_rule_cuts_at_absolute_positions) {
  Random random(8);
  const Batch input(random);
  for (const KernelTable* table : supported_tables()) {
    Batch whole = input, cut = input;
    ops::DeltaRun run = whole.prefill(0, 100);
    run.position += 5;
    whole.run(*table, 2, {&run, 1});
    for (const auto& [begin, end] : {Range{0, kDeltaChunk - 5}, Range{kDeltaChunk - 5, 100}}) {
      ops::DeltaRun part = cut.prefill(begin, end);
      part.position += 5;
      cut.run(*table, 2, {&part, 1});
    }
    expect(cut == whole, *table, "delta_rule: short first chunk");
  }
}

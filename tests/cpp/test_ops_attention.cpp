// Attention of a batch over paged keys and values, compared with double: spans, splits, ranks and runs. The
// kernels have their own tests (test_kernels_attention.cpp).
#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "check.h"
#include "kernel_fixture.h"
#include "ops/attention.h"

using namespace kernel_fixture;

namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 16, kTokens = 1300;  // three splits

// Keys and values of a sequence, exact in float16, and its pages. Float (kTokens, kKvHeads, kDim).
struct Sequence {
  std::vector<float> k, v;
  Buffer memory;
  std::vector<std::byte*> pages;
};

const ops::KvLayer kLayer{KvType::f16, 0, kKvHeads, kDim};

std::vector<float> float16_vector(Random& random, int64_t n) {
  std::vector<float> x = gauss_vector(random, n);
  for (float& value : x) value = f16_to_f32(f32_to_f16(value));
  return x;
}

Sequence random_sequence(Random& random, const KernelTable& table) {
  constexpr int64_t kPages = (kTokens + kKvPageTokens - 1) / kKvPageTokens, kWidth = kKvHeads * kDim;
  Sequence s{float16_vector(random, kTokens * kWidth),
             float16_vector(random, kTokens * kWidth),
             Buffer(kPages * kLayer.bytes()),
             {}};
  s.memory.zero();
  for (int64_t i = 0; i < kPages; ++i)
    s.pages.push_back(s.memory.as() + static_cast<size_t>(i) * kLayer.bytes());
  for (int64_t j = 0; j < kTokens; ++j)
    for (int64_t head = 0; head < kKvHeads; ++head) {
      const ops::AttentionRow row{s.pages.data(), j, kTokens};
      ops::store_key(table, kLayer, head, row, s.k.data() + j * kWidth + head * kDim);
      ops::store_value(table, kLayer, head, row, s.v.data() + j * kWidth + head * kDim);
    }
  return s;
}

// Rows of one sequence at consecutive positions. They are rows of prompts if there are several.
struct Rows {
  Sequence* sequence;
  int64_t position, count;
};

struct Batch {
  std::vector<ops::AttentionRow> rows;
  std::vector<const Sequence*> sequences;  // of each row
  ops::ClassCounts classes{};
  std::vector<float> q;  // (rows, kHeads, kDim)

  Batch(Random& random, const std::vector<Rows>& parts, int64_t length) {
    for (const bool decode : {true, false})
      for (const Rows& part : parts)
        for (int64_t i = 0; i < part.count; ++i)
          if ((part.count == 1) == decode) {
            rows.push_back({part.sequence->pages.data(), part.position + i, length});
            sequences.push_back(part.sequence);
            classes.decode += decode;
          }
    classes.total = static_cast<int64_t>(rows.size());
    q = gauss_vector(random, classes.total * kHeads * kDim);
    for (float& x : q) x *= 0.5f;
  }
  Batch(const Batch& of, size_t row) : rows{of.rows[row]}, sequences{of.sequences[row]} {
    classes = {static_cast<int64_t>(row) < of.classes.decode, 1};
    q.assign(of.q.begin() + static_cast<int64_t>(row) * kHeads * kDim,
             of.q.begin() + static_cast<int64_t>(row + 1) * kHeads * kDim);
  }
};

std::vector<float> attend(const KernelTable& table, const Batch& batch, ops::AttentionSpan span,
                          float softcap, int threads) {
  std::vector<float> out(batch.q.size());
  ops::AttentionPlan plan;
  plan.prepare(table, KvType::f16, batch.rows, batch.classes, span, kHeads / kKvHeads, kDim, threads);
  ThreadPool pool(threads);
  pool.run([&](Team& team) {
    ops::attention(team, table, kLayer, plan, kHeads, softcap, batch.q.data(), kHeads * kDim, out.data());
  });
  return out;
}

bool sees(ops::AttentionSpan span, const ops::AttentionRow& row, int64_t j) {
  if (span.causal) return j <= row.position && (span.window == 0 || row.position - j < span.window);
  return j < row.length && (span.window == 0 || std::abs(row.position - j) <= span.window / 2);
}

void expect_near(const KernelTable& table, const Batch& batch, ops::AttentionSpan span, double softcap,
                 const std::vector<float>& got) {
  const double log2e = std::numbers::log2e, tolerance = std::string(table.isa) == "amx" ? 0.05 : 2e-5;
  for (size_t i = 0; i < batch.rows.size(); ++i)
    for (int64_t head = 0; head < kHeads; ++head) {
      const size_t at = (i * kHeads + static_cast<size_t>(head)) * kDim;
      const auto of = [&](const std::vector<float>& x, int64_t j) {
        return x.data() + (j * kKvHeads + head / (kHeads / kKvHeads)) * kDim;
      };
      std::vector<double> sums(kDim);
      double total = 0;
      for (int64_t j = 0; j < kTokens; ++j) {
        if (!sees(span, batch.rows[i], j)) continue;
        double score = 0;
        for (int64_t d = 0; d < kDim; ++d)
          score +=
              static_cast<double>(batch.q[at + static_cast<size_t>(d)]) * of(batch.sequences[i]->k, j)[d];
        if (softcap > 0) score = log2e * softcap * std::tanh(score / log2e / softcap);
        total += std::exp2(score);
        for (int64_t d = 0; d < kDim; ++d)
          sums[static_cast<size_t>(d)] += std::exp2(score) * of(batch.sequences[i]->v, j)[d];
      }
      for (size_t d = 0; d < kDim; ++d)
        if (!(std::fabs(got[at + d] - sums[d] / total) <= tolerance)) {
          check::report(table.isa, 0,
                        "window " + std::to_string(span.window) +
                            (span.causal ? ", causal" : ", both sides") + ", position " +
                            std::to_string(batch.rows[i].position) + ", head " + std::to_string(head));
          return;
        }
    }
}

constexpr ops::AttentionSpan kSpans[] = {
    {},
    {.window = 1},
    {.window = 100},
    {.window = 512},
    {.window = 5000},
    {.causal = false},
    {.window = 1, .causal = false},
    {.window = 256, .causal = false},
    {.window = 1000, .causal = false},
};

}  // namespace

TEST(attention_of_every_span_agrees_with_double) {
  Random random(1);
  for (const KernelTable* table : supported_tables()) {
    Sequence a = random_sequence(random, *table), b = random_sequence(random, *table);
    for (const ops::AttentionSpan span : kSpans) {
      const Batch batch(random, {{&a, 0, 1}, {&a, 1023, 1}, {&b, 480, 70}, {&a, 1090, 40}, {&b, 1250, 1}},
                        1290);
      const std::vector<float> one = attend(*table, batch, span, 0, 1);
      expect_near(*table, batch, span, 0, one);
      // The bits depend neither on the number of ranks nor on the other rows of the batch.
      CHECK(
          same_bits(one.data(), attend(*table, batch, span, 0, 3).data(), static_cast<int64_t>(one.size())));
      for (size_t row = 0; row < batch.rows.size(); row += 9)
        CHECK(same_bits(one.data() + row * kHeads * kDim,
                        attend(*table, Batch(batch, row), span, 0, 2).data(), kHeads * kDim));
    }
  }
}

TEST(attention_does_not_read_pages_before_the_window) {
  Random random(2);
  for (const KernelTable* table : supported_tables()) {
    Sequence sequence = random_sequence(random, *table);
    const std::vector<Rows> parts = {{&sequence, 1200, 20}, {&sequence, 1299, 1}};
    const Batch batch(random, parts, kTokens);
    for (const ops::AttentionSpan span :
         {ops::AttentionSpan{.window = 150}, {.window = 300, .causal = false}}) {
      const std::vector<float> want = attend(*table, batch, span, 0, 2);
      const std::vector<std::byte*> pages = sequence.pages;
      std::fill_n(sequence.pages.begin(), (1200 - 150) / kKvPageTokens, nullptr);
      const std::vector<float> got = attend(*table, batch, span, 0, 2);
      std::ranges::copy(pages, sequence.pages.begin());
      CHECK(same_bits(want.data(), got.data(), static_cast<int64_t>(want.size())));
    }
  }
}

TEST(softcap_is_in_units_of_the_model) {
  Random random(3);
  for (const KernelTable* table : supported_tables()) {
    Sequence sequence = random_sequence(random, *table);
    const Batch batch(random, {{&sequence, 200, 20}, {&sequence, 700, 1}}, kTokens);
    expect_near(*table, batch, {.window = 300}, 1.5, attend(*table, batch, {.window = 300}, 1.5f, 2));
  }
}

TEST(cost_of_a_window_does_not_grow_with_depth) {
  Random random(4);
  const KernelTable& table = kScalarTable;
  Sequence sequence = random_sequence(random, table);
  const auto cost = [&](int64_t position, int64_t window) {
    const Batch batch(random, {{&sequence, position, 1}}, kTokens);
    ops::AttentionPlan plan;
    plan.prepare(table, KvType::f16, batch.rows, batch.classes, {.window = window}, 2, kDim, 2);
    return plan.decode().cost;
  };
  CHECK(cost(1200, 100) == 100 && cost(99, 100) == 100 && cost(10, 100) == 11 && cost(1200, 0) == 1201);
}

TEST(query_scale_has_the_base_2_of_the_kernels) {
  CHECK(ops::query_scale(0.125) == static_cast<float>(std::numbers::log2e * 0.125));
}

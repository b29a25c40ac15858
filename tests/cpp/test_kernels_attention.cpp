// Attention over one split, both numeric classes of every table that runs here, against double; and the bits
// of a row, which depend on nothing but the row and what it sees.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "kernel_fixture.h"

using namespace kernel_fixture;

namespace {

constexpr uint16_t kNanF16 = 0x7e00;

// Keys and values of one KV head. What lies behind the last position is NaN.
class Pages {
 public:
  Pages(Random& random, int64_t tokens, int64_t dim)
      : dim_(dim), k_(gauss_vector(random, tokens * dim)), v_(gauss_vector(random, tokens * dim)) {
    const int64_t pages = (tokens + kKvPageTokens - 1) / kKvPageTokens;
    for (int64_t i = 0; i < pages; ++i) {
      buffers_.emplace_back(kv_page_size(dim));
      std::fill_n(buffers_.back().as<uint16_t>(), kv_page_size(dim) / 2, kNanF16);
      data_.push_back(buffers_.back().as<uint16_t>());
    }
    data_.push_back(nullptr);
    for (std::vector<float>* side : {&k_, &v_})
      for (float& x : *side) x = f16_to_f32(f32_to_f16(x));
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t d = 0; d < dim; ++d) {
        uint16_t* page = buffers_[static_cast<size_t>(t / kKvPageTokens)].as<uint16_t>();
        kv_page_key(page, t % kKvPageTokens)[d * kKvPageTokens] = f32_to_f16(k(t)[d]);
        kv_page_value(page, dim, t % kKvPageTokens)[d] = f32_to_f16(v(t)[d]);
      }
  }
  const float* k(int64_t token) const { return k_.data() + token * dim_; }
  const float* v(int64_t token) const { return v_.data() + token * dim_; }
  const uint16_t* const* data() const { return data_.data(); }
  int64_t dim() const { return dim_; }

 private:
  int64_t dim_;
  std::vector<float> k_, v_;
  std::vector<Buffer> buffers_;
  std::vector<const uint16_t*> data_;
};

// Queries of `rows` positions, of which the first sees `visible`, by `heads`.
struct Queries {
  int64_t rows, heads, visible;
  std::vector<float> q;
};

struct Output {
  std::vector<float> m, l, acc;
};

using Class = void (*)(const AttentionArgs&);

Output attend(const KernelTable& table, Class kernel, const Pages& pages, const Queries& queries,
              int64_t first, int64_t rows, int64_t first_head, int64_t heads) {
  const auto n = static_cast<size_t>(rows * heads);
  Output out{std::vector<float>(n), std::vector<float>(n),
             std::vector<float>(n * static_cast<size_t>(pages.dim()))};
  const auto scratch_size = table.attention.scratch_size;
  Buffer scratch(scratch_size ? scratch_size(rows, heads, pages.dim()) : 0);
  const int64_t stride = queries.heads * pages.dim();
  kernel({.q = queries.q.data() + first * stride + first_head * pages.dim(),
          .q_stride = stride,
          .rows = rows,
          .heads = heads,
          .head_dim = pages.dim(),
          .pages = pages.data(),
          .visible = queries.visible + first,
          .m = out.m.data(),
          .l = out.l.data(),
          .acc = out.acc.data(),
          .scratch = scratch.as<void>()});
  return out;
}

Output attend(const KernelTable& table, Class kernel, const Pages& pages, const Queries& queries) {
  return attend(table, kernel, pages, queries, 0, queries.rows, 0, queries.heads);
}

// For query r (row and head): its output in double, and how far rounding q, k, the weights and v to bfloat16
// (half an ulp: u = 2^-9) may move it: a score moves by 2 u sum |q k|, its weight by ln 2 times that, and
// weight and value by u each.
struct Oracle {
  std::vector<double> out, bf16_error;

  Oracle(const Pages& pages, const Queries& queries, int64_t r) {
    constexpr double u = 0x1p-9;
    const float* q = queries.q.data() + r * pages.dim();
    const int64_t seen = queries.visible + r / queries.heads;
    std::vector<double> scores, magnitudes;
    for (int64_t j = 0; j < seen; ++j) {
      double score = 0, magnitude = 0;
      for (int64_t d = 0; d < pages.dim(); ++d) {
        score += static_cast<double>(q[d]) * pages.k(j)[d];
        magnitude += std::fabs(static_cast<double>(q[d]) * pages.k(j)[d]);
      }
      scores.push_back(score);
      magnitudes.push_back(magnitude);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double s : scores) total += std::exp2(s - top);
    out.resize(static_cast<size_t>(pages.dim()));
    bf16_error.resize(out.size());
    double drift = 0;  // of the total, relative
    for (size_t j = 0; j < scores.size(); ++j) {
      const double p = std::exp2(scores[j] - top) / total, moved = 2 * u * 0.694 * magnitudes[j] + u;
      drift += p * moved;
      for (size_t d = 0; d < out.size(); ++d) {
        out[d] += p * pages.v(static_cast<int64_t>(j))[d];
        bf16_error[d] += p * std::fabs(pages.v(static_cast<int64_t>(j))[d]) * (moved + u);
      }
    }
    for (size_t d = 0; d < out.size(); ++d) bf16_error[d] += drift * std::fabs(out[d]) + 1e-4;
  }
};

Queries random_queries(Random& random, int64_t rows, int64_t heads, int64_t visible, int64_t dim) {
  Queries queries{rows, heads, visible, gauss_vector(random, rows * heads * dim)};
  for (float& x : queries.q) x *= static_cast<float>(1.5 / std::sqrt(static_cast<double>(dim)));
  return queries;
}

// Every table's classes; `bf16` tells which of them rounds to bfloat16.
template <typename F>
void for_each_class(F&& test) {
  for (const KernelTable* table : supported_tables()) {
    test(*table, table->attention.few, false);
    if (table->attention.many != table->attention.few)
      test(*table, table->attention.many, std::string(table->isa) == "amx");
  }
}

void expect(bool ok, const KernelTable& table, const std::string& what) {
  if (!ok) check::report(table.isa, 0, what);
}

std::string name(const Queries& queries, int64_t dim) {
  return "attention: rows " + std::to_string(queries.rows) + ", heads " + std::to_string(queries.heads) +
         ", visible " + std::to_string(queries.visible) + ", head_dim " + std::to_string(dim);
}

void expect_near(const KernelTable& table, bool bf16, const Pages& pages, const Queries& queries,
                 const Output& got, double f32_error = 2e-5) {
  for (int64_t r = 0; r < queries.rows * queries.heads; ++r) {
    const auto query = static_cast<size_t>(r);
    if (queries.visible + r / queries.heads <= 0) {
      expect(got.m[query] == -INFINITY && got.l[query] == 0, table, name(queries, pages.dim()) + ", unseen");
      continue;
    }
    const Oracle want(pages, queries, r);
    for (size_t d = 0; d < want.out.size(); ++d) {
      const double out = got.acc[query * want.out.size() + d] / static_cast<double>(got.l[query]);
      const double error = std::fabs(out - want.out[d]);
      if (!(error <= (bf16 ? want.bf16_error[d] : f32_error))) {
        expect(
            false, table,
            name(queries, pages.dim()) + ", query " + std::to_string(r) + ", error " + std::to_string(error));
        return;
      }
    }
  }
}

}  // namespace

TEST(attention_agrees_with_double) {
  Random random(1);
  for (const int64_t dim : {8, 24, 64, 80, 128})
    for (const int64_t visible : {1, 5, 63, 64, 65, 200, 511, 512})
      for (const int64_t heads : {1, 7}) {
        const Pages pages(random, visible, dim);
        const Queries queries = random_queries(random, 1, heads, visible, dim);
        for_each_class([&](const KernelTable& table, Class kernel, bool bf16) {
          expect_near(table, bf16, pages, queries, attend(table, kernel, pages, queries));
        });
      }
}

TEST(attention_of_many_rows_is_causal) {
  Random random(2);
  struct Shape {
    int64_t rows, heads, visible, dim;
  };
  for (const Shape s : {Shape{3, 1, 1, 64}, Shape{70, 2, 1, 64}, Shape{32, 7, 40, 64}, Shape{9, 4, 120, 128},
                        Shape{20, 3, -5, 40}, Shape{40, 5, 470, 64}}) {
    const Pages pages(random, std::min<int64_t>(s.visible + s.rows - 1, kSplitTokens), s.dim);
    const Queries queries = random_queries(random, s.rows, s.heads, s.visible, s.dim);
    for_each_class([&](const KernelTable& table, Class kernel, bool bf16) {
      expect_near(table, bf16, pages, queries, attend(table, kernel, pages, queries));
    });
  }
}

// Alone, or with other rows and heads in the same call: the same bits.
TEST(attention_of_a_query_does_not_depend_on_its_company) {
  Random random(3);
  for (const int64_t visible : {-3, 50, 500}) {
    const int64_t rows = 37, heads = 3, dim = 64;
    const Pages pages(random, std::min<int64_t>(visible + rows - 1, kSplitTokens), dim);
    const Queries queries = random_queries(random, rows, heads, visible, dim);
    for_each_class([&](const KernelTable& table, Class kernel, bool) {
      const Output all = attend(table, kernel, pages, queries);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t h = 0; h < heads; ++h) {
          const Output one = attend(table, kernel, pages, queries, i, 1, h, 1);
          const int64_t r = i * heads + h;
          expect(same_bits(one.m.data(), all.m.data() + r, 1) &&
                     same_bits(one.l.data(), all.l.data() + r, 1) &&
                     same_bits(one.acc.data(), all.acc.data() + r * dim, dim),
                 table, name(queries, dim) + ", query " + std::to_string(r));
        }
    });
  }
}

// Scores far apart, in an order that moves the greatest from page to page.
TEST(attention_survives_great_scores) {
  Random random(4);
  const int64_t dim = 64, tokens = 300;
  Pages pages(random, tokens, dim);
  Queries queries = random_queries(random, 2, 3, tokens - 1, dim);
  for (float& x : queries.q) x *= 100;
  for_each_class([&](const KernelTable& table, Class kernel, bool bf16) {
    const Output got = attend(table, kernel, pages, queries);
    for (float l : got.l) expect(std::isfinite(l) && l > 0, table, "attention: sum of weights");
    if (!bf16) expect_near(table, false, pages, queries, got, 1e-3);  // scores of several hundred
  });
}

TEST(a_fault_in_what_a_row_sees_is_seen_in_its_output) {
  Random random(5);
  const Pages pages(random, 70, 64);
  Queries queries = random_queries(random, 2, 2, 69, 64);
  queries.q[64] = std::numeric_limits<float>::quiet_NaN();  // row 0, head 1
  for_each_class([&](const KernelTable& table, Class kernel, bool) {
    const Output got = attend(table, kernel, pages, queries);
    for (size_t r = 0; r < 4; ++r)
      expect(std::isnan(got.acc[r * 64 + 5] / got.l[r]) == (r == 1), table,
             "NaN of query " + std::to_string(r));
  });
}

// Attention over one split, with both types of KV pages and both numeric classes of every table that this
// machine supports, compared with double. The bits of a row must depend only on the row and the positions
// that it attends to.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "kernel_fixture.h"
#include "kernels/kv_q8.h"

using namespace kernel_fixture;

namespace {

constexpr KvType kTypes[] = {KvType::f16, KvType::q8_0};

const AttentionKernel& kernels(const KernelTable& table, KvType type) {
  return table.attention[static_cast<size_t>(type)];
}

// Keys and values of one KV head. Pages of this type store them exactly.
struct Kv {
  KvType type;
  int64_t tokens, dim;
  std::vector<float> k, v;
};

// Changes x to a float16 scale times integers, one of them 127 or -127, so that store_key chooses this scale.
void make_block_exact(Random& random, float* x, int64_t n) {
  const float scale = f16_to_f32(f32_to_f16(0.02f + std::fabs(gauss(random)) * 0.01f));
  for (int64_t i = 0; i < n; ++i) x[i] = scale * std::round(std::clamp(x[i] * 40, -127.0f, 127.0f));
  x[random() % static_cast<uint32_t>(n)] = random() % 2 ? scale * 127 : scale * -127;
}

Kv random_kv(Random& random, KvType type, int64_t tokens, int64_t dim) {
  Kv kv{type, tokens, dim, gauss_vector(random, tokens * dim), gauss_vector(random, tokens * dim)};
  for (std::vector<float>* side : {&kv.k, &kv.v}) {
    if (type == KvType::f16)
      for (float& x : *side) x = f16_to_f32(f32_to_f16(x));
    else
      for (int64_t token = 0; token < tokens; ++token)
        for (int64_t d = 0; d < dim; d += kKvBlock)
          make_block_exact(random, side->data() + token * dim + d, std::min(kKvBlock, dim - d));
  }
  return kv;
}

// Fills unused positions with values much larger than all others: a kernel that reads them fails.
void fill_with_14(KvType type, Buffer& page, int64_t dim) {
  const size_t quants = type == KvType::q8_0 ? static_cast<size_t>(kv_width(dim)) * 2 * kKvPageTokens : 0;
  std::fill_n(page.as<int8_t>(), quants, int8_t{100});
  std::fill_n(reinterpret_cast<uint16_t*>(page.as() + quants), (kv_page_size(type, dim) - quants) / 2,
              f32_to_f16(type == KvType::q8_0 ? 0.14f : 14.0f));
}

// Keys and values in the pages of a table. Pages before position `begin` are nullptr.
class Pages {
 public:
  Pages(const KernelTable& table, const Kv& kv, int64_t begin = 0) {
    const int64_t first_page = std::max<int64_t>(0, begin) / kKvPageTokens;
    data_.resize(static_cast<size_t>(first_page));
    for (int64_t token = first_page * kKvPageTokens; token < kv.tokens; ++token) {
      if (token % kKvPageTokens == 0) {
        buffers_.emplace_back(kv_page_size(kv.type, kv.dim));
        fill_with_14(kv.type, buffers_.back(), kv.dim);
        data_.push_back(buffers_.back().as());
      }
      const AttentionKernel& kernel = kernels(table, kv.type);
      void* page = buffers_.back().as();
      kernel.store_key(page, kv.dim, token % kKvPageTokens, kv.k.data() + token * kv.dim);
      kernel.store_value(page, kv.dim, token % kKvPageTokens, kv.v.data() + token * kv.dim);
    }
    data_.resize(kSplitPages + 1);
  }
  const void* const* data() const { return data_.data(); }

 private:
  std::vector<Buffer> buffers_;
  std::vector<const void*> data_;
};

// Which positions rows see, as in AttentionArgs.
struct Span {
  int64_t begin = -kUnbounded, end = kUnbounded, limit = kUnbounded;

  int64_t first(int64_t row) const { return std::max<int64_t>(0, begin + row); }
  int64_t last(int64_t row) const { return std::min({end + row, limit, int64_t{kSplitTokens}}); }
};

Span causal(int64_t visible) {
  return {.end = visible};
}

// Queries of `rows` positions with `heads` heads.
struct Queries {
  int64_t rows, heads;
  Span span;
  std::vector<float> q;
  float softcap = 0;

  int64_t tokens() const { return std::max<int64_t>(0, span.last(rows - 1)); }  // that some row sees
};

struct Output {
  std::vector<float> m, l, acc;
};

using AttentionFunction = void (*)(const AttentionArgs&);

Output attend(const KernelTable& table, AttentionFunction kernel, const Kv& kv, const Pages& pages,
              const Queries& queries, int64_t first, int64_t rows, int64_t first_head, int64_t heads) {
  const auto n = static_cast<size_t>(rows * heads);
  Output out{std::vector<float>(n), std::vector<float>(n),
             std::vector<float>(n * static_cast<size_t>(kv.dim))};
  const auto scratch_size = kernels(table, kv.type).scratch_size;
  Buffer scratch(scratch_size ? scratch_size(rows, heads, kv.dim) : 0);
  const int64_t stride = queries.heads * kv.dim;
  kernel({.q = queries.q.data() + first * stride + first_head * kv.dim,
          .q_stride = stride,
          .rows = rows,
          .heads = heads,
          .head_dim = kv.dim,
          .pages = pages.data(),
          .begin = queries.span.begin + first,
          .end = queries.span.end + first,
          .limit = queries.span.limit,
          .softcap = queries.softcap,
          .m = out.m.data(),
          .l = out.l.data(),
          .acc = out.acc.data(),
          .scratch = scratch.as<void>()});
  return out;
}

Output attend(const KernelTable& table, AttentionFunction kernel, const Kv& kv, const Queries& queries) {
  const Pages pages(table, kv, queries.span.begin);
  return attend(table, kernel, kv, pages, queries, 0, queries.rows, 0, queries.heads);
}

// The output of query r (row and head) in double, and the sum of |weight * value|. `bf16`: queries, keys and
// values are first rounded to bfloat16.
struct Oracle {
  std::vector<double> out, magnitude;

  Oracle(const Kv& kv, const Queries& queries, int64_t r, bool bf16) {
    const auto value = [&](const std::vector<float>& x, int64_t row, int64_t d) {
      const float exact = x[static_cast<size_t>(row * kv.dim + d)];
      return static_cast<double>(bf16 ? bf16_to_f32(f32_to_bf16(exact)) : exact);
    };
    const double cap = queries.softcap;
    const int64_t first = queries.span.first(r / queries.heads), last = queries.span.last(r / queries.heads);
    std::vector<double> scores;
    for (int64_t j = first; j < last; ++j) {
      double score = 0;
      for (int64_t d = 0; d < kv.dim; ++d) score += value(queries.q, r, d) * value(kv.k, j, d);
      scores.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double s : scores) total += std::exp2(s - top);
    for (int64_t d = 0; d < kv.dim; ++d) {
      double sum = 0, sizes = 0;
      for (size_t j = 0; j < scores.size(); ++j) {
        const double term =
            std::exp2(scores[j] - top) / total * value(kv.v, first + static_cast<int64_t>(j), d);
        sum += term;
        sizes += std::fabs(term);
      }
      out.push_back(sum);
      magnitude.push_back(sizes);
    }
  }
};

Queries random_queries(Random& random, int64_t rows, int64_t heads, Span span, int64_t dim) {
  Queries queries{rows, heads, span, gauss_vector(random, rows * heads * dim)};
  for (float& x : queries.q) x *= static_cast<float>(1.5 / std::sqrt(static_cast<double>(dim)));
  return queries;
}

// Calls `test` for both numeric classes of every table; `bf16`: the table computes in bfloat16.
template <typename F>
void for_each_class(KvType type, F&& test) {
  for (const KernelTable* table : supported_tables()) {
    const bool bf16 = std::string(table->isa) == "amx";
    const AttentionKernel& kernel = kernels(*table, type);
    test(*table, kernel.decode, bf16);
    if (kernel.prefill != kernel.decode) test(*table, kernel.prefill, bf16);
  }
}

void expect(bool ok, const KernelTable& table, const std::string& what) {
  if (!ok) check::report(table.isa, 0, what);
}

std::string name(const Queries& queries, const Kv& kv) {
  return (kv.type == KvType::f16 ? "attention: rows " : "attention q8_0: rows ") +
         std::to_string(queries.rows) + ", heads " + std::to_string(queries.heads) + ", first row sees " +
         std::to_string(queries.span.first(0)) + " to " + std::to_string(queries.span.last(0)) +
         ", head_dim " + std::to_string(kv.dim);
}

// bf16: each weight has a relative error of 2^-8 + 1e-4 (rounding, and 2^x), in the numerator and the
// denominator. `slack` is for large scores, which have larger rounding errors.
void expect_near(const KernelTable& table, bool bf16, const Kv& kv, const Queries& queries, const Output& got,
                 double slack = 2e-5) {
  for (int64_t r = 0; r < queries.rows * queries.heads; ++r) {
    const auto query = static_cast<size_t>(r);
    if (queries.span.first(r / queries.heads) >= queries.span.last(r / queries.heads)) {
      expect(got.m[query] == -INFINITY && got.l[query] == 0, table,
             name(queries, kv) + ", no visible position");
      continue;
    }
    const Oracle want(kv, queries, r, bf16);
    for (size_t d = 0; d < want.out.size(); ++d) {
      const double out = got.acc[query * want.out.size() + d] / static_cast<double>(got.l[query]);
      const double error = std::fabs(out - want.out[d]);
      if (!(error <= slack + (bf16 ? 2 * (0x1p-8 + 1e-4) * want.magnitude[d] : 0))) {
        expect(false, table,
               name(queries, kv) + ", query " + std::to_string(r) + ", error " + std::to_string(error));
        return;
      }
    }
  }
}

}  // namespace

TEST(attention_agrees_with_double) {
  Random random(1);
  for (const KvType type : kTypes)
    for (const int64_t dim : {8, 24, 64, 80, 128, 256, 512})
      for (const int64_t visible : {1, 5, 63, 64, 65, 200, 511, 512})
        for (const int64_t heads : {1, 7, 16}) {
          if (dim * heads > 1000 && visible > 65) continue;  // slow
          const Kv kv = random_kv(random, type, visible, dim);
          const Queries queries = random_queries(random, 1, heads, causal(visible), dim);
          for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool bf16) {
            expect_near(table, bf16, kv, queries, attend(table, kernel, kv, queries));
          });
        }
}

TEST(attention_of_several_rows_is_causal) {
  Random random(2);
  struct Shape {
    int64_t rows, heads, visible, dim;
  };
  for (const KvType type : kTypes)
    for (const Shape s : {Shape{3, 1, 1, 64}, Shape{70, 2, 1, 64}, Shape{32, 7, 40, 64},
                          Shape{9, 4, 120, 128}, Shape{20, 3, -5, 40}, Shape{40, 5, 470, 64}}) {
      const Queries queries = random_queries(random, s.rows, s.heads, causal(s.visible), s.dim);
      const Kv kv = random_kv(random, type, queries.tokens(), s.dim);
      for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool bf16) {
        expect_near(table, bf16, kv, queries, attend(table, kernel, kv, queries));
      });
    }
}

// Windows begin and end within pages and at their edges, before and after the split; rows see nothing at either
// end; windows are wider than the split, or one position.
constexpr Span kWindows[] = {
    {.begin = -100, .end = 1},
    {.begin = 3, .end = 7},
    {.begin = 63, .end = 64},
    {.begin = 64, .end = 128},
    {.begin = 100, .end = 301},
    {.begin = 500, .end = 530},
    {.begin = -40, .end = -20},
    {.begin = -30, .end = 31, .limit = 75},
    {.begin = 200, .end = 261, .limit = 220},
    {.limit = 130},
    {.begin = 60, .end = 600, .limit = 512},
    {.begin = 600, .end = 700},
    {.begin = -700, .end = 700, .limit = -5},
};

TEST(attention_of_windows_agrees_with_double) {
  Random random(8);
  struct Shape {
    int64_t rows, heads, dim;
  };
  for (const KvType type : kTypes)
    for (const Span span : kWindows)
      for (const Shape s : {Shape{1, 7, 64}, Shape{33, 2, 64}, Shape{9, 4, 24}, Shape{3, 16, 256}}) {
        const Queries queries = random_queries(random, s.rows, s.heads, span, s.dim);
        const Kv kv = random_kv(random, type, queries.tokens(), s.dim);
        for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool bf16) {
          expect_near(table, bf16, kv, queries, attend(table, kernel, kv, queries));
        });
      }
}

TEST(attention_softcap_agrees_with_double) {
  Random random(9);
  for (const KvType type : kTypes)
    for (const float softcap : {2.0f, 72.0f})
      for (const Span span : {causal(150), Span{.begin = 20, .end = 101}}) {
        Queries queries = random_queries(random, 20, 3, span, 64);
        queries.softcap = softcap;
        for (float& x : queries.q) x *= 3;
        const Kv kv = random_kv(random, type, queries.tokens(), 64);
        for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool bf16) {
          expect_near(table, bf16, kv, queries, attend(table, kernel, kv, queries));
        });
      }
}

TEST(attention_does_not_depend_on_positions_that_no_row_sees) {
  Random random(10);
  for (const KvType type : kTypes)
    for (const Span span : {Span{.begin = 70, .end = 75}, Span{.begin = 10, .end = 200, .limit = 140}}) {
      const int64_t rows = 5, heads = 3, dim = 64;
      const Queries queries = random_queries(random, rows, heads, span, dim);
      const Kv kv = random_kv(random, type, kSplitTokens, dim);
      Kv other = random_kv(random, type, kSplitTokens, dim);
      for (int64_t i = span.first(0) * dim; i < span.last(rows - 1) * dim; ++i) {
        const auto at = static_cast<size_t>(i);
        other.k[at] = kv.k[at];
        other.v[at] = kv.v[at];
      }
      for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool) {
        const Output a = attend(table, kernel, kv, queries), b = attend(table, kernel, other, queries);
        expect(same_bits(a.m.data(), b.m.data(), rows * heads) &&
                   same_bits(a.l.data(), b.l.data(), rows * heads) &&
                   same_bits(a.acc.data(), b.acc.data(), rows * heads * dim),
               table, name(queries, kv) + ", other positions changed");
      });
    }
}

TEST(attention_of_a_query_does_not_depend_on_other_queries) {
  Random random(3);
  std::vector<Span> spans = {causal(-3), causal(50), causal(500)};
  spans.insert(spans.end(), std::begin(kWindows), std::end(kWindows));
  for (const KvType type : kTypes)
    for (const Span span : spans) {
      const int64_t rows = 37, heads = 3, dim = 64;
      Queries queries = random_queries(random, rows, heads, span, dim);
      queries.softcap = span.begin == 3 ? 5.0f : 0.0f;
      const Kv kv = random_kv(random, type, queries.tokens(), dim);
      for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool) {
        const Pages pages(table, kv, span.begin);
        const Output all = attend(table, kernel, kv, pages, queries, 0, rows, 0, heads);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t h = 0; h < heads; ++h) {
            const Output one = attend(table, kernel, kv, pages, queries, i, 1, h, 1);
            const int64_t r = i * heads + h;
            expect(same_bits(one.m.data(), all.m.data() + r, 1) &&
                       same_bits(one.l.data(), all.l.data() + r, 1) &&
                       same_bits(one.acc.data(), all.acc.data() + r * dim, dim),
                   table, name(queries, kv) + ", query " + std::to_string(r));
          }
      });
    }
}

// Scores differ widely, and the maximum changes from page to page.
TEST(attention_handles_large_scores) {
  Random random(4);
  for (const KvType type : kTypes) {
    const int64_t dim = 64, tokens = 300;
    const Kv kv = random_kv(random, type, tokens, dim);
    Queries queries = random_queries(random, 2, 3, causal(tokens - 1), dim);
    for (float& x : queries.q) x *= 100;
    for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool bf16) {
      const Output got = attend(table, kernel, kv, queries);
      for (float l : got.l) expect(std::isfinite(l) && l > 0, table, "attention: sum of weights");
      expect_near(table, bf16, kv, queries, got, 1e-3);  // scores of several hundred
    });
  }
}

TEST(nan_of_a_visible_position_reaches_the_output) {
  Random random(5);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const KvType type : kTypes) {
    Kv kv = random_kv(random, type, 70, 64);
    Queries queries = random_queries(random, 2, 2, causal(69), 64);
    queries.q[64] = nan;  // row 0, head 1
    for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool) {
      const Output got = attend(table, kernel, kv, queries);
      for (size_t r = 0; r < 4; ++r)
        expect(std::isnan(got.acc[r * 64 + 5] / got.l[r]) == (r == 1), table,
               "NaN of query " + std::to_string(r));
    });
    queries.q[64] = 0;
    kv.v[3 * 64 + 5] = nan;
    for_each_class(type, [&](const KernelTable& table, AttentionFunction kernel, bool) {
      const Output got = attend(table, kernel, kv, queries);
      for (size_t r = 0; r < 4; ++r)
        expect(std::isnan(got.acc[r * 64 + 5]), table, "NaN of a value, query " + std::to_string(r));
    });
  }
}

// ---- pages of Q8_0 ----------------------------------------------------------------------------------------

TEST(q8_0_errors_are_at_most_half_of_the_scale) {
  Random random(6);
  const KernelTable& table = kScalarTable;
  const AttentionKernel& kernel = kernels(table, KvType::q8_0);
  for (const int64_t dim : {8, 24, 64, 80})
    for (const float size : {0.0f, 1e-8f, 1e-5f, 0.003f, 1.0f, 300.0f, 1e6f}) {
      Buffer buffer(kv_page_size(KvType::q8_0, dim));
      buffer.zero();
      const Q8Page<int8_t, uint16_t> page(buffer.as<int8_t>(), dim);
      std::vector<float> x = gauss_vector(random, dim);
      for (float& value : x) value *= size;
      const int64_t token = 17;
      kernel.store_key(buffer.as(), dim, token, x.data());
      kernel.store_value(buffer.as(), dim, token, x.data());
      for (int64_t d = 0; d < page.width; ++d) {
        const int64_t block = d / kKvBlock * kKvPageTokens + token, begin = d / kKvBlock * kKvBlock;
        const uint16_t scale = page.key_scales[block];
        float top = 0;
        for (int64_t i = begin; i < std::min(begin + kKvBlock, dim); ++i)
          top = std::max(top, std::fabs(x[static_cast<size_t>(i)]));
        CHECK(f16_to_f32(scale) * 127 >=
              top * (1 - 1e-7f));  // the smallest float16 scale that covers the block
        CHECK(top == 0 ? scale == 0 : f16_to_f32(static_cast<uint16_t>(scale - 1)) * 127 < top);
        const int8_t quant = page.keys[d * kKvPageTokens + token];
        const float exact = d < dim ? x[static_cast<size_t>(d)] : 0.0f, near = f16_to_f32(scale) * quant;
        CHECK(std::fabs(near - exact) <= f16_to_f32(scale) * 0.5f * (1 + 1e-5f));
        CHECK(page.values[token * page.width + d] == quant && page.value_scales[block] == scale);
      }
    }
}

// The bits of a position depend neither on other positions of the page nor on the table.
TEST(q8_0_positions_are_independent) {
  Random random(7);
  const int64_t dim = 80;
  const size_t bytes = kv_page_size(KvType::q8_0, dim);
  const std::vector<float> x = gauss_vector(random, 2 * kKvPageTokens * dim);
  const auto page_of = [&](const KernelTable& table, bool backwards) {
    Buffer page(bytes);
    page.zero();
    for (int64_t i = 0; i < kKvPageTokens; ++i) {
      const int64_t token = backwards ? kKvPageTokens - 1 - i : i;
      kernels(table, KvType::q8_0).store_key(page.as(), dim, token, x.data() + 2 * token * dim);
      kernels(table, KvType::q8_0).store_value(page.as(), dim, token, x.data() + (2 * token + 1) * dim);
    }
    return page;
  };
  const Buffer want = page_of(kScalarTable, false);
  for (const KernelTable* table : supported_tables())
    expect(std::memcmp(want.as(), page_of(*table, true).as(), bytes) == 0, *table, "page of q8_0");
}

TEST(q8_0_blocks_with_non_finite_values_decode_to_non_finite) {
  const int64_t dim = 64;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float fault :
       {inf, -inf, nan, 3e38f, 8.4e6f}) {  // the last two exceed the largest float16 * 127
    Buffer buffer(kv_page_size(KvType::q8_0, dim));
    buffer.zero();
    std::vector<float> x(dim, 1.0f);
    x[40] = fault;
    kernels(kScalarTable, KvType::q8_0).store_key(buffer.as(), dim, 0, x.data());
    const Q8Page<int8_t, uint16_t> page(buffer.as<int8_t>(), dim);
    CHECK(f16_to_f32(page.key_scales[0]) * 127 >= 1);
    CHECK(!std::isfinite(f16_to_f32(page.key_scales[kKvPageTokens])));
    CHECK(page.keys[40 * kKvPageTokens] == 0 && page.keys[0] == 127);
  }
}

TEST(q8_0_pages_are_34_64ths_of_f16_pages) {
  for (const int64_t dim : {8, 24, 64, 80, 128})
    CHECK(kv_page_size(KvType::q8_0, dim) * 64 == kv_page_size(KvType::f16, dim) * 34);
}

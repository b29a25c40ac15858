// binhdan_tools.h: matrices and kernels.
#include <array>
#include <numbers>

#include "api/tools.h"
#include "base/buffer.h"

using namespace binhdan;
using namespace binhdan::api;
using namespace binhdan::tools;

namespace {

const MatmulKernel& kernel_of(const KernelTable& table, const DTypeInfo& info) {
  return table.matmul[static_cast<size_t>(info.type)];
}

// Bytes of a matrix in file blocks. A packed matrix is at most one row of panels larger.
uint64_t file_size(const DTypeInfo& info, int64_t rows, int64_t cols) {
  expect_positive("rows", rows);
  return checked_mul(blocks_size(info, cols), static_cast<uint64_t>(rows), "bytes of weights");
}

size_t packed_size(const MatmulKernel& kernel, const DTypeInfo& info, int64_t rows, int64_t cols) {
  const uint64_t file = file_size(info, rows, cols);
  return kernel.packed_size ? kernel.packed_size(rows, cols) : file;
}

void pack_into(std::byte* packed, const MatmulKernel& kernel, std::span<const std::byte> file, int64_t rows,
               int64_t cols) {
  if (kernel.pack)
    kernel.pack(packed, file.data(), rows, cols, 0, rows);
  else
    std::ranges::copy(file, packed);
}

// Converts rows of activations to the format that a kernel reads.
Buffer quantize_rows(const KernelTable& table, Activation format, const float* x, int64_t m, int64_t n) {
  const ActivationLayout layout(format, n);
  Buffer rows(layout.size(m));
  for (int64_t i = 0; i < m; ++i)
    table.quantize[static_cast<size_t>(format)](rows.as() + layout.offset(i, 0), x + i * n, n);
  return rows;
}

std::span<const std::byte> bytes(const void* data, size_t size, const char* name) {
  return array(static_cast<const std::byte*>(data), size, name);
}

}  // namespace

int32_t binhdan_tools_pack(const char* isa, const char* type, const void* weights, size_t weights_size,
                           int64_t rows, int64_t cols, uint8_t* packed, size_t capacity, size_t* size) {
  return guarded([&] {
    const DTypeInfo& info = type_of(type);
    const MatmulKernel& kernel = kernel_of(table_of(isa), info);
    expect_size("bytes of weights", file_size(info, rows, cols), weights_size);
    *require(size, "size") = packed_size(kernel, info, rows, cols);
    if (*size > capacity) fail(Code::too_small, "packed: expected a capacity of ", *size, ", got ", capacity);
    pack_into(reinterpret_cast<std::byte*>(packed), kernel, bytes(weights, weights_size, "weights"), rows,
              cols);
  });
}

int32_t binhdan_tools_unpack(const char* isa, const char* type, const void* packed, size_t size, int64_t rows,
                             int64_t cols, float* values) {
  return guarded([&] {
    const DTypeInfo& info = type_of(type);
    const MatmulKernel& kernel = kernel_of(table_of(isa), info);
    expect_size("bytes of packed weights", packed_size(kernel, info, rows, cols), size);
    Buffer aligned(size);
    std::ranges::copy(bytes(packed, size, "packed"), aligned.as());
    for (int64_t row = 0; row < rows; ++row)
      kernel.get_row(values + row * cols, aligned.as(), rows, cols, row);
  });
}

struct binhdan_tools_product {
  Buffer matrix, activations, scratch, out;
  void (*run)(const MatmulArgs&) = nullptr;
  MatmulArgs args{};
};

int32_t binhdan_tools_product_create(const char* isa, const char* type, const void* weights,
                                     size_t weights_size, int64_t rows, int64_t cols, const float* x,
                                     int64_t m, int32_t gemm, binhdan_tools_product** product) {
  return guarded([&] {
    require(product, "product");
    const KernelTable& table = table_of(isa);
    const DTypeInfo& info = type_of(type);
    const MatmulKernel& kernel = kernel_of(table, info);
    expect_size("bytes of weights", file_size(info, rows, cols), weights_size);
    if (m < 0) fail(Code::invalid_argument, "m: expected at least 0, got ", m);
    auto made = std::make_unique<binhdan_tools_product>();
    made->matrix = Buffer(packed_size(kernel, info, rows, cols));
    pack_into(made->matrix.as(), kernel, bytes(weights, weights_size, "weights"), rows, cols);
    const Activation format = gemm ? kernel.gemm_input : kernel.gemv_input;
    made->activations = quantize_rows(table, format, x, m, cols);
    made->scratch = Buffer(kernel.scratch_size ? kernel.scratch_size(rows, cols, m) : 0);
    made->out =
        Buffer(checked_mul(static_cast<uint64_t>(m) * sizeof(float), static_cast<uint64_t>(rows), "out"));
    made->run = gemm ? kernel.gemm : kernel.gemv;
    made->args = {.weights = made->matrix.as(),
                  .rows = rows,
                  .cols = cols,
                  .activations = made->activations.as(),
                  .activation_stride = ActivationLayout(format, cols).stride,
                  .m = m,
                  .out = made->out.as<float>(),
                  .out_stride = rows,
                  .scratch = made->scratch.as()};
    *product = made.release();
  });
}

void binhdan_tools_product_run(binhdan_tools_product* product) {
  product->run(product->args);
}

const float* binhdan_tools_product_result(const binhdan_tools_product* product) {
  return product->args.out;
}

size_t binhdan_tools_product_weight_bytes(const binhdan_tools_product* product) {
  return product->matrix.size();
}

void binhdan_tools_product_free(binhdan_tools_product* product) {
  delete product;
}

int32_t binhdan_tools_quantize(const char* isa, const float* x, int64_t n, float* scales, int32_t* sums,
                               int8_t* quants) {
  return guarded([&] {
    expect_multiple("x", 32, n);
    const Buffer rows = quantize_rows(table_of(isa), Activation::q8, x, 1, n);
    for (int64_t i = 0; i < n / 32; ++i) {
      const BlockQ8A& block = rows.as<BlockQ8A>()[i];
      scales[i] = block.d;
      sums[i] = block.sum[0] + block.sum[1];
      std::ranges::copy(block.qs, quants + 32 * i);
    }
  });
}

int32_t binhdan_tools_rms_norm(const char* isa, const float* x, const float* weight, int64_t n, float eps,
                               float* out) {
  return guarded([&] { table_of(isa).rms_norm(out, x, weight, n, eps); });
}

int32_t binhdan_tools_layer_norm(const char* isa, const float* x, const float* weight, const float* bias,
                                 int64_t n, float eps, float* out) {
  return guarded([&] { table_of(isa).layer_norm(out, x, weight, bias, n, eps); });
}

int32_t binhdan_tools_rope(const char* isa, float* x, const float* cos_sin, int64_t n, int32_t neox) {
  return guarded([&] {
    expect_multiple("x", 2, n);
    table_of(isa).rope(x, cos_sin, n, neox != 0);
  });
}

int32_t binhdan_tools_apply(const char* isa, const char* function, float* x, const float* factor, int64_t n) {
  return guarded([&] {
    constexpr std::array<std::string_view, kNonlinearities> names = {
#define NAME(f) #f,
        BINHDAN_NONLINEARITIES(NAME)
#undef NAME
    };
    const auto found = std::ranges::find(names, std::string_view(require(function, "function")));
    if (found == names.end())
      fail(Code::invalid_argument, "function: expected a nonlinear function of the kernels, got '", function,
           "'");
    table_of(isa).apply[found - names.begin()](x, factor, n);
  });
}

int32_t binhdan_tools_softcap(const char* isa, float* x, float cap, int64_t n) {
  return guarded([&] { table_of(isa).softcap(x, cap, n); });
}

// Attention over one split, normalised by the sum of the weights.
int32_t binhdan_tools_attention(const char* isa, const float* q, const float* k, const float* v,
                                int64_t heads, int64_t dim, int64_t n, const char* kv_type, int64_t begin,
                                float softcap, float* out) {
  return guarded([&] {
    expect_multiple("head_dim", 8, dim);
    expect_positive("tokens of k", n);
    if (n > kSplitTokens)
      fail(Code::invalid_argument, "tokens of k: expected at most ", kSplitTokens, ", got ", n);
    if (begin < 0 || begin >= n)
      fail(Code::invalid_argument, "begin: expected 0 to ", n - 1, ", got ", begin);
    const KvType type = internal::kv_type_by_name(require(kv_type, "kv_type"));
    const AttentionKernel& kernel = table_of(isa).attention[static_cast<size_t>(type)];
    const size_t page_size = kv_page_size(type, dim);
    Buffer pages(page_size * kSplitPages);
    pages.zero();
    const void* data[kSplitPages + 1] = {};
    for (int64_t j = 0; j < n; ++j) {
      std::byte* page = pages.as() + static_cast<size_t>(j / kKvPageTokens) * page_size;
      data[j / kKvPageTokens] = page;
      kernel.store_key(page, dim, j % kKvPageTokens, k + j * dim);
      kernel.store_value(page, dim, j % kKvPageTokens, v + j * dim);
    }
    std::vector<float> scaled(q, q + heads * dim), m(static_cast<size_t>(heads)), l(m.size());
    for (float& x : scaled) x *= std::numbers::log2e_v<float>;
    Buffer scratch(kernel.scratch_size ? kernel.scratch_size(1, heads, dim) : 0);
    kernel.decode({.q = scaled.data(),
                   .q_stride = heads * dim,
                   .rows = 1,
                   .heads = heads,
                   .head_dim = dim,
                   .pages = data,
                   .begin = begin,
                   .end = n,
                   .limit = kUnbounded,
                   .softcap = softcap * std::numbers::log2e_v<float>,
                   .m = m.data(),
                   .l = l.data(),
                   .acc = out,
                   .scratch = scratch.as<void>()});
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < dim; ++i) out[h * dim + i] /= l[static_cast<size_t>(h)];
  });
}

int32_t binhdan_tools_delta_rule(const char* isa, const binhdan_tools_delta* given, int32_t chunks) {
  return guarded([&] {
    const binhdan_tools_delta& in = *require(given, "args");
    expect_multiple("columns of k", 8, in.key_dim);
    expect_multiple("columns of v", 8, in.value_dim);
    expect_positive("rows of k", in.rows);
    const KernelTable& table = table_of(isa);
    Buffer scratch(delta_scratch_size(in.key_dim, in.value_dim));
    DeltaRuleArgs args{.q = in.q,
                       .k = in.k,
                       .qk_stride = in.key_dim,
                       .v = in.v,
                       .v_stride = in.value_dim,
                       .decay = in.decay,
                       .beta = in.beta,
                       .gate_stride = 1,
                       .state = in.state,
                       .out = in.out,
                       .out_stride = in.value_dim,
                       .rows = in.rows,
                       .key_dim = in.key_dim,
                       .value_dim = in.value_dim,
                       .scratch = scratch.as<void>()};
    if (!chunks) table.delta_step(args);
    for (int64_t left = chunks ? in.rows : 0; left > 0; left -= args.rows) {
      args.rows = std::min<int64_t>(kDeltaChunk, left);
      table.delta_chunk(args);
      args.q += args.rows * in.key_dim;
      args.k += args.rows * in.key_dim;
      args.v += args.rows * in.value_dim;
      args.decay += args.rows;
      args.beta += args.rows;
      args.out += args.rows * in.value_dim;
    }
  });
}

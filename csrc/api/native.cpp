// binhdan._native: block codecs, kernels and logits on numpy arrays, for the quantizer, benchmarks and tests.
// Inference in Python uses the C ABI (runtime/ffi.py) instead.
#include <algorithm>
#include <array>
#include <numbers>
#include <optional>

#include "api/native.h"
#include "base/buffer.h"

namespace py = pybind11;

namespace {
using namespace binhdan;

using Tokens = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

// ---- matrices ----------------------------------------------------------------------------------------

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

py::array_t<uint8_t> pack(const std::string& isa, const std::string& type, const py::buffer& weights,
                          int64_t rows, int64_t cols) {
  const DTypeInfo& info = internal::dtype_by_name(type);
  const MatmulKernel& kernel = kernel_of(internal::table(isa), info);
  const py::buffer_info buffer = weights.request();
  const auto file = bytes_of(buffer, "weights");
  expect_size("bytes of weights", file_size(info, rows, cols), file.size());
  py::array_t<uint8_t> out(static_cast<py::ssize_t>(packed_size(kernel, info, rows, cols)));
  pack_into(reinterpret_cast<std::byte*>(out.mutable_data()), kernel, file, rows, cols);
  return out;
}

py::array_t<float> unpack(const std::string& isa, const std::string& type, const py::buffer& packed,
                          int64_t rows, int64_t cols) {
  const DTypeInfo& info = internal::dtype_by_name(type);
  const MatmulKernel& kernel = kernel_of(internal::table(isa), info);
  const py::buffer_info buffer = packed.request();
  const auto bytes = bytes_of(buffer, "packed");
  expect_size("bytes of packed weights", packed_size(kernel, info, rows, cols), bytes.size());
  Buffer aligned(bytes.size());
  std::ranges::copy(bytes, aligned.as());
  py::array_t<float> out({rows, cols});
  for (int64_t row = 0; row < rows; ++row)
    kernel.get_row(out.mutable_data(row), aligned.as(), rows, cols, row);
  return out;
}

// Converts rows of activations to the format that a kernel reads.
Buffer quantize_rows(const KernelTable& table, Activation format, const float* x, int64_t m, int64_t n) {
  const ActivationLayout layout(format, n);
  Buffer rows(layout.size(m));
  for (int64_t i = 0; i < m; ++i)
    table.quantize[static_cast<size_t>(format)](rows.as() + layout.offset(i, 0), x + i * n, n);
  return rows;
}

// A product with packed weights and converted activations, for benchmarks that run it repeatedly.
class Matmul {
 public:
  Matmul(const std::string& isa, const std::string& type, const py::buffer& weights, int64_t rows,
         int64_t cols, const Floats& x, bool gemm) {
    expect_axes(x, "x", 2);
    expect_size("columns of x", static_cast<uint64_t>(cols), static_cast<uint64_t>(x.shape(1)));
    const KernelTable& table = internal::table(isa);
    const DTypeInfo& info = internal::dtype_by_name(type);
    const MatmulKernel& kernel = kernel_of(table, info);
    const py::buffer_info buffer = weights.request();
    const auto file = bytes_of(buffer, "weights");
    expect_size("bytes of weights", file_size(info, rows, cols), file.size());
    const int64_t m = x.shape(0);
    const float* src = x.data();

    py::gil_scoped_release release;
    matrix_ = Buffer(packed_size(kernel, info, rows, cols));
    pack_into(matrix_.as(), kernel, file, rows, cols);
    const Activation format = gemm ? kernel.gemm_input : kernel.gemv_input;
    activations_ = quantize_rows(table, format, src, m, cols);
    scratch_ = Buffer(kernel.scratch_size ? kernel.scratch_size(rows, cols, m) : 0);
    out_ = Buffer(checked_mul(static_cast<uint64_t>(m) * sizeof(float), static_cast<uint64_t>(rows), "out"));
    run_ = gemm ? kernel.gemm : kernel.gemv;
    args_ = {.weights = matrix_.as(),
             .rows = rows,
             .cols = cols,
             .activations = activations_.as(),
             .activation_stride = ActivationLayout(format, cols).stride,
             .m = m,
             .out = out_.as<float>(),
             .out_stride = rows,
             .scratch = scratch_.as()};
  }

  void run() const {
    py::gil_scoped_release release;
    run_(args_);
  }
  py::array_t<float> result() const { return py::array_t<float>({args_.m, args_.rows}, args_.out); }
  size_t weight_bytes() const { return matrix_.size(); }

 private:
  Buffer matrix_, activations_, scratch_, out_;
  void (*run_)(const MatmulArgs&);
  MatmulArgs args_;
};

py::array_t<float> matmul(const std::string& isa, const std::string& type, const py::buffer& weights,
                          int64_t rows, int64_t cols, const Floats& x, bool gemm) {
  const Matmul product(isa, type, weights, rows, cols, x, gemm);
  product.run();
  return product.result();
}

// ---- the other kernels -------------------------------------------------------------------------------

py::tuple quantize(const std::string& isa, const Floats& x) {
  expect_multiple("x", 32, x.size());
  const int64_t blocks = x.size() / 32;
  const Buffer rows = quantize_rows(internal::table(isa), Activation::q8, x.data(), 1, x.size());
  py::array_t<float> d(blocks);
  py::array_t<int32_t> sum(blocks);
  py::array_t<int8_t> qs({blocks, int64_t{32}});
  for (int64_t i = 0; i < blocks; ++i) {
    const BlockQ8A& block = rows.as<BlockQ8A>()[i];
    d.mutable_at(i) = block.d;
    sum.mutable_at(i) = block.sum[0] + block.sum[1];
    std::ranges::copy(block.qs, qs.mutable_data(i));
  }
  return py::make_tuple(d, sum, qs);
}

// The data of an argument that may be None, of the size of x.
const float* optional_row(const char* name, const Floats& x, const std::optional<Floats>& row) {
  if (!row) return nullptr;
  expect_size(name, static_cast<uint64_t>(x.size()), static_cast<uint64_t>(row->size()));
  return row->data();
}

py::array_t<float> rms_norm(const std::string& isa, const Floats& x, const std::optional<Floats>& weight,
                            float eps) {
  expect_axes(x, "x", 1);
  py::array_t<float> out(x.size());
  internal::table(isa).rms_norm(out.mutable_data(), x.data(), optional_row("weight", x, weight), x.size(),
                                eps);
  return out;
}

py::array_t<float> layer_norm(const std::string& isa, const Floats& x, const Floats& weight,
                              const std::optional<Floats>& bias, float eps) {
  expect_axes(x, "x", 1);
  py::array_t<float> out(x.size());
  internal::table(isa).layer_norm(out.mutable_data(), x.data(), optional_row("weight", x, weight),
                                  optional_row("bias", x, bias), x.size(), eps);
  return out;
}

py::array_t<float> rope(const std::string& isa, const Floats& x, const Floats& cos_sin, bool neox) {
  expect_axes(x, "x", 1);
  expect_multiple("x", 2, x.size());
  expect_size("cos_sin", static_cast<uint64_t>(x.size()), static_cast<uint64_t>(cos_sin.size()));
  py::array_t<float> out(x.size(), x.data());
  internal::table(isa).rope(out.mutable_data(), cos_sin.data(), x.size(), neox);
  return out;
}

py::array_t<float> apply(const std::string& isa, const std::string& function, const Floats& x,
                         const std::optional<Floats>& factor) {
  constexpr std::array<std::string_view, kNonlinearities> names = {
#define NAME(f) #f,
      BINHDAN_NONLINEARITIES(NAME)
#undef NAME
  };
  const auto found = std::ranges::find(names, function);
  if (found == names.end())
    fail(Code::invalid_argument, "function: expected a nonlinear function of the kernels, got '", function,
         "'");
  expect_axes(x, "x", 1);
  py::array_t<float> out(x.size(), x.data());
  internal::table(isa).apply[found - names.begin()](out.mutable_data(), optional_row("factor", x, factor),
                                                    x.size());
  return out;
}

py::array_t<float> softcap(const std::string& isa, const Floats& x, float cap) {
  expect_axes(x, "x", 1);
  py::array_t<float> out(x.size(), x.data());
  internal::table(isa).softcap(out.mutable_data(), cap, x.size());
  return out;
}

// Attention over one split, normalised by the sum of the weights. The caller scales q by 1 / sqrt(head_dim).
py::array_t<float> attention(const std::string& isa, const Floats& q, const Floats& k, const Floats& v,
                             const std::string& kv_type, int64_t begin, float softcap) {
  expect_axes(q, "q", 2);
  expect_axes(k, "k", 2);
  expect_axes(v, "v", 2);
  const int64_t heads = q.shape(0), dim = q.shape(1), n = k.shape(0);
  expect_multiple("head_dim", 8, dim);
  expect_positive("tokens of k", n);
  if (n > kSplitTokens)
    fail(Code::invalid_argument, "tokens of k: expected at most ", kSplitTokens, ", got ", n);
  if (begin < 0 || begin >= n) fail(Code::invalid_argument, "begin: expected 0 to ", n - 1, ", got ", begin);
  expect_size("columns of k", static_cast<uint64_t>(dim), static_cast<uint64_t>(k.shape(1)));
  expect_size("size of v", static_cast<uint64_t>(k.size()), static_cast<uint64_t>(v.size()));
  const KvType type = internal::kv_type_by_name(kv_type);
  const AttentionKernel& kernel = internal::table(isa).attention[static_cast<size_t>(type)];
  const size_t page_size = kv_page_size(type, dim);
  Buffer pages(page_size * kSplitPages);
  pages.zero();
  const void* data[kSplitPages + 1] = {};
  for (int64_t j = 0; j < n; ++j) {
    std::byte* page = pages.as() + static_cast<size_t>(j / kKvPageTokens) * page_size;
    data[j / kKvPageTokens] = page;
    kernel.store_key(page, dim, j % kKvPageTokens, k.data(j));
    kernel.store_value(page, dim, j % kKvPageTokens, v.data(j));
  }
  std::vector<float> scaled(q.data(), q.data() + q.size()), m(static_cast<size_t>(heads)), l(m.size());
  for (float& x : scaled) x *= std::numbers::log2e_v<float>;
  py::array_t<float> out({heads, dim});
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
                 .acc = out.mutable_data(),
                 .scratch = scratch.as<void>()});
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < dim; ++i) out.mutable_at(h, i) /= l[static_cast<size_t>(h)];
  return out;
}

// The gated delta rule for the rows of one head, row by row or in chunks from row 0 on.
py::tuple delta_rule(const std::string& isa, const Floats& q, const Floats& k, const Floats& v,
                     const Floats& decay, const Floats& beta, const Floats& state, bool chunks) {
  expect_axes(k, "k", 2);
  expect_axes(v, "v", 2);
  const int64_t rows = k.shape(0), key_dim = k.shape(1), value_dim = v.shape(1);
  expect_multiple("columns of k", 8, key_dim);
  expect_multiple("columns of v", 8, value_dim);
  expect_positive("rows of k", rows);
  expect_size("size of q", static_cast<uint64_t>(k.size()), static_cast<uint64_t>(q.size()));
  expect_size("rows of v", static_cast<uint64_t>(rows), static_cast<uint64_t>(v.shape(0)));
  expect_size("decay", static_cast<uint64_t>(rows), static_cast<uint64_t>(decay.size()));
  expect_size("beta", static_cast<uint64_t>(rows), static_cast<uint64_t>(beta.size()));
  expect_size("state", checked_mul(static_cast<uint64_t>(key_dim), static_cast<uint64_t>(value_dim), "state"),
              static_cast<uint64_t>(state.size()));
  const KernelTable& table = internal::table(isa);
  py::array_t<float> out({rows, value_dim}), next_state({key_dim, value_dim}, state.data());
  Buffer scratch(delta_scratch_size(key_dim, value_dim));
  DeltaRuleArgs args{.q = q.data(),
                     .k = k.data(),
                     .qk_stride = key_dim,
                     .v = v.data(),
                     .v_stride = value_dim,
                     .decay = decay.data(),
                     .beta = beta.data(),
                     .gate_stride = 1,
                     .state = next_state.mutable_data(),
                     .out = out.mutable_data(),
                     .out_stride = value_dim,
                     .rows = rows,
                     .key_dim = key_dim,
                     .value_dim = value_dim,
                     .scratch = scratch.as<void>()};
  if (!chunks) table.delta_step(args);
  for (int64_t left = chunks ? rows : 0; left > 0; left -= args.rows) {
    args.rows = std::min<int64_t>(kDeltaChunk, left);
    table.delta_chunk(args);
    args.q += args.rows * key_dim;
    args.k += args.rows * key_dim;
    args.v += args.rows * value_dim;
    args.decay += args.rows;
    args.beta += args.rows;
    args.out += args.rows * value_dim;
  }
  return py::make_tuple(out, next_state);
}

// ---- models ------------------------------------------------------------------------------------------

int32_t sample(const Floats& logits, float temperature, int32_t top_k, float top_p, float min_p,
               uint64_t seed) {
  expect_axes(logits, "logits", 1);
  expect_positive("logits", logits.size());
  std::vector<float> copy(logits.data(), logits.data() + logits.size());
  py::gil_scoped_release release;
  return internal::sample(std::move(copy), temperature, top_k, top_p, min_p, seed);
}

py::array_t<float> logits(uint64_t model, const Tokens& tokens, int threads, bool decode,
                          const std::string& kv_type) {
  expect_axes(tokens, "tokens", 1);
  expect_positive("tokens", tokens.size());
  const std::span<const int32_t> ids(tokens.data(), static_cast<size_t>(tokens.size()));
  const KvType type = internal::kv_type_by_name(kv_type);
  std::vector<float> rows;
  {
    py::gil_scoped_release release;
    internal::forward_logits(model, ids, threads, decode, type, [&](int64_t, std::span<const float> row) {
      if (rows.empty()) rows.reserve(row.size() * ids.size());
      rows.insert(rows.end(), row.begin(), row.end());
    });
  }
  const auto n = static_cast<py::ssize_t>(ids.size());
  return py::array_t<float>({n, static_cast<py::ssize_t>(rows.size()) / n}, rows.data());
}

// {"prefill": {"ns", "ops": [{"name", "calls", "ns", "bytes", "macs"}]}, "decode": the same}
py::dict profile(uint64_t model, int threads, int64_t prompt_tokens, int64_t decode_tokens, int64_t depth,
                 int64_t sequences, const std::string& kv_type) {
  using namespace py::literals;
  const KvType type = internal::kv_type_by_name(kv_type);
  internal::ForwardProfile measured;
  {
    py::gil_scoped_release release;
    measured = internal::profile(model, threads, prompt_tokens, decode_tokens, depth, sequences, type);
  }
  const auto listed = [](const internal::PassProfile& pass) {
    py::list ops;
    for (const internal::OpProfile& op : pass.ops)
      ops.append(py::dict("name"_a = op.name, "calls"_a = op.calls, "ns"_a = op.ns, "bytes"_a = op.bytes,
                          "macs"_a = op.macs));
    return py::dict("ns"_a = pass.ns, "ops"_a = ops);
  };
  return py::dict("prefill"_a = listed(measured.prefill), "decode"_a = listed(measured.decode));
}

py::dict peaks(const std::string& isa, int threads) {
  py::dict all;
  for (const auto& [name, format] : {std::pair("f32", Activation::f32), std::pair("q8", Activation::q8),
                                     std::pair("bf16", Activation::bf16)}) {
    double rate = 0;
    {
      py::gil_scoped_release release;
      rate = internal::measure_peak(isa, format, threads);
    }
    if (rate > 0) all[name] = rate;
  }
  return all;
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& error) {
    PyErr_SetString(error.code() == Code::out_of_memory ? PyExc_MemoryError : PyExc_ValueError, error.what());
  }
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Block codecs, kernels and logits on numpy arrays. Errors are ValueError.";
  py::register_local_exception_translator(translate);
  using py::arg;

  add_codecs(module);
  module.def("isas", internal::isa_names);
  module.def("pack", pack, arg("isa"), arg("type"), arg("weights"), arg("rows"), arg("cols"));
  module.def("unpack", unpack, arg("isa"), arg("type"), arg("packed"), arg("rows"), arg("cols"));
  module.def("matmul", matmul, arg("isa"), arg("type"), arg("weights"), arg("rows"), arg("cols"), arg("x"),
             arg("gemm"));
  py::class_<Matmul>(module, "Matmul")
      .def(py::init<const std::string&, const std::string&, const py::buffer&, int64_t, int64_t,
                    const Floats&, bool>(),
           arg("isa"), arg("type"), arg("weights"), arg("rows"), arg("cols"), arg("x"), arg("gemm"))
      .def("run", &Matmul::run)
      .def("result", &Matmul::result)
      .def_property_readonly("weight_bytes", &Matmul::weight_bytes);
  module.def("quantize", quantize, arg("isa"), arg("x"));
  module.def("rms_norm", rms_norm, arg("isa"), arg("x"), arg("weight"), arg("eps"));
  module.def("rope", rope, arg("isa"), arg("x"), arg("cos_sin"), arg("neox"));
  module.def("layer_norm", layer_norm, arg("isa"), arg("x"), arg("weight"), arg("bias"), arg("eps"));
  module.def("apply", apply, arg("isa"), arg("function"), arg("x"), arg("factor") = py::none());
  module.def("softcap", softcap, arg("isa"), arg("x"), arg("cap"));
  module.def("attention", attention, arg("isa"), arg("q"), arg("k"), arg("v"), arg("kv_type") = "f16",
             arg("begin") = 0, arg("softcap") = 0.0f);
  module.def("delta_rule", delta_rule, arg("isa"), arg("q"), arg("k"), arg("v"), arg("decay"), arg("beta"),
             arg("state"), arg("chunks"));
  module.def("logits", logits, arg("model"), arg("tokens"), arg("threads"), arg("decode") = false,
             arg("kv_type") = "f16");
  add_evaluation(module);
  module.def("pretokenizer_names", internal::pretokenizer_names);
  module.def("pretokenizer_patterns", internal::pretokenizer_patterns, arg("name"));
  module.def("split_words", internal::split_words, arg("pretokenizer"), arg("text"));
  py::class_<internal::FileTokenizer>(module, "Tokenizer")
      .def(py::init<const std::string&>(), arg("path"))
      .def("encode", &internal::FileTokenizer::encode, arg("text"), arg("parse_special") = false)
      .def(
          "decode",
          [](const internal::FileTokenizer& tokenizer, const std::vector<int32_t>& tokens, bool special) {
            return py::bytes(tokenizer.decode(tokens, special));
          },
          arg("tokens"), arg("special") = false);
  module.def("sample", sample, arg("logits"), arg("temperature") = 0.0F, arg("top_k") = 0,
             arg("top_p") = 1.0F, arg("min_p") = 0.0F, arg("seed") = 0);
  module.def("profile", profile, arg("model"), arg("threads"), arg("prompt_tokens"), arg("decode_tokens"),
             arg("depth") = 0, arg("sequences") = 1, arg("kv_type") = "f16");
  module.def("peaks", peaks, arg("isa"), arg("threads"));
  module.attr("compiler") = BINHDAN_COMPILER;
}

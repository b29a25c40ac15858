// binhdan_tools.h: logits, inputs of matrices, scores of tokens, sampling and measurements on an open model.
#include <set>

#include "api/tools.h"

using namespace binhdan;
using namespace binhdan::api;
using namespace binhdan::tools;

namespace {

KvType kv_type_of(const char* name) {
  return internal::kv_type_by_name(require(name, "kv_type"));
}

internal::LogitStore store_of(const binhdan_tools_logit_store& store) {
  return {store.codes, store.factors, store.rows, store.columns};
}

void write_pass(binhdan_tools_pass* out, const internal::PassProfile& pass) {
  out->ns = pass.ns;
  out->n_ops = pass.ops.size();
  if (out->n_ops > std::size(out->ops))
    fail(Code::internal, "ops: expected at most ", std::size(out->ops), ", got ", out->n_ops);
  for (size_t i = 0; i < out->n_ops; ++i) {
    const internal::OpProfile& op = pass.ops[i];
    out->ops[i] = {op.name, op.calls, op.ns, op.bytes, op.macs};
  }
}

}  // namespace

int32_t binhdan_tools_logits(binhdan_model model, const int32_t* tokens, size_t n_tokens, int32_t threads,
                             int32_t decode, const char* kv_type, float* out, size_t capacity, size_t* size) {
  return guarded([&] {
    const auto ids = array(tokens, n_tokens, "tokens");
    const auto vocabulary = static_cast<size_t>(models().get(model, "model")->config.vocabulary);
    *require(size, "size") = checked_mul(n_tokens, vocabulary, "logits");
    if (*size > capacity) fail(Code::too_small, "logits: expected a capacity of ", *size, ", got ", capacity);
    internal::forward_logits(model, ids, threads, decode != 0, kv_type_of(kv_type),
                             [&](int64_t position, std::span<const float> row) {
                               std::ranges::copy(row, out + static_cast<size_t>(position) * vocabulary);
                             });
  });
}

int32_t binhdan_tools_observe_inputs(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                     int32_t threads, const char* const* tensors, size_t n_tensors,
                                     binhdan_tools_visit visit, void* user) {
  return guarded([&] {
    const auto ids = array(tokens, n_tokens, "tokens");
    const auto names = array(tensors, n_tensors, "tensors");
    if (!visit) fail(Code::invalid_argument, "visit: expected a function, got NULL");
    internal::observe_inputs(model, ids, threads, {names.begin(), names.end()},
                             [&](const internal::ObservedInput& input) {
                               std::vector<const char*> readers;
                               for (const std::string& name : input.tensors) readers.push_back(name.c_str());
                               if (visit(user, readers.data(), readers.size(), input.rows.data(),
                                         std::ssize(input.rows) / input.cols, input.cols) != 0)
                                 fail(Code::closed, "the caller ended the run");
                             });
  });
}

int32_t binhdan_tools_score_tokens(binhdan_model model, const int32_t* tokens, size_t n_tokens, size_t first,
                                   int32_t threads, const char* kv_type,
                                   const binhdan_tools_logit_store* record,
                                   const binhdan_tools_logit_store* reference, const int32_t* columns,
                                   size_t n_columns, binhdan_tools_score* scores) {
  return guarded([&] {
    const auto ids = array(tokens, n_tokens, "tokens");
    if (first >= n_tokens)
      fail(Code::invalid_argument, "first: expected 0 to ", n_tokens - 1, ", got ", first);
    internal::ScoreOptions options{.kv_type = kv_type_of(kv_type),
                                   .columns = array(columns, n_columns, "columns")};
    internal::LogitStore to{}, from{};
    if (record) options.record = &(to = store_of(*record));
    if (reference) options.reference = &(from = store_of(*reference));
    std::vector<internal::TokenScore> found(n_tokens - 1 - first);
    internal::score_tokens(model, ids, first, threads, options, found);
    for (size_t i = 0; i < found.size(); ++i)
      scores[i] = {found[i].nll, found[i].kl, found[i].kept, found[i].best, found[i].same_best};
  });
}

int32_t binhdan_tools_sample(const float* logits, size_t n, float temperature, int32_t top_k, float top_p,
                             float min_p, uint64_t seed, int32_t* token) {
  return guarded([&] {
    const auto values = array(logits, n, "logits");
    expect_positive("logits", std::ssize(values));
    *require(token, "token") =
        internal::sample({values.begin(), values.end()}, temperature, top_k, top_p, min_p, seed);
  });
}

int32_t binhdan_tools_profile(binhdan_model model, int32_t threads, int64_t prompt_tokens,
                              int64_t decode_tokens, int64_t depth, int64_t sequences, const char* kv_type,
                              binhdan_tools_pass* prefill, binhdan_tools_pass* decode) {
  return guarded([&] {
    const internal::ForwardProfile measured = internal::profile(model, threads, prompt_tokens, decode_tokens,
                                                                depth, sequences, kv_type_of(kv_type));
    write_pass(require(prefill, "prefill"), measured.prefill);
    write_pass(require(decode, "decode"), measured.decode);
  });
}

int32_t binhdan_tools_peak(const char* isa, const char* format, int32_t threads, double* rate) {
  return guarded([&] {
    constexpr std::pair<std::string_view, Activation> formats[] = {
        {"f32", Activation::f32}, {"q8", Activation::q8}, {"bf16", Activation::bf16}};
    for (const auto& [name, value] : formats)
      if (name == require(format, "format")) {
        *require(rate, "rate") = internal::measure_peak(require(isa, "isa"), value, threads);
        return;
      }
    fail(Code::invalid_argument, "format: expected \"f32\", \"q8\" or \"bf16\", got \"", format, "\"");
  });
}

// binhdan._native: inputs of matrices and scores of tokens, for calibration and evaluation.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "api/internal.h"
#include "api/native.h"
#include "base/error.h"

namespace py = pybind11;

namespace binhdan {
namespace {

using Tokens = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;
using Codes = py::array_t<uint16_t, py::array::c_style>;
using Factors = py::array_t<double, py::array::c_style>;
using Logits = std::pair<Codes, Factors>;

std::span<const int32_t> tokens_of(const Tokens& tokens) {
  if (tokens.ndim() != 1 || tokens.size() == 0)
    fail(Code::invalid_argument, "tokens: expected one axis and at least one token, got ", tokens.ndim(),
         " axes and ", tokens.size(), " tokens");
  return {tokens.data(), static_cast<size_t>(tokens.size())};
}

void observe_inputs(uint64_t model, const Tokens& tokens, int threads, const py::function& visit,
                    const std::set<std::string>& tensors) {
  const auto ids = tokens_of(tokens);
  py::gil_scoped_release release;
  internal::observe_inputs(model, ids, threads, tensors, [&](const internal::ObservedInput& input) {
    py::gil_scoped_acquire acquire;
    const py::array_t<float> rows({std::ssize(input.rows) / input.cols, input.cols}, input.rows.data());
    visit(input.tensors, rows);
  });
}

// The arrays of a store. `writable`: they are written to.
internal::LogitStore store_of(const char* what, const Logits& logits, bool writable) {
  const auto& [codes, factors] = logits;
  if (codes.ndim() != 2 || factors.ndim() != 2 || factors.shape(0) != codes.shape(0) || factors.shape(1) != 4)
    fail(Code::invalid_argument, what, ": expected arrays of the shapes (n, vocabulary) and (n, 4)");
  if (writable && !(codes.writeable() && factors.writeable()))
    fail(Code::invalid_argument, what, ": expected arrays that can be written to");
  return {const_cast<uint16_t*>(codes.data()), const_cast<double*>(factors.data()),
          static_cast<size_t>(codes.shape(0)), static_cast<size_t>(codes.shape(1))};
}

py::dict score_tokens(uint64_t model, const Tokens& tokens, int64_t first, int threads,
                      const std::string& kv_type, const std::optional<Logits>& record,
                      const std::optional<Logits>& reference, const std::optional<Tokens>& columns) {
  const auto ids = tokens_of(tokens);
  if (first < 0 || first >= std::ssize(ids))
    fail(Code::invalid_argument, "first: expected 0 to ", ids.size() - 1, ", got ", first);
  internal::ScoreOptions options{.kv_type = internal::kv_type_by_name(kv_type)};
  internal::LogitStore to{}, from{};
  if (record) options.record = &(to = store_of("record", *record, true));
  if (reference) options.reference = &(from = store_of("reference", *reference, false));
  if (columns) options.columns = tokens_of(*columns);
  std::vector<internal::TokenScore> scores(ids.size() - 1 - static_cast<size_t>(first));
  {
    py::gil_scoped_release release;
    internal::score_tokens(model, ids, static_cast<size_t>(first), threads, options, scores);
  }
  py::dict result;
  const auto add = [&]<typename T, typename Member>(const char* name, T, Member member) {
    py::array_t<T> values(std::ssize(scores));
    for (size_t i = 0; i < scores.size(); ++i) values.mutable_data()[i] = scores[i].*member;
    result[name] = values;
  };
  add("nll", double{}, &internal::TokenScore::nll);
  add("best", int32_t{}, &internal::TokenScore::best);
  if (!reference) return result;
  add("kl", double{}, &internal::TokenScore::kl);
  add("same_best", bool{}, &internal::TokenScore::same_best);
  add("kept", double{}, &internal::TokenScore::kept);
  return result;
}

}  // namespace

void add_evaluation(py::module_& module) {
  using py::arg;
  module.def("observe_inputs", observe_inputs, arg("model"), arg("tokens"), arg("threads"), arg("visit"),
             arg("tensors") = std::set<std::string>{});
  module.def("score_tokens", score_tokens, arg("model"), arg("tokens"), arg("first"), arg("threads"),
             arg("kv_type") = "f16", arg("record") = py::none(), arg("reference") = py::none(),
             arg("columns") = py::none());
}

}  // namespace binhdan

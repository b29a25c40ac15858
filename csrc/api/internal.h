// The functions behind binhdan_tools.h in C++.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "kernels/kernels.h"

namespace binhdan::text {
class Tokenizer;
}

namespace binhdan::internal {

// Codecs (kernels/codec.h) for whole arrays. They throw Error when n is not a multiple of the block size.
std::vector<std::string> dtype_names();
const DTypeInfo& dtype_by_name(const std::string& name);
void decode(DType type, const std::byte* src, float* dst, int64_t n);
void encode(DType type, const float* src, std::byte* dst, int64_t n);
// Encoders with a search (encode/encode.h). threads: 0 for all usable cores. isa: "" for the fastest.
void encode_rows(DType type, const float* src, int64_t rows, int64_t cols, const float* importance,
                 std::byte* dst, int threads, const std::string& isa);
// Encoders with feedback of errors (encode/feedback.h).
void encode_feedback(DType type, const float* src, int64_t rows, int64_t cols, const float* factor,
                     std::byte* dst, int threads, const std::string& isa);

// Kernel tables by name. table() throws Error for one that this machine does not support.
std::vector<std::string> isa_names();
const KernelTable& table(const std::string& isa);

// "f16" or "q8_0".
KvType kv_type_by_name(const std::string& name);

// Computes the logits of every position of `tokens` and calls row(position, logits). `model` is a handle of
// the C ABI. decode: the numeric class is that of decode rows; otherwise, that of prefill rows.
void forward_logits(uint64_t model, std::span<const int32_t> tokens, int threads, bool decode, KvType kv_type,
                    const std::function<void(int64_t, std::span<const float>)>& row);

// The input of matrix products: `rows` of one batch, (n, cols), and the names of the tensors that multiply
// with them.
struct ObservedInput {
  const std::set<std::string>& tensors;
  int64_t cols;
  std::span<const float> rows;
};
// Runs `tokens` and calls visit() for the inputs of all matrices of `tensors` (empty: of all tensors), for
// one batch after another. All layers compute all rows.
void observe_inputs(uint64_t model, std::span<const int32_t> tokens, int threads,
                    const std::set<std::string>& tensors,
                    const std::function<void(const ObservedInput&)>& visit);

// Rows of logits, each rounded to 65,536 steps between its lowest and its highest value.
struct LogitRow {
  double *low, *step, *log_sum, *best;  // logit = low + step * code; log_sum: log of the sum of e^logit
};
struct LogitStore {
  uint16_t* codes;  // (rows, columns)
  double* factors;  // (rows, 4): low, step, log_sum, best
  size_t rows, columns;

  LogitRow row(size_t i) const {
    double* at = factors + 4 * i;
    return {at, at + 1, at + 2, at + 3};
  }
  std::span<uint16_t> codes_of(size_t i) const { return {codes + i * columns, columns}; }
};
// The prediction of one token. The last three need a reference.
struct TokenScore {
  double nll;      // -log of the token's probability
  int32_t best;    // the most probable token
  double kl;       // KL divergence from the reference, in nats
  bool same_best;  // the most probable token is that of the reference
  double kept;     // part of the reference's probability that is in `columns`
};
struct ScoreOptions {
  KvType kv_type = KvType::f16;
  const LogitStore* record = nullptr;     // gets the logits
  const LogitStore* reference = nullptr;  // is compared with
  std::span<const int32_t> columns{};     // the reference's column of each token; empty: the same
};
// Scores the predictions of tokens[first + 1] to the last, each from all tokens before it.
void score_tokens(uint64_t model, std::span<const int32_t> tokens, size_t first, int threads,
                  const ScoreOptions& options, std::span<TokenScore> scores);

// The words into which a pre-tokenizer cuts a text, as their ends in bytes. Throws Error for an unknown name.
std::vector<size_t> split_words(const std::string& pretokenizer, const std::string& text);
std::vector<std::string> pretokenizer_names();
// The regular expressions of a pre-tokenizer.
std::vector<std::string> pretokenizer_patterns(const std::string& name);

// The tokenizer of a GGUF file; the file needs the tokenizer.* keys only, and no tensor. Throws Error as Vocab::read.
class FileTokenizer {
 public:
  explicit FileTokenizer(const std::string& path);
  // Without BOS and EOS. parse_special: see text/tokenizer.h.
  std::vector<int32_t> encode(std::string_view text, bool parse_special) const;
  std::string decode(std::span<const int32_t> tokens, bool special) const;

 private:
  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

// The first token that a new request with these parameters draws.
int32_t sample(std::vector<float> logits, float temperature, int32_t top_k, float top_p, float min_p,
               uint64_t seed);

// The cost of one operation of the forward pass, summed over its calls. ns: on rank 0; bytes: weights, keys
// and values that all threads read; macs: multiply-adds of all threads.
struct OpProfile {
  const char* name;  // "qkv", "attention", ..., "wait" for the time in barriers
  int64_t calls, ns;
  uint64_t bytes, macs;
};
struct PassProfile {
  int64_t ns;                  // of all passes
  std::vector<OpProfile> ops;  // in the order of the forward pass
};
struct ForwardProfile {
  PassProfile prefill, decode;
};
// prefill: `prompt_tokens` tokens of one sequence, in the engine's chunks. decode: `decode_tokens` steps of a
// batch of `sequences` sequences. All start after `depth` positions of zeros; a warm-up runs first.
ForwardProfile profile(uint64_t model, int threads, int64_t prompt_tokens, int64_t decode_tokens,
                       int64_t depth, int64_t sequences, KvType kv_type);

// Multiply-adds per second of `threads` threads with a table's instructions for `format`; 0 when unknown.
double measure_peak(const std::string& isa, Activation format, int threads);

}  // namespace binhdan::internal

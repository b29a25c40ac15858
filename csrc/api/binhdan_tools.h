/* binhdan_tools: codecs, kernels, logits and measurements on plain arrays, for the quantizer, benchmarks and tests.
 *
 * The Python package reads this header (binhdan/_native/). It is not for applications: it changes without
 * notice. The contract is that of binhdan.h: status values, binhdan_last_error(), (buffer, capacity, size).
 * Arrays are contiguous, row by row. `type` is a GGUF type name ("Q4_0"). `isa` is a name of
 * binhdan_tools_isa(), or "" for the fastest table. `kv_type` is "f16" or "q8_0". `model` is a handle of binhdan.h.
 */
#ifndef BINHDAN_TOOLS_H
#define BINHDAN_TOOLS_H

#include "binhdan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cffi-begin: the Python package reads the declarations between these marks, without BINHDAN_API. */

/* ---- names: BINHDAN_NOT_FOUND past the end ------------------------------------------------------------------ */

typedef struct {
  const char* name;
  int64_t block;       /* elements of a block */
  int64_t block_bytes; /* bytes of a block */
} binhdan_tools_type;

BINHDAN_API int32_t binhdan_tools_type_at(size_t index, binhdan_tools_type* type);
BINHDAN_API int32_t binhdan_tools_isa(size_t index,
                                      const char** name); /* that this machine runs; the fastest last */
BINHDAN_API int32_t binhdan_tools_pretokenizer(size_t index, const char** name);
BINHDAN_API int32_t binhdan_tools_pretokenizer_pattern(const char* pretokenizer, size_t index, char* pattern,
                                                       size_t capacity, size_t* size);
BINHDAN_API const char* binhdan_tools_compiler(void);

/* ---- codecs: n elements; rows of cols elements ---------------------------------------------------------------- */

BINHDAN_API int32_t binhdan_tools_decode(const char* type, const void* blocks, size_t size, float* values,
                                         int64_t n);
/* Rounds each value on its own. */
BINHDAN_API int32_t binhdan_tools_round(const char* type, const float* values, int64_t n, void* blocks);
/* Searches for a small sum of importance (cols,) times the square of the difference. importance: NULL for ones. */
BINHDAN_API int32_t binhdan_tools_encode(const char* type, const float* values, int64_t rows, int64_t cols,
                                         const float* importance, void* blocks, int32_t threads,
                                         const char* isa);
/* encode/feedback.h. factor: (cols, cols). */
BINHDAN_API int32_t binhdan_tools_encode_feedback(const char* type, const float* values, int64_t rows,
                                                  int64_t cols, const float* factor, void* blocks,
                                                  int32_t threads, const char* isa);

/* ---- matrices in the layout of a kernel table ------------------------------------------------------------------ */

BINHDAN_API int32_t binhdan_tools_pack(const char* isa, const char* type, const void* weights,
                                       size_t weights_size, int64_t rows, int64_t cols, uint8_t* packed,
                                       size_t capacity, size_t* size);
BINHDAN_API int32_t binhdan_tools_unpack(const char* isa, const char* type, const void* packed,
                                         size_t packed_size, int64_t rows, int64_t cols, float* values);

/* x (m, cols) times the transposed weights (rows, cols), for repeated runs on the calling thread. */
typedef struct binhdan_tools_product binhdan_tools_product;
BINHDAN_API int32_t binhdan_tools_product_create(const char* isa, const char* type, const void* weights,
                                                 size_t weights_size, int64_t rows, int64_t cols,
                                                 const float* x, int64_t m, int32_t gemm,
                                                 binhdan_tools_product** product);
BINHDAN_API void binhdan_tools_product_run(binhdan_tools_product* product);
BINHDAN_API const float* binhdan_tools_product_result(const binhdan_tools_product* product); /* (m, rows) */
BINHDAN_API size_t binhdan_tools_product_weight_bytes(const binhdan_tools_product* product);
BINHDAN_API void binhdan_tools_product_free(binhdan_tools_product* product);

/* ---- the other kernels ------------------------------------------------------------------------------------------ */

/* Blocks of 32: scales (n / 32,), sums (n / 32,), quants (n,). */
BINHDAN_API int32_t binhdan_tools_quantize(const char* isa, const float* x, int64_t n, float* scales,
                                           int32_t* sums, int8_t* quants);
BINHDAN_API int32_t binhdan_tools_rms_norm(const char* isa, const float* x, const float* weight, int64_t n,
                                           float eps, float* out);
BINHDAN_API int32_t binhdan_tools_layer_norm(const char* isa, const float* x, const float* weight,
                                             const float* bias, int64_t n, float eps, float* out);
/* The next two work in place. */
BINHDAN_API int32_t binhdan_tools_rope(const char* isa, float* x, const float* cos_sin, int64_t n,
                                       int32_t neox);
BINHDAN_API int32_t binhdan_tools_apply(const char* isa, const char* function, float* x, const float* factor,
                                        int64_t n);
BINHDAN_API int32_t binhdan_tools_softcap(const char* isa, float* x, float cap, int64_t n);
/* q, out: (heads, head_dim); k, v: (n, head_dim). q is scaled by 1 / sqrt(head_dim) already. */
BINHDAN_API int32_t binhdan_tools_attention(const char* isa, const float* q, const float* k, const float* v,
                                            int64_t heads, int64_t head_dim, int64_t n, const char* kv_type,
                                            int64_t begin, float softcap, float* out);
typedef struct {
  const float *q, *k;        /* (rows, key_dim) */
  const float* v;            /* (rows, value_dim) */
  const float *decay, *beta; /* (rows,) */
  float* state;              /* (key_dim, value_dim), updated */
  float* out;                /* (rows, value_dim) */
  int64_t rows, key_dim, value_dim;
} binhdan_tools_delta;
/* chunks: the kernel of prefill, else that of decode. */
BINHDAN_API int32_t binhdan_tools_delta_rule(const char* isa, const binhdan_tools_delta* args,
                                             int32_t chunks);

/* ---- models ----------------------------------------------------------------------------------------------------- */

/* Logits after each token, (n_tokens, vocabulary). decode: the numeric class of decode, else that of prefill. */
BINHDAN_API int32_t binhdan_tools_logits(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                         int32_t threads, int32_t decode, const char* kv_type, float* out,
                                         size_t capacity, size_t* size);

/* The input (rows, cols) of the matrices of `tensors`. A result other than 0 ends the run with BINHDAN_CLOSED. */
typedef int32_t (*binhdan_tools_visit)(void* user, const char* const* tensors, size_t n_tensors,
                                       const float* x, int64_t rows, int64_t cols);
/* Runs the tokens and visits the inputs of the matrices `tensors`, or of all if n_tensors is 0. */
BINHDAN_API int32_t binhdan_tools_observe_inputs(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                                 int32_t threads, const char* const* tensors,
                                                 size_t n_tensors, binhdan_tools_visit visit, void* user);

/* Logits that are stored in 16 bits. */
typedef struct {
  uint16_t* codes; /* (rows, columns) */
  double* factors; /* (rows, 4) */
  size_t rows, columns;
} binhdan_tools_logit_store;
typedef struct {
  double nll;        /* -log of the token's probability */
  double kl;         /* KL divergence from the reference, in nats */
  double kept;       /* part of the reference's probability that is in `columns` */
  int32_t best;      /* the most probable token */
  int32_t same_best; /* 1: the most probable token is that of the reference */
} binhdan_tools_score;
/* Scores tokens[first + 1] to the last: n_tokens - 1 - first scores. record and reference may be NULL. */
BINHDAN_API int32_t binhdan_tools_score_tokens(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                               size_t first, int32_t threads, const char* kv_type,
                                               const binhdan_tools_logit_store* record,
                                               const binhdan_tools_logit_store* reference,
                                               const int32_t* columns, size_t n_columns,
                                               binhdan_tools_score* scores);

/* The first token that a request with these settings samples from n logits. */
BINHDAN_API int32_t binhdan_tools_sample(const float* logits, size_t n, float temperature, int32_t top_k,
                                         float top_p, float min_p, uint64_t seed, int32_t* token);

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* The ends, in bytes, of the words of a text. */
BINHDAN_API int32_t binhdan_tools_split_words(const char* pretokenizer, const char* text, size_t text_size,
                                              size_t* ends, size_t capacity, size_t* size);

/* The tokenizer of a GGUF file, which needs the tokenizer.* keys only, and no tensor. */
typedef struct binhdan_tools_tokenizer binhdan_tools_tokenizer;
BINHDAN_API int32_t binhdan_tools_tokenizer_open(const char* path, binhdan_tools_tokenizer** tokenizer);
BINHDAN_API void binhdan_tools_tokenizer_free(binhdan_tools_tokenizer* tokenizer);
/* Without BOS and EOS. */
BINHDAN_API int32_t binhdan_tools_tokenizer_encode(const binhdan_tools_tokenizer* tokenizer, const char* text,
                                                   size_t text_size, int32_t parse_special, int32_t* tokens,
                                                   size_t capacity, size_t* size);
BINHDAN_API int32_t binhdan_tools_tokenizer_decode(const binhdan_tools_tokenizer* tokenizer,
                                                   const int32_t* tokens, size_t n_tokens, int32_t special,
                                                   char* text, size_t capacity, size_t* size);

/* ---- measurements ----------------------------------------------------------------------------------------------- */

typedef struct {
  const char* name; /* "qkv", "attention", ...; "wait" is the time in barriers */
  int64_t calls;
  int64_t ns;     /* of one thread */
  uint64_t bytes; /* of weights, keys and values that all threads together read */
  uint64_t macs;  /* multiply-adds of all threads */
} binhdan_tools_op;
typedef struct {
  int64_t ns;
  size_t n_ops;
  binhdan_tools_op ops[32];
} binhdan_tools_pass;
/* Prefill of one sequence and decode steps of `sequences` sequences, all after `depth` positions without content. */
BINHDAN_API int32_t binhdan_tools_profile(binhdan_model model, int32_t threads, int64_t prompt_tokens,
                                          int64_t decode_tokens, int64_t depth, int64_t sequences,
                                          const char* kv_type, binhdan_tools_pass* prefill,
                                          binhdan_tools_pass* decode);
/* Multiply-adds per second in registers. format: "f32", "q8" or "bf16". 0: the table does not use the format. */
BINHDAN_API int32_t binhdan_tools_peak(const char* isa, const char* format, int32_t threads, double* rate);

/* cffi-end */

#ifdef __cplusplus
}
#endif
#endif

/* binhdan: run small Vietnamese language models on CPUs. The public C interface (C99 and later, C++, cffi).
 *
 * Simple use (examples/embed_c/embed.c is a complete program):
 *
 *     binhdan_model model;   binhdan_model_open("model.gguf", NULL, &model);
 *     binhdan_engine engine; binhdan_engine_create(model, NULL, &engine);
 *     binhdan_queue queue;   binhdan_queue_create(engine, &queue);
 *
 *     binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, messages, 1, 1, tokens, capacity, &count);
 *     binhdan_request request; binhdan_request_init(&request);
 *     request.tokens = tokens; request.n_tokens = count;
 *     binhdan_request_id id; binhdan_submit(engine, queue, &request, &id);
 *
 *     binhdan_event* event;
 *     while (binhdan_queue_next(queue, -1, &event) == BINHDAN_OK) {
 *       fwrite(event->text, 1, event->text_size, stdout);
 *       int ended = event->kind == BINHDAN_EVENT_FINISHED;
 *       binhdan_event_free(event);
 *       if (ended) break;
 *     }
 *
 * Contract
 * - Errors: every function that can fail returns a binhdan_status; 0 is success. binhdan_last_error() returns
 *   the message of the calling thread's last failure. A function writes its output arguments on success only;
 *   the exception is the size with BINHDAN_TOO_SMALL.
 * - Handles are integers and are never reused. 0 is never a handle. A closed handle gives
 *   BINHDAN_INVALID_HANDLE. Close handles in any order: an engine keeps its model until the engine is closed.
 * - Threads: call any function from any thread at any time, except where its comment says otherwise. The
 *   library calls the caller only through the log sink (binhdan_set_log_sink) and binhdan_progress.
 * - fork(): in the child, handles of the parent fail with BINHDAN_CLOSED. The child can open its own.
 * - The library never prints, aborts, exits or lets a C++ exception out. It reads the environment variable
 *   BINHDAN_ISA only.
 * - Text is UTF-8 with a size in bytes; it may contain NULs and needs no NUL at the end. Arguments of type
 *   const char* without a size are NUL-terminated.
 * - Output buffers: a function with (buffer, capacity, size) sets *size to the size of the result. When the
 *   capacity is less, it returns BINHDAN_TOO_SMALL: call it again with a buffer of *size. A buffer with
 *   capacity 0 may be NULL.
 * - Structs start with struct_size: set it to sizeof the struct, and the rest to zero (binhdan_request_init
 *   does this for requests). A later version of the library adds fields at the end, and reads and writes
 *   struct_size bytes only.
 * - Enum values are pinned: a later version never renumbers them.
 * - Versions: 0.x may break the ABI between minor versions. From 1.0, a break changes the SONAME's number.
 */
#ifndef BINHDAN_H
#define BINHDAN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(BINHDAN_BUILD)
#define BINHDAN_API __declspec(dllexport)
#else
#define BINHDAN_API __declspec(dllimport)
#endif
#else
#define BINHDAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* cffi-begin: the Python client reads the declarations between these marks, without BINHDAN_API. */

typedef uint64_t binhdan_model;      /* an open model file: weights and vocabulary */
typedef uint64_t binhdan_engine;     /* runs requests on a model; owns threads and KV memory */
typedef uint64_t binhdan_queue;      /* receives the events of requests */
typedef uint64_t binhdan_request_id; /* a submitted request */
typedef uint64_t binhdan_adapter;    /* an open LoRA adapter of a model */

typedef enum {
  BINHDAN_OK = 0,
  BINHDAN_INVALID_ARGUMENT = 1,
  BINHDAN_INVALID_HANDLE = 2,
  BINHDAN_NOT_FOUND = 3,
  BINHDAN_IO = 4,          /* the operating system reported an error, or the model file was truncated */
  BINHDAN_BAD_FORMAT = 5,  /* not a model file, or a damaged one */
  BINHDAN_UNSUPPORTED = 6, /* an architecture, tensor type or instruction set that this build or CPU lacks */
  BINHDAN_OUT_OF_MEMORY = 7,
  BINHDAN_TOO_LARGE = 8, /* more tokens than the context, or an argument above a limit */
  BINHDAN_BUSY = 9,      /* max_waiting requests are waiting */
  BINHDAN_CLOSED = 10,   /* another thread closed the handle, or this is a forked child */
  BINHDAN_INTERNAL = 11, /* an error of the library: please report it */
  BINHDAN_TOO_SMALL = 12 /* the output buffer is too small; the size argument has the required size */
} binhdan_status;

/* ---- library -------------------------------------------------------------------------------------- */

BINHDAN_API const char* binhdan_version(void);               /* "0.1.0" */
BINHDAN_API const char* binhdan_status_name(int32_t status); /* "BAD_FORMAT"; "UNKNOWN" for other values */
/* The message of the calling thread's last failure: what was expected, what came, and where. "" before the
 * first failure. Valid until the thread's next failure. */
BINHDAN_API const char* binhdan_last_error(void);

/* Sets the function that receives log messages. level: 0 debug, 1 info, 2 warning. Threads of the library and
 * of the caller call the sink, also at the same time. The sink must not call the library. NULL (the default)
 * drops messages. */
typedef void (*binhdan_log_sink)(void* user, int32_t level, const char* message);
BINHDAN_API void binhdan_set_log_sink(binhdan_log_sink sink, void* user);

/* The names of the kernel tables in this build, best last, separated by spaces: "scalar avx2". */
BINHDAN_API const char* binhdan_isas(void);
/* The processor's name; "" when unknown. */
BINHDAN_API const char* binhdan_cpu_name(void);
/* The number of cores that this process may use: the smaller of its CPU affinity and its cgroup quota. */
BINHDAN_API int32_t binhdan_usable_cores(void);
/* Measures the memory bandwidth of `threads` threads together. Takes about half a second. */
BINHDAN_API int32_t binhdan_measure_bandwidth(int32_t threads, double* bytes_per_second);

/* ---- model ---------------------------------------------------------------------------------------- */

/* How the final hidden states of a text's tokens become one embedding. */
typedef enum {
  BINHDAN_POOLING_AUTO = 0, /* what the model file specifies; mean when it specifies nothing or "none" */
  BINHDAN_POOLING_MEAN = 1,
  BINHDAN_POOLING_CLS = 2, /* the first token */
  BINHDAN_POOLING_LAST = 3,
  BINHDAN_POOLING_RANK = 4 /* one value, the score of the model's classifier. For rerankers only */
} binhdan_pooling;

enum {
  BINHDAN_MODEL_NO_MEMORY_CHECK =
      1,                          /* load the weights even if the memory that is available seems too small */
  BINHDAN_MODEL_NO_PACK_FILE = 2, /* do not use the pack file beside the model; see binhdan_model_pack */
  BINHDAN_MODEL_VOCABULARY_ONLY = 4 /* read no weights: the model tokenizes, but has no engine */
};

/* Called by binhdan_model_open in its thread, with the part of the weights that is loaded, 0 to 1. Returns 1, or 0 to
 * end the loading: binhdan_model_open then returns BINHDAN_CLOSED. It must not call the library. */
typedef int32_t (*binhdan_progress)(void* user, float done);

typedef struct {
  uint32_t struct_size;
  int32_t threads; /* threads that pack the weights; 0 = as an engine */
  const char* isa; /* kernel table to use; NULL = environment variable BINHDAN_ISA, else the best that runs */
  uint32_t flags;
  binhdan_progress progress; /* NULL = none; not called when a pack file is used */
  void* progress_user;       /* its first argument */
} binhdan_model_options;

typedef struct {
  uint32_t struct_size;
  char architecture[32];
  char isa[32];        /* the kernel table in use */
  uint64_t parameters; /* weights in all tensors */
  uint64_t file_bytes;
  uint64_t weight_bytes;       /* memory of the weights in the kernels' layout */
  uint64_t bytes_per_token;    /* weights read to decode one token */
  uint64_t kv_bytes_per_token; /* with BINHDAN_KV_F16 */
  int32_t context;             /* context length that the model was trained for */
  int32_t vocabulary;          /* number of tokens */
  int32_t embedding;           /* width of hidden states and of embeddings */
  int32_t layers;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t bos, eos;         /* token ids; -1 = none */
  int32_t chat_family;      /* what BINHDAN_CHAT_AUTO selects for this model */
  int32_t pooling;          /* what BINHDAN_POOLING_AUTO selects for this model */
  int32_t causal;           /* 0: an encoder, which embeds and generates no text */
  int32_t unknown, padding; /* token ids; -1 = none */
} binhdan_model_info;

/* Opens a GGUF file. For a split model, path is that of the first part. An open descriptor of a file or of memory
 * (memfd_create) is /dev/fd/N on Linux and macOS. options may be NULL. Fails with
 * BINHDAN_OUT_OF_MEMORY before it allocates, if the weights need more than the available memory. */
BINHDAN_API int32_t binhdan_model_open(const char* path, const binhdan_model_options* options,
                                       binhdan_model* model);
BINHDAN_API int32_t binhdan_model_close(binhdan_model model);
/* Packs the weights of a GGUF file into a pack file; output NULL = path + ".pack". binhdan_model_open maps the
 * file of this name instead of packing, if it belongs to the model: size, time of the last change and a hash of
 * the model, and a checksum of the weights must match. All kernel tables have the same layout. */
BINHDAN_API int32_t binhdan_model_pack(const char* path, const binhdan_model_options* options,
                                       const char* output);
/* Fills *info. Set info->struct_size first. */
BINHDAN_API int32_t binhdan_model_describe(binhdan_model model, binhdan_model_info* info);
/* Reads a string from the file's metadata, e.g. "general.name". BINHDAN_NOT_FOUND when there is no string under
 * this key. "tokenizer.chat_template" is the first template of a file that has only named ones. */
BINHDAN_API int32_t binhdan_model_metadata(binhdan_model model, const char* key, char* text, size_t capacity,
                                           size_t* size);
/* The warnings of binhdan_model_open, one per line: keys of the file that are ignored, or missing keys that a
 * default replaces. Empty for most files. The log sink receives them, too. */
BINHDAN_API int32_t binhdan_model_warnings(binhdan_model model, char* text, size_t capacity, size_t* size);
/* Describes any GGUF file as one JSON object without loading it: metadata, tensors, vocabulary, and whether
 * this build supports it. */
BINHDAN_API int32_t binhdan_inspect(const char* path, char* json, size_t capacity, size_t* size);

/* ---- adapters ------------------------------------------------------------------------------------- */

typedef struct {
  uint32_t struct_size;
  int32_t rank;        /* the largest */
  uint64_t parameters; /* weights in the file */
  uint64_t bytes;      /* of memory */
  uint64_t cache_salt; /* in the prefix cache, its requests have their own cache_salt XOR this one: pass that
                        * to binhdan_session_save and binhdan_session_load */
} binhdan_adapter_info;

/* Opens a LoRA adapter, a GGUF file in llama.cpp's format, for requests of engines of this model; the weights of the
 * model stay as they are, and requests with different adapters run together. Its weights are kept as float16.
 * BINHDAN_UNSUPPORTED for one of another architecture or with tensors that cannot be changed, BINHDAN_BAD_FORMAT for
 * shapes that do not fit the model. */
BINHDAN_API int32_t binhdan_adapter_open(binhdan_model model, const char* path, binhdan_adapter* adapter);
/* Requests that use it continue. */
BINHDAN_API int32_t binhdan_adapter_close(binhdan_adapter adapter);
/* Fills *info. Set info->struct_size first. */
BINHDAN_API int32_t binhdan_adapter_describe(binhdan_adapter adapter, binhdan_adapter_info* info);

/* ---- text ----------------------------------------------------------------------------------------- */

enum {
  BINHDAN_ADD_SPECIAL = 1,   /* tokenize: add BOS and EOS as the vocabulary specifies */
  BINHDAN_PARSE_SPECIAL = 2, /* tokenize: text such as "<|im_end|>" becomes the control token. Never set it
                              * for users' text */
  BINHDAN_WRITE_SPECIAL = 2  /* detokenize: write the text of control tokens */
};

typedef struct {
  const char* text;
  size_t size;
  int32_t markup; /* 1: text of a template, which may contain control tokens; 0: content, which may not */
} binhdan_segment;

typedef struct {
  const char* role; /* "system", "user", "assistant" or "tool" */
  const char* content;
  size_t size; /* of content, in bytes */
} binhdan_message;

typedef enum {
  BINHDAN_CHAT_AUTO = -1,  /* the family of the file's chat template; see binhdan_chat_tokenize */
  BINHDAN_CHAT_PLAIN = 0,  /* "User: " and "Assistant: "; add "\nUser:" to the request's stop texts */
  BINHDAN_CHAT_CHATML = 1, /* "<|im_start|>": Qwen, SmolLM2 */
  BINHDAN_CHAT_LLAMA2 = 2, /* "[INST]" */
  BINHDAN_CHAT_LLAMA3 = 3  /* "<|start_header_id|>" */
} binhdan_chat_family;

/* Tokenizes the exact bytes, without normalization. A text of n bytes has at most n + 8 tokens. */
BINHDAN_API int32_t binhdan_tokenize(binhdan_model model, const char* text, size_t size, uint32_t flags,
                                     int32_t* tokens, size_t capacity, size_t* count);
/* Tokenizes a rendered chat template. A control token is recognized inside one markup segment, never in
 * content and never across two segments. flags: BINHDAN_ADD_SPECIAL or 0. */
BINHDAN_API int32_t binhdan_tokenize_segments(binhdan_model model, const binhdan_segment* segments,
                                              size_t n_segments, uint32_t flags, int32_t* tokens,
                                              size_t capacity, size_t* count);
/* Tokenizes a conversation. With add_generation_prompt = 1 the prompt ends where the model's answer starts.
 * Content is normalized to NFC and never parsed for control tokens.
 *
 * The library does not run Jinja. It writes the turns of `family`. When the file's chat template is of the
 * same family, it takes these features from the template: BOS, the default system message, tool responses
 * (ChatML) and reasoning (Qwen3, with thinking off). For the templates of Qwen2, Qwen2.5, Qwen3, SmolLM2,
 * Llama 2 and Llama 3 the tokens equal those of the rendered template. With any other template,
 * BINHDAN_CHAT_AUTO selects the family whose turn markers the template contains; else the family of the
 * vocabulary's control tokens; else PLAIN. Text that only such a template adds, for example the dates of
 * Llama 3.1, is then missing from the prompt. For the exact prompt, render the template yourself and call
 * binhdan_tokenize_segments. */
BINHDAN_API int32_t binhdan_chat_tokenize(binhdan_model model, int32_t family,
                                          const binhdan_message* messages, size_t n_messages,
                                          int32_t add_generation_prompt, int32_t* tokens, size_t capacity,
                                          size_t* count);
/* Tokenizes a query and a document for a reranker (BINHDAN_POOLING_RANK). It fills the file's template
 * "tokenizer.chat_template.rerank" if there is one. Otherwise the tokens are those of the two texts, each with
 * the BOS and EOS that the vocabulary specifies, but one BOS, and SEP between the texts if the file specifies
 * it. The texts are normalized to NFC and never parsed for control tokens. */
BINHDAN_API int32_t binhdan_tokenize_pair(binhdan_model model, const char* query, size_t query_size,
                                          const char* document, size_t document_size, int32_t* tokens,
                                          size_t capacity, size_t* count);
/* Returns the exact bytes of the tokens. flags: BINHDAN_WRITE_SPECIAL or 0; with 0, control tokens have no
 * text. */
BINHDAN_API int32_t binhdan_detokenize(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                       uint32_t flags, char* text, size_t capacity, size_t* size);
/* Normalizes text to Unicode NFC. Bytes that are not UTF-8 stay as they are. */
BINHDAN_API int32_t binhdan_normalize(const char* text, size_t size, char* out, size_t capacity,
                                      size_t* out_size);
/* Sets *role to 1 when the token ends an answer, 2 for another control token, 0 for text. */
BINHDAN_API int32_t binhdan_token_role(binhdan_model model, int32_t token, int32_t* role);

/* ---- engine --------------------------------------------------------------------------------------- */

enum {
  BINHDAN_MANUAL_STEP = 1,     /* the engine has no thread: call binhdan_engine_step */
  BINHDAN_DETERMINISTIC = 2,   /* an answer has the same bits in any batch; prefill is slower */
  BINHDAN_NO_PREFIX_CACHE = 4, /* the engine has no prefix cache: it frees a request's KV pages at its end */
  BINHDAN_NO_MEMORY_CHECK = 8  /* create the engine even if the memory that is available seems too small */
};

typedef enum {
  BINHDAN_KV_F16 = 0, /* 16 bits per element */
  BINHDAN_KV_Q8_0 =
      1 /* 8.5 bits per element: nearly twice the tokens in the same memory, slightly less exact */
} binhdan_kv_type;

typedef struct {
  uint32_t struct_size;
  uint32_t flags;
  int32_t threads; /* 0 = usable cores; on big.LITTLE, the big ones; for a model of less than 16 MB, one.
                                * While other programs use the cores, fewer threads run where that is faster */
  int32_t context; /* maximum tokens of a sequence; 0 = the model's context */
  int32_t max_sequences;       /* generations that run together; 0 = 8. prefill_chunk limits embeddings */
  int32_t max_waiting;         /* requests that wait; 0 = 256; above it binhdan_submit returns BINHDAN_BUSY */
  int32_t prefill_chunk;       /* maximum prompt tokens in a step; 0 = 512 */
  int32_t max_decode_stall_ms; /* approximate limit, in ms, of the time that prompt tokens add to a step with
                                * decoding sequences; 0 = 250 */
  uint64_t max_kv_bytes;       /* memory for keys and values, with the prefix cache; if one full sequence does
                                * not fit, context is reduced; 0 = a quarter of the usable memory, or half of
                                * the available memory if that is less */
  const char* cache_folder;    /* keeps the prefix cache on disk over a restart; the files reveal the texts;
                                * NULL = memory only */
  uint64_t max_cache_folder_bytes; /* 0 = 4 GiB */
  int32_t kv_type;                 /* binhdan_kv_type */
  binhdan_model draft; /* a smaller model with the same tokens, which guesses tokens of answers where
                                    * that is faster (max_draft_tokens); 0 = none. The engine keeps it open */
} binhdan_engine_options;

typedef struct {
  uint32_t struct_size;
  int32_t threads;
  int32_t context;
  int32_t max_sequences;
  int32_t running; /* requests */
  int32_t waiting;
  uint64_t kv_bytes;     /* keys and values of running requests, without what they share with the cache */
  uint64_t max_kv_bytes; /* limit of kv_bytes + cache_bytes */
  uint64_t cache_bytes;  /* of the prefix cache */
} binhdan_engine_info;

/* Creates an engine and starts its thread. options may be NULL. Fails with BINHDAN_OUT_OF_MEMORY before it
 * allocates, if one sequence of `context` tokens and the buffers need more than the available memory. */
BINHDAN_API int32_t binhdan_engine_create(binhdan_model model, const binhdan_engine_options* options,
                                          binhdan_engine* engine);
/* Cancels all requests and joins the engine thread. The queues still deliver the last events. */
BINHDAN_API int32_t binhdan_engine_close(binhdan_engine engine);
/* Fills *info. Set info->struct_size first. */
BINHDAN_API int32_t binhdan_engine_describe(binhdan_engine engine, binhdan_engine_info* info);
/* For BINHDAN_MANUAL_STEP: computes one batch. Sets *busy to 1 if another step can make progress without a
 * further call, such as binhdan_set_mask, and to 0 otherwise. */
BINHDAN_API int32_t binhdan_engine_step(binhdan_engine engine, int32_t* busy);

/* ---- requests ------------------------------------------------------------------------------------- */

typedef enum {
  BINHDAN_GENERATE = 0,
  BINHDAN_EMBED = 1, /* the pooled final hidden states of the prompt, scaled to length 1 */
  BINHDAN_SCORE = 2, /* the log probability of each token from score_from on, after the tokens before it */
  BINHDAN_LOGITS = 3 /* the logits after the last token, one for each token of the vocabulary */
} binhdan_request_kind;

enum {
  BINHDAN_IGNORE_EOS = 1,        /* continue after an end token */
  BINHDAN_USE_MASK = 2,          /* the caller passes a token mask before each token: binhdan_set_mask */
  BINHDAN_SKIP_PREFIX_CACHE = 4, /* this request neither reads nor writes the engine's prefix cache */
  BINHDAN_NO_NORMALIZE = 8       /* EMBED: do not scale the embedding to length 1, or the score to 0 to 1 */
};

typedef struct {
  int32_t token;
  float value;
} binhdan_token_value;

typedef struct {
  const char* text;
  size_t size;
} binhdan_text;

/* binhdan_submit copies everything that the pointers refer to. */
typedef struct {
  uint32_t struct_size;
  int32_t kind; /* binhdan_request_kind */
  uint32_t flags;
  int32_t max_tokens;    /* of the answer; -1 = as many as the context holds */
  const int32_t* tokens; /* the prompt */
  size_t n_tokens;
  float temperature;        /* 0 = greedy: the most likely token */
  int32_t top_k;            /* 0 = off */
  float top_p;              /* 1 = off */
  float min_p;              /* 0 = off */
  float repetition_penalty; /* 1 = off; over prompt and answer (Keskar et al. 2019) */
  float presence_penalty;   /* 0 = off; over the answer, as in OpenAI's API */
  float frequency_penalty;  /* 0 = off; over the answer, as in OpenAI's API */
  int32_t top_logprobs;     /* log probabilities. -1: none; 0: of the chosen token; 1 to 20: also of so many
                             * most likely tokens. SCORE: so many most likely tokens, for each scored token */
  uint64_t seed;
  const binhdan_token_value* logit_bias; /* added to the logits */
  size_t n_logit_bias;
  const binhdan_text* stop; /* the answer ends before the first of these texts */
  size_t n_stop;
  uint64_t cache_salt; /* requests with different salts share nothing in the prefix cache */
  int32_t pooling;     /* EMBED: binhdan_pooling */
  int32_t dimensions;  /* EMBED: keep the first values of the embedding, for models that were trained for it
                        * (Kusupati et al. 2022); before it is scaled. 0 = all */
  int32_t
      loop_guard; /* 16 or more: the answer ends when its last tokens repeat one part of up to 256 tokens, at
                        * least 4 times and over at least so many tokens. 0 = off */
  int32_t
      max_draft_tokens; /* 1 to 15: guesses up to so many tokens of a step from earlier occurrences of the last
                             * tokens or with the engine's draft model, and verifies them in one step: faster where
                             * the guesses are right. The answer does not change. 0 = off */
  size_t score_from;    /* SCORE: the first token that is scored, from 1 to n_tokens - 1 */
  binhdan_adapter adapter;    /* of the engine's model; 0 = none */
  const int32_t* stop_tokens; /* the answer ends before the first of these tokens */
  size_t n_stop_tokens;
  int32_t
      min_tokens; /* the first so many tokens of the answer contain no end token and no stop token, and stop
                       * texts and loop_guard have no effect on them */
} binhdan_request;

typedef enum {
  BINHDAN_EVENT_TOKEN = 1,
  BINHDAN_EVENT_FINISHED = 2, /* the last event of every request */
  BINHDAN_EVENT_EMBEDDING = 3,
  BINHDAN_EVENT_SCORES = 4,
  BINHDAN_EVENT_LOGITS = 5
} binhdan_event_kind;

typedef enum {
  BINHDAN_FINISH_STOP = 1,    /* an end token, a stop text, or a mask that allows no token */
  BINHDAN_FINISH_LENGTH = 2,  /* max_tokens */
  BINHDAN_FINISH_CONTEXT = 3, /* the context is full */
  BINHDAN_FINISH_CANCELLED = 4,
  BINHDAN_FINISH_ERROR = 5,     /* see status and text */
  BINHDAN_FINISH_REPETITION = 6 /* loop_guard */
} binhdan_finish;

typedef struct {
  uint32_t struct_size;
  int32_t kind; /* binhdan_event_kind; the comments below name the kinds that set a field */
  binhdan_request_id request;
  int32_t token;    /* TOKEN. FINISHED: the end token or stop token that ended the answer; -1: none */
  float logprob;    /* TOKEN with top_logprobs >= 0: natural log of the model's own probability */
  const char* text; /* TOKEN, FINISHED: new text in whole UTF-8 characters, NUL-terminated; may be empty */
  size_t text_size;
  const binhdan_token_value*
      top; /* TOKEN: the most likely tokens with log probabilities, best first. SCORES: those
                                   * of each scored token in turn, top_logprobs each; token -1: there is none */
  size_t n_top;
  const float* values; /* EMBEDDING, SCORES, LOGITS */
  size_t n_values;
  int32_t finish;        /* FINISHED: binhdan_finish */
  int32_t status;        /* FINISHED with BINHDAN_FINISH_ERROR: binhdan_status; text is the message */
  int32_t prompt_tokens; /* FINISHED, as all fields below */
  int32_t answer_tokens;
  int64_t queue_ns;        /* from submit to the start of prefill */
  int64_t prefill_ns;      /* from there to the first token */
  int64_t decode_ns;       /* from the first token to the last */
  int32_t cached_tokens;   /* prompt tokens that came from the prefix cache */
  int32_t drafted_tokens;  /* guessed for max_draft_tokens */
  int32_t accepted_tokens; /* of the answer that were guessed */
  int32_t stop_text;       /* the index of the stop text that ended the answer; -1: none */
} binhdan_event;

/* Creates a queue for the events of any number of requests of this engine. */
BINHDAN_API int32_t binhdan_queue_create(binhdan_engine engine, binhdan_queue* queue);
/* Cancels the requests whose events go to this queue, and drops its events. */
BINHDAN_API int32_t binhdan_queue_close(binhdan_queue queue);
/* Waits up to timeout_ms (-1 = without limit) for the next event. Free it with binhdan_event_free. If none
 * arrives in this time, sets *event to NULL and returns BINHDAN_OK. Returns BINHDAN_CLOSED if the queue is
 * closed during the call, or if the engine is closed and all events of the queue were read. */
BINHDAN_API int32_t binhdan_queue_next(binhdan_queue queue, int32_t timeout_ms, binhdan_event** event);
/* A descriptor for poll() and epoll, readable while the queue has events. The queue owns it: do not read or
 * close it. BINHDAN_UNSUPPORTED on Windows. */
BINHDAN_API int32_t binhdan_queue_fd(binhdan_queue queue, int32_t* fd);
BINHDAN_API void binhdan_event_free(binhdan_event* event); /* NULL is allowed */

/* Sets struct_size and the defaults: greedy, no limits, everything else off. `size` is sizeof(binhdan_request) of the
 * caller. In C and C++, binhdan_request_init(&request) is a macro that passes it; programs of version 0.1 call the
 * function of this name, which knows the fields of that version. */
BINHDAN_API void binhdan_request_init_sized(binhdan_request* request, size_t size);
BINHDAN_API void binhdan_request_init(binhdan_request* request);
/* Submits a request and returns at once. Returns the errors of the request itself, e.g. BINHDAN_TOO_LARGE for
 * a prompt that is longer than the context; later errors come as a FINISHED event. */
BINHDAN_API int32_t binhdan_submit(binhdan_engine engine, binhdan_queue queue, const binhdan_request* request,
                                   binhdan_request_id* id);
/* Ends the request before its next token; its FINISHED event follows. Returns BINHDAN_OK also for a request
 * that has already ended. */
BINHDAN_API int32_t binhdan_cancel(binhdan_engine engine, binhdan_request_id id);
/* Passes the mask for the next token of a request with BINHDAN_USE_MASK: bit t of words (bit t % 32 of word
 * t / 32) allows token t. n_words is the vocabulary / 32, rounded up, or 0: allows no token. Every token needs its
 * own mask, also the first one; the request waits for it while others run. A mask that allows no token ends the
 * answer. */
BINHDAN_API int32_t binhdan_set_mask(binhdan_engine engine, binhdan_request_id id, const uint32_t* words,
                                     size_t n_words);

/* ---- restoring diacritics ------------------------------------------------------------------------- */

typedef uint64_t binhdan_restorer; /* an open n-gram file of Vietnamese syllables */

/* Where the tone mark of oa, oe and uy is. */
typedef enum {
  BINHDAN_STYLE_KEEP = 0, /* typed tones keep their place; others follow them, or have the old place */
  BINHDAN_STYLE_NEW = 1,  /* on the second vowel */
  BINHDAN_STYLE_OLD = 2   /* on the first vowel */
} binhdan_style;

/* What of a text is natural language; the rest never changes. */
typedef enum {
  BINHDAN_FORMAT_TEXT = 0,
  BINHDAN_FORMAT_HTML = 1,     /* also XML: no tags, entities, scripts, styles and code */
  BINHDAN_FORMAT_MARKDOWN = 2, /* also no code and link targets */
  BINHDAN_FORMAT_SRT = 3,      /* also WebVTT: no times and tags */
  BINHDAN_FORMAT_CSV = 4,      /* all but the first line */
  BINHDAN_FORMAT_JSON = 5,     /* strings that are values */
  BINHDAN_FORMAT_PO = 6,       /* translations */
  BINHDAN_FORMAT_CODE = 7      /* comments that start with #, // or slash-star */
} binhdan_text_format;

/* The keys of an input method, from which text is restored: "tieesng", "tie6ng1" for "tiếng". */
typedef enum { BINHDAN_TYPING_NONE = 0, BINHDAN_TYPING_TELEX = 1, BINHDAN_TYPING_VNI = 2 } binhdan_typing;

typedef struct {
  uint32_t struct_size;
  int32_t style;        /* binhdan_style */
  int32_t format;       /* binhdan_text_format */
  float min_confidence; /* 0 to 1: a word with a lower probability stays as it is; 0 = off */
  int32_t typing;       /* binhdan_typing; a word that is no syllable of these keys stays */
  int32_t fast;         /* 1: the n-grams only, without the scorer */
} binhdan_restore_options;

/* Opens an n-gram file: restore-vi.bin of the Python package, or one that examples/train_restorer made. */
BINHDAN_API int32_t binhdan_restorer_open(const char* path, binhdan_restorer* restorer);
/* The same with a scorer, a small network that decides doubtful words: restore-vi-scorer.bin. It belongs to the n-gram
 * file that it was made with; BINHDAN_BAD_FORMAT for another one. */
BINHDAN_API int32_t binhdan_restorer_open_scored(const char* path, const char* scorer_path,
                                                 binhdan_restorer* restorer);
BINHDAN_API int32_t binhdan_restorer_close(binhdan_restorer restorer);
/* The file's card as JSON: sources, licence, counts. */
BINHDAN_API int32_t binhdan_restorer_card(binhdan_restorer restorer, char* json, size_t capacity,
                                          size_t* size);
/* Restores the diacritics of Vietnamese text, and changes nothing else. Typed marks stay, and a text that has all its
 * marks stays. Links, e-mail addresses, handles, paths, code and lines that are not UTF-8 stay. options may be NULL. The
 * result has at most 3 times the bytes of the text. BINHDAN_INVALID_ARGUMENT for a text with a NUL byte. After the first
 * calls of a thread with texts of a size, further calls allocate nothing. */
BINHDAN_API int32_t binhdan_restore(binhdan_restorer restorer, const char* text, size_t size,
                                    const binhdan_restore_options* options, char* out, size_t capacity,
                                    size_t* out_size);
/* Restores and explains. JSON: {"text": the result, "choices": [{"begin", "end" (bytes of the input), "alternatives":
 * [{"text", "probability"}, ...] (best first, at most 5)}, ...]}; one choice for each word that had one. A probability
 * is over the likely forms of the whole sentence. */
BINHDAN_API int32_t binhdan_restore_explain(binhdan_restorer restorer, const char* text, size_t size,
                                            const binhdan_restore_options* options, char* json,
                                            size_t capacity, size_t* json_size);

typedef struct {
  uint32_t struct_size;
  int32_t format;       /* binhdan_text_format */
  float min_confidence; /* 0 to 1: a word whose best suggestion has a lower probability is not reported */
} binhdan_spell_options;

/* Finds misspelled Vietnamese words in text with marks. Names stay, and so do sentences in which few words have marks. JSON:
 * {"text": with the first suggestions, "misspellings": [{"begin", "end" (bytes of the input), "suggestions": [{"text",
 * "probability"}, ...] (best first, 1 to 5)}, ...]}. options may be NULL: text, 0.7. BINHDAN_INVALID_ARGUMENT for a text
 * with a NUL byte. */
BINHDAN_API int32_t binhdan_spell(binhdan_restorer restorer, const char* text, size_t size,
                                  const binhdan_spell_options* options, char* json, size_t capacity,
                                  size_t* json_size);

/* ---- sessions ------------------------------------------------------------------------------------- */

/* Writes the keys and values that the engine's prefix cache has of these tokens to a file, with a note of the caller.
 * A later load continues there without computing them again. Their last, incomplete page of 64 tokens is not
 * saved. The file appears whole or not at all. It reveals the texts. BINHDAN_IO when it cannot be written;
 * BINHDAN_INVALID_ARGUMENT for an engine without prefix cache. */
BINHDAN_API int32_t binhdan_session_save(binhdan_engine engine, const char* path, const int32_t* tokens,
                                         size_t n_tokens, uint64_t cache_salt, const char* note,
                                         size_t note_size);
/* Puts the keys and values of a file into the prefix cache, and returns its note. BINHDAN_BAD_FORMAT for a file that
 * is damaged; BINHDAN_UNSUPPORTED for one of another model, kernel table, KV type or cache_salt: compute the prompt again. */
BINHDAN_API int32_t binhdan_session_load(binhdan_engine engine, const char* path, uint64_t cache_salt,
                                         char* note, size_t capacity, size_t* note_size);

/* cffi-end */

#ifndef BINHDAN_BUILD
#define binhdan_request_init(request) binhdan_request_init_sized((request), sizeof *(request))
#endif

#ifdef __cplusplus
}
#endif
#endif

/* binhdan: Vietnamese assistants on ordinary machines. The public C interface (C99 and later, C++, cffi).
 *
 * The simple way, in order (examples/embed_c/embed.c is the whole program):
 *
 *     binhdan_model model;   binhdan_model_open("model.gguf", NULL, &model);
 *     binhdan_engine engine; binhdan_engine_create(model, NULL, &engine);
 *     binhdan_queue queue;   binhdan_queue_create(engine, &queue);
 *     binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, messages, 1, 1, tokens, capacity, &count);
 *     binhdan_request request; binhdan_request_init(&request);
 *     request.tokens = tokens; request.n_tokens = count;
 *     binhdan_submit(engine, queue, &request, &id);
 *     while (binhdan_queue_next(queue, -1, &event) == BINHDAN_OK && event) {
 *       ...
 *       binhdan_event_free(event);
 *     }
 *
 * The contract
 * - Every function that can fail returns a binhdan_status; 0 is success. binhdan_last_error() has the
 *   message of the calling thread's last failure: what was expected, what came, and where. Output
 *   arguments are written on success only, except sizes with BINHDAN_TOO_SMALL.
 * - Handles are integers, never reused: closing twice or using after close gives BINHDAN_INVALID_HANDLE.
 *   0 is never a handle. Handles may be closed in any order; what a handle needs stays alive until it is
 *   closed too.
 * - Every function may be called from any thread at any time, except where a function says otherwise.
 *   After fork(), handles made before fail with BINHDAN_CLOSED in the child; it may open its own.
 * - The library never prints, aborts, exits, or lets a C++ exception out.
 * - Text is UTF-8 with an explicit size in bytes; it need not end with NUL and may hold NULs.
 * - Structs begin with struct_size, set by the _init function or to sizeof by hand; later versions add
 *   fields at the end and read only what struct_size covers. Values of enums are pinned: they are never
 *   renumbered.
 * - Versions: 0.x may break the ABI between minor versions. From 1.0 on, the SONAME's number changes when
 *   it breaks.
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

typedef uint64_t binhdan_model;  /* an open model file: weights and vocabulary */
typedef uint64_t binhdan_engine; /* runs requests on a model: threads and KV memory */
typedef uint64_t binhdan_queue;  /* where the events of requests wait */
typedef uint64_t binhdan_id;     /* a submitted request */

typedef enum {
  BINHDAN_OK = 0,
  BINHDAN_INVALID_ARGUMENT = 1,
  BINHDAN_INVALID_HANDLE = 2,
  BINHDAN_NOT_FOUND = 3,
  BINHDAN_IO = 4,
  BINHDAN_BAD_FORMAT = 5,  /* the model file is damaged or not one */
  BINHDAN_UNSUPPORTED = 6, /* an architecture, type or instruction set that this build or CPU lacks */
  BINHDAN_OUT_OF_MEMORY = 7,
  BINHDAN_TOO_LARGE = 8, /* more tokens than the context, more requests than the limit */
  BINHDAN_BUSY = 9,
  BINHDAN_CLOSED = 10, /* closed by another thread meanwhile, or a forked child */
  BINHDAN_INTERNAL = 11,
  BINHDAN_TOO_SMALL = 12 /* the output buffer; the size argument says what is needed */
} binhdan_status;

/* ---- library -------------------------------------------------------------------------------------- */

BINHDAN_API const char* binhdan_version(void);               /* "0.1.0" */
BINHDAN_API const char* binhdan_status_name(int32_t status); /* "BAD_FORMAT" */
/* The calling thread's last failure; "" when there was none. Valid until that thread's next call that
 * fails. */
BINHDAN_API const char* binhdan_last_error(void);

/* Messages that are no errors. level: 0 debug, 1 info, 2 warning. The sink may be called from any thread
 * and must not call back into the library. NULL (the default) drops them. */
typedef void (*binhdan_log_sink)(void* user, int32_t level, const char* message);
BINHDAN_API void binhdan_set_log_sink(binhdan_log_sink sink, void* user);

/* Names of the kernel tables in this build, best last, separated by spaces: "scalar avx2". */
BINHDAN_API const char* binhdan_isas(void);
/* The processor's name, "" when unknown. */
BINHDAN_API const char* binhdan_cpu_name(void);
/* Cores this process may use (affinity and cgroup quota considered). */
BINHDAN_API int32_t binhdan_usable_cores(void);
/* Bytes per second that `threads` threads read from memory together, measured now in about half a second. */
BINHDAN_API int32_t binhdan_measure_bandwidth(int32_t threads, double* bytes_per_second);

/* ---- model ---------------------------------------------------------------------------------------- */

typedef struct {
  uint32_t struct_size;
  int32_t threads; /* for packing the weights; 0 = usable cores */
  const char* isa; /* kernel table to force; NULL = environment BINHDAN_ISA, else the best that runs here */
} binhdan_model_options;

typedef struct {
  uint32_t struct_size;
  char architecture[32];
  char isa[32];
  uint64_t parameters; /* weights in all tensors */
  uint64_t file_bytes;
  uint64_t weight_bytes;       /* as held for computing */
  uint64_t bytes_per_token;    /* weights read to decode one token */
  uint64_t kv_bytes_per_token; /* with BINHDAN_KV_F16 */
  int32_t context;             /* tokens the model was made for */
  int32_t vocabulary;
  int32_t embedding; /* width of hidden states and of binhdan embeddings */
  int32_t layers;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t bos, eos;    /* -1 = none */
  int32_t chat_family; /* what BINHDAN_CHAT_AUTO stands for in this model */
} binhdan_model_info;

/* options may be NULL. Reads a GGUF file (its first part when it is split). */
BINHDAN_API int32_t binhdan_model_open(const char* path, const binhdan_model_options* options,
                                       binhdan_model* model);
BINHDAN_API int32_t binhdan_model_close(binhdan_model model);
/* Set info->struct_size before. */
BINHDAN_API int32_t binhdan_model_describe(binhdan_model model, binhdan_model_info* info);
/* A metadata value that is a string, e.g. "tokenizer.chat_template". BINHDAN_NOT_FOUND when there is none. */
BINHDAN_API int32_t binhdan_model_metadata(binhdan_model model, const char* key, char* text, size_t capacity,
                                           size_t* size);
/* A description of any GGUF file as one JSON object, without loading it: metadata, tensors, vocabulary,
 * what of it this build can run and why not. */
BINHDAN_API int32_t binhdan_inspect(const char* path, char* json, size_t capacity, size_t* size);

/* ---- text ----------------------------------------------------------------------------------------- */

enum {
  BINHDAN_ADD_SPECIAL = 1,  /* put BOS/EOS where the vocabulary asks for them */
  BINHDAN_PARSE_SPECIAL = 2 /* control tokens written in the text become themselves; never for users' text */
};

typedef struct {
  const char* text;
  size_t size;
  int32_t markup; /* 1: template text, where control tokens are recognised; 0: content, where not */
} binhdan_segment;

typedef struct {
  const char* role; /* "system", "user", "assistant" or "tool"; NUL-terminated */
  const char* content;
  size_t size;
} binhdan_message;

typedef enum {
  BINHDAN_CHAT_AUTO = -1,
  BINHDAN_CHAT_PLAIN = 0,
  BINHDAN_CHAT_CHATML = 1,
  BINHDAN_CHAT_LLAMA2 = 2,
  BINHDAN_CHAT_LLAMA3 = 3
} binhdan_chat_family;

/* Exact: no normalisation. A text of n bytes gives at most n + 8 tokens. */
BINHDAN_API int32_t binhdan_tokenize(binhdan_model model, const char* text, size_t size, uint32_t flags,
                                     int32_t* tokens, size_t capacity, size_t* count);
/* Control tokens are recognised inside one markup segment, never in content nor across a border. */
BINHDAN_API int32_t binhdan_tokenize_segments(binhdan_model model, const binhdan_segment* segments,
                                              size_t n_segments, uint32_t flags, int32_t* tokens,
                                              size_t capacity, size_t* count);
/* A conversation in a built-in chat family. Content is brought to NFC and never parsed for control tokens. */
BINHDAN_API int32_t binhdan_chat_tokenize(binhdan_model model, int32_t family,
                                          const binhdan_message* messages, size_t n_messages,
                                          int32_t add_generation_prompt, int32_t* tokens, size_t capacity,
                                          size_t* count);
/* Exact bytes of the tokens. With BINHDAN_PARSE_SPECIAL in flags control tokens are written out. */
BINHDAN_API int32_t binhdan_detokenize(binhdan_model model, const int32_t* tokens, size_t n_tokens,
                                       uint32_t flags, char* text, size_t capacity, size_t* size);
/* Unicode NFC. */
BINHDAN_API int32_t binhdan_normalize(const char* text, size_t size, char* out, size_t capacity,
                                      size_t* out_size);
/* 1 when the token ends an answer, 2 when it is another control token, 0 for text. */
BINHDAN_API int32_t binhdan_token_role(binhdan_model model, int32_t token, int32_t* role);

/* ---- engine --------------------------------------------------------------------------------------- */

enum {
  BINHDAN_MANUAL_STEP = 1,    /* no engine thread: binhdan_engine_step does the work */
  BINHDAN_DETERMINISTIC = 2,  /* one numeric class for all: batched answers equal single ones bit for bit */
  BINHDAN_NO_PREFIX_CACHE = 4 /* keys and values are forgotten with their request */
};

typedef enum {
  BINHDAN_KV_F16 = 0, /* 16 bits an element */
  BINHDAN_KV_Q8_0 = 1 /* 8.5 bits: nearly twice the tokens in the same memory, slightly less exact */
} binhdan_kv_type;

typedef struct {
  uint32_t struct_size;
  uint32_t flags;
  int32_t threads;             /* 0 = usable cores */
  int32_t context;             /* most tokens of one sequence; 0 = the model's */
  int32_t max_sequences;       /* running together; 0 = 8 */
  int32_t max_waiting;         /* further requests that may wait; 0 = 256 */
  int32_t prefill_chunk;       /* prompt tokens in one step; 0 = 512 */
  int32_t max_decode_stall_ms; /* about what prompts may add to a step in which others decode; 0 = 250 */
  uint64_t max_kv_bytes;       /* most memory for keys and values, kept ones too: the context is cut to it;
                          * 0 = a quarter of the machine's */
  const char* cache_folder;    /* keeps keys and values over a restart (they tell the texts); NULL = not */
  uint64_t max_cache_folder_bytes; /* most bytes there; 0 = 4 GiB */
  int32_t kv_type;                 /* binhdan_kv_type: how keys and values are kept */
} binhdan_engine_options;

typedef struct {
  uint32_t struct_size;
  int32_t threads;
  int32_t context;
  int32_t max_sequences;
  int32_t running;
  int32_t waiting;
  uint64_t kv_bytes;     /* held now by requests alone */
  uint64_t max_kv_bytes; /* for both */
  uint64_t cache_bytes;  /* kept for prompts that begin alike */
} binhdan_engine_info;

/* options may be NULL. */
BINHDAN_API int32_t binhdan_engine_create(binhdan_model model, const binhdan_engine_options* options,
                                          binhdan_engine* engine);
/* Cancels what runs (its FINISHED events still arrive in the queues) and joins the engine thread. */
BINHDAN_API int32_t binhdan_engine_close(binhdan_engine engine);
BINHDAN_API int32_t binhdan_engine_describe(binhdan_engine engine, binhdan_engine_info* info);
/* BINHDAN_MANUAL_STEP only, one caller at a time: computes one batch. *busy = 1 while there is work left. */
BINHDAN_API int32_t binhdan_engine_step(binhdan_engine engine, int32_t* busy);

/* ---- requests ------------------------------------------------------------------------------------- */

typedef enum {
  BINHDAN_GENERATE = 0,
  BINHDAN_EMBED = 1 /* mean of the final hidden states, scaled to length 1 */
} binhdan_request_kind;

enum {
  BINHDAN_IGNORE_EOS = 1,
  BINHDAN_USE_MASK = 2, /* the caller gives a token mask for every token: binhdan_set_mask */
  BINHDAN_NO_CACHE = 4  /* neither uses nor leaves anything in the prefix cache */
};

typedef struct {
  int32_t token;
  float value;
} binhdan_token_value;

typedef struct {
  const char* text;
  size_t size;
} binhdan_text;

typedef struct {
  uint32_t struct_size;
  int32_t kind;
  uint32_t flags;
  int32_t max_tokens;    /* -1 = as many as the context holds */
  const int32_t* tokens; /* the prompt; copied by submit, as everything else here */
  size_t n_tokens;
  float temperature;        /* 0 = greedy: the most likely token */
  int32_t top_k;            /* 0 = off */
  float top_p;              /* 1 = off */
  float min_p;              /* 0 = off */
  float repetition_penalty; /* 1 = off; over prompt and answer (Keskar et al. 2019) */
  float presence_penalty;   /* 0 = off; over the answer, as OpenAI defines them */
  float frequency_penalty;  /* 0 = off */
  int32_t top_logprobs;     /* -1 = no log probabilities; 0 = the token's own; up to 20 more */
  uint64_t seed;
  const binhdan_token_value* logit_bias;
  size_t n_logit_bias;
  const binhdan_text* stop; /* an answer ends before any of these texts */
  size_t n_stop;
  uint64_t cache_salt; /* requests with different salts share nothing in the prefix cache */
} binhdan_request;

typedef enum {
  BINHDAN_EVENT_TOKEN = 1,
  BINHDAN_EVENT_FINISHED = 2, /* the last event of every request */
  BINHDAN_EVENT_EMBEDDING = 3
} binhdan_event_kind;

typedef enum {
  BINHDAN_FINISH_STOP = 1,    /* an end token or a stop text */
  BINHDAN_FINISH_LENGTH = 2,  /* max_tokens */
  BINHDAN_FINISH_CONTEXT = 3, /* the context is full */
  BINHDAN_FINISH_CANCELLED = 4,
  BINHDAN_FINISH_ERROR = 5 /* status and text say what */
} binhdan_finish;

typedef struct {
  uint32_t struct_size;
  int32_t kind;
  binhdan_id request;
  int32_t token;    /* TOKEN */
  float logprob;    /* TOKEN with top_logprobs >= 0: natural log, of the model's own logits */
  const char* text; /* TOKEN, FINISHED: new text, whole UTF-8 characters, may be empty; NUL-ended */
  size_t text_size;
  const binhdan_token_value* top; /* TOKEN: the likeliest tokens with log probabilities, best first */
  size_t n_top;
  const float* values; /* EMBEDDING */
  size_t n_values;
  int32_t finish;        /* FINISHED */
  int32_t status;        /* FINISHED with BINHDAN_FINISH_ERROR: text is the message */
  int32_t prompt_tokens; /* FINISHED, and all below */
  int32_t answer_tokens;
  int64_t queue_ns;      /* submit to first computation */
  int64_t prefill_ns;    /* first computation to first token */
  int64_t decode_ns;     /* first token to last */
  int32_t cached_tokens; /* of the prompt, that were known already */
} binhdan_event;

BINHDAN_API int32_t binhdan_queue_create(binhdan_engine engine, binhdan_queue* queue);
/* Cancels the requests whose events would come here. */
BINHDAN_API int32_t binhdan_queue_close(binhdan_queue queue);
/* The next event, to be freed by binhdan_event_free; NULL when none came in timeout_ms (-1 = for ever).
 * BINHDAN_CLOSED when the queue is closed while waiting, or the engine is and nothing is left. */
BINHDAN_API int32_t binhdan_queue_next(binhdan_queue queue, int32_t timeout_ms, binhdan_event** event);
/* A descriptor that is readable while events wait. It belongs to the queue: do not read or close it. */
BINHDAN_API int32_t binhdan_queue_fd(binhdan_queue queue, int32_t* fd);
BINHDAN_API void binhdan_event_free(binhdan_event* event);

BINHDAN_API void binhdan_request_init(binhdan_request* request);
/* Returns at once. Errors of the request itself (too long, bad token, queue full) come from here. */
BINHDAN_API int32_t binhdan_submit(binhdan_engine engine, binhdan_queue queue, const binhdan_request* request,
                                   binhdan_id* id);
/* The request ends between two tokens, with an event. Cancelling an ended request is no error. */
BINHDAN_API int32_t binhdan_cancel(binhdan_engine engine, binhdan_id id);
/* For BINHDAN_USE_MASK: bit t of words (little end first) allows token t. Each token takes one mask, the
 * first token too; a request without its mask waits, the others go on. All bits zero ends the answer
 * (BINHDAN_FINISH_STOP). */
BINHDAN_API int32_t binhdan_set_mask(binhdan_engine engine, binhdan_id id, const uint32_t* words,
                                     size_t n_words);

/* cffi-end */

#ifdef __cplusplus
}
#endif
#endif

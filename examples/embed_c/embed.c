/* Asks a model one question and prints the answer as it comes:
 *
 *     embed MODEL.gguf "question"
 *
 * The whole C interface of binhdan in one page; binhdan.h states the contract. */
#include <binhdan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#endif

/* Prints the reason when a call has failed, and returns 1. */
static int failed(const char* what, int32_t status) {
  if (status == BINHDAN_OK) return 0;
  fprintf(stderr, "embed: %s: %s (%s)\n", what, binhdan_last_error(), binhdan_status_name(status));
  return 1;
}

static void print_stats(const binhdan_event* end) {
  double first_ms = (end->queue_ns + end->prefill_ns) / 1e6;
  /* Prefill computes the first token, decoding the others. */
  double rate = end->decode_ns > 0 ? (end->answer_tokens - 1) * 1e9 / end->decode_ns : 0;
  fprintf(stderr, "[%d prompt tokens, first token after %.0f ms; %d answer tokens, %.1f per second]\n",
          (int)end->prompt_tokens, first_ms, (int)end->answer_tokens, rate);
}

/* Prints the answer until the request has ended. Returns 0 on success. */
static int print_answer(binhdan_queue queue) {
  for (;;) {
    binhdan_event* event = NULL;
    int ended, result = 0;
    if (failed("wait", binhdan_queue_next(queue, -1, &event))) return 1;
    if (!event) continue;
    ended = event->kind == BINHDAN_EVENT_FINISHED;
    if (ended && event->finish == BINHDAN_FINISH_ERROR) {
      fprintf(stderr, "embed: answer: %s (%s)\n", event->text, binhdan_status_name(event->status));
      result = 1;
    } else if (fwrite(event->text, 1, event->text_size, stdout) != event->text_size || fflush(stdout) != 0) {
      perror("embed: write");
      ended = result = 1;
    } else if (ended) {
      putchar('\n');
      print_stats(event);
    }
    binhdan_event_free(event);
    if (ended) return result;
  }
}

/* Returns the tokens of the question in the model's chat format, to be freed; NULL after a failure. */
static int32_t* prompt(binhdan_model model, const char* question, size_t* count) {
  binhdan_message message = {"user", question, strlen(question)};
  int32_t* tokens;
  /* Without a buffer, the call returns the number of tokens. */
  int32_t status = binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, &message, 1, 1, NULL, 0, count);
  if (status != BINHDAN_TOO_SMALL && failed("tokenize", status)) return NULL;
  tokens = malloc(*count * sizeof *tokens);
  if (!tokens) {
    fprintf(stderr, "embed: out of memory for %zu tokens\n", *count);
    return NULL;
  }
  status = binhdan_chat_tokenize(model, BINHDAN_CHAT_AUTO, &message, 1, 1, tokens, *count, count);
  if (!failed("tokenize", status)) return tokens;
  free(tokens);
  return NULL;
}

static int ask(binhdan_model model, binhdan_engine engine, binhdan_queue queue, const char* question) {
  binhdan_request request;
  binhdan_request_id id;
  size_t count;
  int32_t status;
  int32_t* tokens = prompt(model, question, &count);
  if (!tokens) return 1;
  binhdan_request_init(&request);
  request.tokens = tokens;
  request.n_tokens = count;
  request.max_tokens = 512;
  status = binhdan_submit(engine, queue, &request, &id);
  free(tokens); /* submit has copied them */
  if (failed("submit", status)) return 1;
  return print_answer(queue);
}

int main(int argc, char** argv) {
  binhdan_model model;
  binhdan_engine engine;
  binhdan_queue queue;
  int result = 1;
  if (argc != 3) {
    fprintf(stderr, "usage: embed MODEL.gguf \"question\"\n");
    return 2;
  }
#ifdef _WIN32 /* main() gets the arguments in the ANSI code page; the library takes UTF-8 */
  wchar_t** wide = CommandLineToArgvW(GetCommandLineW(), &argc);
  for (int i = 1; i < argc; ++i) {
    int size = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
    if (size == 0 || !(argv[i] = malloc(size))) return 1;
    WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, argv[i], size, NULL, NULL);
  }
  SetConsoleOutputCP(CP_UTF8);
#endif
  if (failed("open", binhdan_model_open(argv[1], NULL, &model))) return 1;
  if (!failed("engine", binhdan_engine_create(model, NULL, &engine))) {
    if (!failed("queue", binhdan_queue_create(engine, &queue))) {
      result = ask(model, engine, queue, argv[2]);
      if (failed("close queue", binhdan_queue_close(queue))) result = 1;
    }
    if (failed("close engine", binhdan_engine_close(engine))) result = 1;
  }
  if (failed("close model", binhdan_model_close(model))) result = 1;
  return result;
}

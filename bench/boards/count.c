/* Runs a fixed amount of work on a model, so that an emulator can count the instructions:
 *
 *     count MODEL.gguf PROMPT DECODE
 *
 * One thread computes a prompt of PROMPT tokens and then DECODE more tokens. The difference between two sizes is
 * the cost of the tokens alone. Prints the kernel table and the bytes of weights that a token reads. */
#include <binhdan.h>
#include <stdio.h>
#include <stdlib.h>

static int check(const char* what, int32_t status) {
  if (status == BINHDAN_OK) return 0;
  fprintf(stderr, "count: %s: %s\n", what, binhdan_last_error());
  return 1;
}

int main(int argc, char** argv) {
  binhdan_model_options model_options = {.struct_size = sizeof model_options, .threads = 1};
  binhdan_engine_options options = {.struct_size = sizeof options,
                                    .flags = BINHDAN_MANUAL_STEP | BINHDAN_NO_PREFIX_CACHE,
                                    .threads = 1,
                                    .context = 1024};
  binhdan_model_info info = {.struct_size = sizeof info};
  binhdan_model model;
  binhdan_engine engine;
  binhdan_queue queue;
  binhdan_request request;
  binhdan_request_id id;
  binhdan_event* event;
  int32_t busy = 1, *tokens;
  if (argc != 4) {
    fprintf(stderr, "usage: count MODEL.gguf PROMPT DECODE\n");
    return 2;
  }
  int prompt = atoi(argv[2]), decode = atoi(argv[3]);
  if (prompt < 1 || decode < 0 || prompt + decode > 1000) {
    fprintf(stderr, "count: expected 1 to 1000 tokens, got %d and %d\n", prompt, decode);
    return 2;
  }
  if (check("open", binhdan_model_open(argv[1], &model_options, &model))) return 1;
  if (check("describe", binhdan_model_describe(model, &info))) return 1;
  if (check("engine", binhdan_engine_create(model, &options, &engine))) return 1;
  if (check("queue", binhdan_queue_create(engine, &queue))) return 1;
  tokens = malloc(sizeof *tokens * prompt);
  if (!tokens) return 1;
  for (int i = 0; i < prompt; ++i) tokens[i] = (i * 7919 + 17) % info.vocabulary;
  binhdan_request_init(&request);
  request.tokens = tokens;
  request.n_tokens = prompt;
  request.max_tokens = 1 + decode; /* prefill computes the first token */
  request.flags = BINHDAN_IGNORE_EOS;
  if (check("submit", binhdan_submit(engine, queue, &request, &id))) return 1;
  while (busy)
    if (check("step", binhdan_engine_step(engine, &busy))) return 1;
  for (;;) {
    int ended;
    if (check("event", binhdan_queue_next(queue, 0, &event)) || !event) return 1;
    ended = event->kind == BINHDAN_EVENT_FINISHED;
    if (ended && event->finish != BINHDAN_FINISH_LENGTH) return 1;
    binhdan_event_free(event);
    if (ended) break;
  }
  printf("%s %llu\n", info.isa, (unsigned long long)info.bytes_per_token);
  free(tokens);
  return 0;
}

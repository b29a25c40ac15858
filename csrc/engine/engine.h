// The scheduler: runs requests on a model, one batch at a time, on one thread. Each batch has one token of
// every sequence that decodes, and prompt tokens up to a budget. So many short texts to embed share a batch.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/drafter.h"
#include "engine/events.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/sequence.h"
#include "model/forward.h"
#include "model/model.h"

namespace binhdan::engine {

struct EngineOptions {
  int threads = 0;            // >= 1
  int64_t context = 0;        // maximum tokens of a sequence, >= 1
  int32_t max_sequences = 8;  // generations that run together; embeddings are limited by prefill_chunk
  int32_t max_waiting = 256;
  int64_t prefill_chunk = 512;  // maximum prompt tokens in a batch
  // Approximate limit of the time that prompt tokens add to a batch with decoding sequences.
  int64_t max_decode_stall_ns = 250'000'000;
  uint64_t max_kv_bytes = UINT64_MAX;  // for keys and values, with the prefix cache
  // What one full sequence and the buffers of a forward pass may take; nullopt: no limit.
  std::optional<uint64_t> available_memory;
  KvType kv_type = KvType::f16;
  bool prefix_cache = true;
  std::string cache_folder;  // "": keeps no pages on disk
  uint64_t max_cache_folder_bytes = 0;
  bool manual_step = false;                   // no thread; the caller calls step()
  bool deterministic = false;                 // all rows use the numeric class of decode rows
  std::shared_ptr<const model::Model> draft;  // guesses tokens: Drafter; nullptr: none
};

struct EngineInfo {
  EngineOptions options;
  int32_t running = 0, waiting = 0;
  uint64_t kv_bytes = 0;     // of running requests and their drafts, without pages shared with the cache
  uint64_t cache_bytes = 0;  // of the prefix cache
};

class Engine {
 public:
  // If one full sequence does not fit in max_kv_bytes, the context is reduced. Throws Error when not even one
  // KV page fits, or when the threads or the cache folder cannot be created; Error(out_of_memory), before it
  // allocates, when a full sequence does not fit in available_memory.
  Engine(std::shared_ptr<const model::Model> model, EngineOptions options);
  ~Engine();  // stop()

  // After stop(), the queue returns the events that are left in it, then throws Error(closed).
  std::shared_ptr<EventQueue> make_queue();
  // Closes the queue and cancels the requests whose events go to it.
  void drop_queue(const std::shared_ptr<EventQueue>& queue);
  // Throws Error(invalid_argument) naming the field, too_large, busy when max_waiting is reached, closed
  // after stop().
  uint64_t submit(Request request, std::shared_ptr<EventQueue> queue);
  void cancel(uint64_t id);
  // Throws Error(invalid_argument) when the request does not use masks or has one already.
  void set_mask(uint64_t id, std::span<const uint32_t> words);
  // Computes one batch. Returns true if another step() can make progress without a further call, such as
  // set_mask(). For manual_step only.
  bool step();
  // Cancels all requests, which sends their last events. May be called twice and from any thread.
  void stop();
  // Saves the cached keys and values of these tokens, and restores them (session_file.h). Throws Error.
  void save_session(const std::string& path, std::span<const Token> tokens, uint64_t salt, std::string note);
  std::string session_note(const std::string& path, uint64_t salt) const;
  void load_session(const std::string& path, uint64_t salt);
  EngineInfo info() const;
  const model::Model& model() const { return *model_; }

 private:
  // Runs `call` between two steps, and returns when it has ended. Throws what it throws, and Error(closed).
  void between_steps(std::function<void()> call);
  uint64_t pages_identity() const;
  void loop();
  bool run_step();
  void run_calls();
  void apply_caller_changes();
  bool has_slot_for(const Sequence& sequence) const;
  bool reserve_kv_for(Sequence& sequence);
  std::vector<model::Chunk> plan_batch();
  int64_t prefill_budget(bool decoding) const;
  int64_t decode_rows_each() const;
  void guess_tokens(int64_t limit);
  void compute(std::span<const model::Chunk> chunks);
  void update_prefill_speed(std::span<const model::Chunk> chunks, int64_t ns);
  bool runnable_locked() const;
  void retire_finished();
  void fail_batch(int32_t status, const std::string& message);

  std::shared_ptr<const model::Model> model_;
  std::shared_ptr<const model::StateLayout> layout_;
  EngineOptions options_;
  model::Forward forward_;
  std::optional<Drafter> drafter_;

  // ---- fields that mutex_ guards
  mutable std::mutex mutex_;
  std::condition_variable work_arrived_;
  bool stopping_ = false;
  std::deque<std::packaged_task<void()>> calls_;  // for between_steps()
  bool out_of_kv_ = false;                        // the first waiting request needs KV pages of a running one
  std::deque<std::shared_ptr<Sequence>> waiting_;
  std::unordered_map<uint64_t, std::shared_ptr<Sequence>> by_id_;
  std::vector<std::shared_ptr<EventQueue>> queues_;
  int32_t running_count_ = 0;
  uint64_t kv_bytes_ = 0, cache_bytes_ = 0;
  // ---- fields of the stepping thread
  std::mutex step_mutex_;  // held during step(), so that stop() waits for it
  std::vector<std::shared_ptr<Sequence>> running_;
  std::vector<Sequence*> batch_;  // the sequence of each chunk
  PrefixCache cache_;
  double ns_per_prompt_token_ = 0;  // moving average; 0: not measured yet
  // ----

  std::thread thread_;  // the stepping thread; none with manual_step
};

}  // namespace binhdan::engine

// Runs requests on a model: one thread, one batch at a time, one token of every running sequence in each
// batch.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/events.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/sequence.h"
#include "model/forward.h"
#include "model/model.h"

namespace binhdan::engine {

struct EngineOptions {
  int threads = 0;      // >= 1
  int64_t context = 0;  // most tokens of one sequence, >= 1
  int32_t max_sequences = 8;
  int32_t max_waiting = 256;
  int64_t prefill_chunk = 512;                // prompt tokens in one batch
  int64_t max_decode_stall_ns = 250'000'000;  // what prompts may add to a batch in which others decode, about
  uint64_t max_kv_bytes = UINT64_MAX;         // most memory for keys and values, of the prefix cache too
  KvType kv_type = KvType::f16;
  bool prefix_cache = true;
  std::string cache_folder;  // "": nothing is kept on disk
  uint64_t max_cache_folder_bytes = 0;
  bool manual_step = false;    // no thread: the caller calls step()
  bool deterministic = false;  // every row in the numeric class of few rows
};

struct EngineInfo {
  EngineOptions options;
  int32_t running = 0, waiting = 0;
  uint64_t kv_bytes = 0;     // of running requests, what they share with the cache not counted
  uint64_t cache_bytes = 0;  // of the prefix cache
};

class Engine {
 public:
  // The context becomes what max_kv_bytes can hold, where that is less. Throws Error when it can hold nothing, or
  // the threads or the cache's folder cannot be made.
  Engine(std::shared_ptr<const model::Model> model, EngineOptions options);
  ~Engine();  // stop()

  // A queue that ends when the engine does.
  std::shared_ptr<EventQueue> make_queue();
  // Closes the queue and cancels the requests whose events would come there.
  void drop_queue(const std::shared_ptr<EventQueue>& queue);
  // Throws Error(invalid_argument) naming the field, too_large, busy when max_waiting is reached, closed
  // after stop().
  uint64_t submit(Request request, std::shared_ptr<EventQueue> queue);
  void cancel(uint64_t id);
  // Throws Error(invalid_argument) when the request did not ask for masks or has one already.
  void set_mask(uint64_t id, std::span<const uint32_t> words);
  // Computes one batch; true while there is work left that waits for nobody. For manual_step only.
  bool step();
  // Ends everything: cancelled requests get their last event. Safe to call twice and from any thread.
  void stop();
  EngineInfo info() const;
  const model::Model& model() const { return *model_; }

 private:
  void loop();
  bool work_once();
  void collect();
  bool admit(Sequence& sequence);
  std::vector<model::Chunk> plan();
  int64_t prompt_budget(bool decoding) const;
  void compute(std::span<const model::Chunk> chunks);
  void measure(std::span<const model::Chunk> chunks, int64_t ns);
  bool runnable_locked() const;
  void retire_finished();
  void fail_batch(int32_t status, const std::string& message);

  std::shared_ptr<const model::Model> model_;
  EngineOptions options_;
  model::Forward forward_;

  mutable std::mutex mutex_;  // guards what is between the marks
  std::condition_variable wake_;
  bool stopping_ = false;
  bool no_room_ = false;  // the first that waits must wait for another to end
  std::deque<std::shared_ptr<Sequence>> waiting_;
  std::unordered_map<uint64_t, std::shared_ptr<Sequence>> by_id_;
  std::vector<std::shared_ptr<EventQueue>> queues_;
  int32_t running_count_ = 0;
  uint64_t kv_bytes_ = 0, cache_bytes_ = 0;
  // ---- end of what mutex_ guards; below belongs to the thread that steps

  std::mutex step_mutex_;  // held while stepping by hand: stop() waits for it
  std::vector<std::shared_ptr<Sequence>> running_;
  std::vector<Sequence*> batch_;  // whose chunk is at the same index
  PrefixCache cache_;
  double ns_per_prompt_token_ = 0;  // of late; 0: none was seen yet
  std::thread thread_;
};

}  // namespace binhdan::engine

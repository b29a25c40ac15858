// Integer handles: kind, number of forks, generation and slot in one number. So a closed handle, a handle of
// another kind or one from before a fork is never valid.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/process.h"

namespace binhdan::api {

template <typename T, uint64_t kKind>
class Handles {
 public:
  uint64_t add(std::shared_ptr<T> object) {
    Table& table = this_process();
    const std::lock_guard lock(table.mutex);
    size_t slot = 0;
    if (table.free.empty()) {
      slot = table.slots.size();
      table.slots.emplace_back();
    } else {
      slot = table.free.back();
      table.free.pop_back();
    }
    table.slots[slot].object = std::move(object);
    return kKind << 60 | table.forks << 52 | table.slots[slot].generation << 24 | (slot + 1);
  }

  std::shared_ptr<T> get(uint64_t handle, const char* what) {
    Table& table = this_process();
    const std::lock_guard lock(table.mutex);
    return at(table, handle, what).object;
  }

  // Removes and returns the object; the handle becomes invalid.
  std::shared_ptr<T> remove(uint64_t handle, const char* what) {
    Table& table = this_process();
    const std::lock_guard lock(table.mutex);
    Slot& slot = at(table, handle, what);
    std::shared_ptr<T> object = std::move(slot.object);
    slot.object = nullptr;
    // A slot without generations left is not reused.
    if (++slot.generation <= kLastGeneration)
      table.free.push_back(static_cast<size_t>(&slot - table.slots.data()));
    return object;
  }

 private:
  struct Slot {
    std::shared_ptr<T> object;
    uint64_t generation = 1;
  };
  struct Table {
    int64_t process;
    uint64_t forks;
    std::mutex mutex = {};
    std::vector<Slot> slots = {};
    std::vector<size_t> free = {};
  };
  static constexpr uint64_t kLastGeneration = (uint64_t{1} << 28) - 1, kLastFork = 0xff;

  // A forked child has copies of its parent's objects without their threads, and locks that another thread
  // held stay locked. So the child uses a new table and never touches the parent's.
  Table& this_process() {
    Table* table = table_.load(std::memory_order_acquire);
    if (table->process == process_id()) return *table;
    auto fresh = std::unique_ptr<Table>(new Table{process_id(), (table->forks + 1) & kLastFork});
    if (table_.compare_exchange_strong(table, fresh.get(), std::memory_order_acq_rel))
      return *fresh.release();
    return *table;
  }

  static Slot& at(Table& table, uint64_t handle, const char* what) {
    const uint64_t slot = handle & 0xffffff, generation = handle >> 24 & kLastGeneration;
    const uint64_t forks = handle >> 52 & kLastFork;
    if (handle >> 60 == kKind && forks != table.forks)
      fail(Code::closed, what,
           ": the handle belongs to the parent process; open the model in the forked child");
    if (handle >> 60 != kKind || slot == 0 || slot > table.slots.size() || !table.slots[slot - 1].object ||
        table.slots[slot - 1].generation != generation)
      fail(Code::invalid_handle, what, ": expected an open handle, got ", handle);
    return table.slots[slot - 1];
  }

  std::atomic<Table*> table_{new Table{process_id(), 0}};
};

}  // namespace binhdan::api

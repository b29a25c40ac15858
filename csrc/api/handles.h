// Integer handles: a kind, a generation and a slot in one number, so that a handle that was closed is never valid again
// and one kind is never taken for another.
#pragma once
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
    const std::lock_guard lock(mutex_);
    size_t slot = 0;
    if (free_.empty()) {
      slot = slots_.size();
      slots_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    slots_[slot].object = std::move(object);
    return kKind << 60 | uint64_t{slots_[slot].generation} << 24 | (slot + 1);
  }

  std::shared_ptr<T> get(uint64_t handle, const char* what) {
    check_process(what);
    const std::lock_guard lock(mutex_);
    return at(handle, what).object;
  }

  // Takes the object out; the handle is dead from here on.
  std::shared_ptr<T> remove(uint64_t handle, const char* what) {
    check_process(what);
    const std::lock_guard lock(mutex_);
    Slot& slot = at(handle, what);
    std::shared_ptr<T> object = std::move(slot.object);
    slot.object = nullptr;
    // A slot whose generations are used up is retired, not reused.
    if (++slot.generation <= kLastGeneration) free_.push_back(static_cast<size_t>(&slot - slots_.data()));
    return object;
  }

 private:
  struct Slot {
    std::shared_ptr<T> object;
    uint64_t generation = 1;
  };
  static constexpr uint64_t kLastGeneration = (uint64_t{1} << 36) - 1;

  Slot& at(uint64_t handle, const char* what) {
    const uint64_t slot = handle & 0xffffff, generation = handle >> 24 & kLastGeneration;
    if (handle >> 60 != kKind || slot == 0 || slot > slots_.size() || !slots_[slot - 1].object ||
        slots_[slot - 1].generation != generation)
      fail(Code::invalid_handle, what, ": no such handle, or it was closed: ", handle);
    return slots_[slot - 1];
  }

  // A forked child has copies of our objects but none of our threads.
  void check_process(const char* what) const {
    if (process_id() != process_)
      fail(Code::closed, what, ": the handle belongs to the process that forked; open the model in the child");
  }

  std::mutex mutex_;
  std::vector<Slot> slots_;
  std::vector<size_t> free_;
  const int64_t process_ = process_id();
};

}  // namespace binhdan::api

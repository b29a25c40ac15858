// A hash map in one array, for the tables of a vocabulary. Loading and merging are about twice as fast as
// with std::unordered_map, which allocates each entry.
#pragma once
#include <bit>
#include <cstddef>
#include <utility>
#include <vector>

namespace binhdan::text {

// Holds at most `max_entries` entries; it does not grow. Key{} marks an empty slot and cannot be a key.
template <typename Key, typename Value, typename Hash>
class FlatMap {
 public:
  FlatMap() : FlatMap(0) {}
  explicit FlatMap(std::size_t max_entries) : slots_(std::bit_ceil(max_entries + max_entries / 2 + 2)) {}

  // nullptr when the key is missing.
  const Value* find(const Key& key) const {
    const auto& [found, value] = slots_[slot_of(key)];
    return found == Key{} ? nullptr : &value;
  }
  // The value of this key; `second` is true when the entry is new.
  std::pair<Value*, bool> insert(const Key& key) {
    auto& [found, value] = slots_[slot_of(key)];
    const bool is_new = found == Key{};
    found = key;
    return {&value, is_new};
  }

 private:
  // Linear probing: the slot of the key, or the empty slot for it.
  std::size_t slot_of(const Key& key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = Hash{}(key)&mask;
    while (!(slots_[i].first == Key{}) && !(slots_[i].first == key)) i = (i + 1) & mask;
    return i;
  }

  std::vector<std::pair<Key, Value>> slots_;
};

}  // namespace binhdan::text

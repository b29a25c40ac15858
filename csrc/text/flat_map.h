// A hash map in one array, for the tables of a vocabulary: a model starts and merges about twice as fast with
// it as with std::unordered_map, which allocates and follows a pointer per entry.
#pragma once
#include <bit>
#include <cstddef>
#include <utility>
#include <vector>

namespace binhdan::text {

// Grows only by being made anew: `most` is the number of entries it will hold. Key{} marks an empty place and
// is no key.
template <typename Key, typename Value, typename Hash>
class FlatMap {
 public:
  FlatMap() : FlatMap(0) {}
  explicit FlatMap(std::size_t most) : slots_(std::bit_ceil(most + most / 2 + 2)) {}

  // nullptr when there is none.
  const Value* find(const Key& key) const {
    const auto& [found, value] = slots_[place(key)];
    return found == Key{} ? nullptr : &value;
  }
  // The entry of this key, new if `second`.
  std::pair<Value*, bool> insert(const Key& key) {
    auto& [found, value] = slots_[place(key)];
    const bool is_new = found == Key{};
    found = key;
    return {&value, is_new};
  }

 private:
  // Linear probing: where the key is, or the empty place where it would be.
  std::size_t place(const Key& key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = Hash{}(key)&mask;
    while (!(slots_[i].first == Key{}) && !(slots_[i].first == key)) i = (i + 1) & mask;
    return i;
  }

  std::vector<std::pair<Key, Value>> slots_;
};

}  // namespace binhdan::text

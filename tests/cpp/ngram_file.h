// A tiny n-gram file for tests and fuzzers: four forms, bigrams and one trigram.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace binhdan::text::restore {

class NgramFile {
 public:
  // Id 4 "đi", 5 "đì", 6 "toi", 7 "tôi". "tôi đi" is likely, "tôi đì" is not.
  static std::string bytes() {
    NgramFile file;
    file.put<uint32_t>({4, static_cast<uint32_t>(kText.size()), 2, 5 * 512});
    for (const uint64_t key : {pair(7, 4), pair(0, 7)}) file.bigrams_.push_back({key, 1});
    file.trigrams_.push_back({pair(0, 7) << 14 | 4, 1});
    for (const auto* entries : {&file.bigrams_, &file.trigrams_})
      file.put<uint32_t>({static_cast<uint32_t>(entries->size()), 1, kBits, 0});
    file.put<uint32_t>({0, 0, 0, 0});
    file.text("{}");
    file.text(kText);
    file.section<int16_t>({0, 0, 0, 0, 0, 0, 0, 0});                                  // capitals
    file.section<int16_t>({-1000, -3000, -3000, -3000, -4000, -4000, -4000, -4000});  // scores
    file.section<int16_t>({-100, -100, -100, -100, -100, -100, -100, -100});          // backoffs
    for (const auto* entries : {&file.bigrams_, &file.trigrams_}) {
      file.section<int16_t>({-3000, -200});
      file.section<int16_t>({0, -100});
      file.section<uint32_t>({0});
      file.section<uint16_t>({0, static_cast<uint16_t>(entries->size())});
      std::vector<uint32_t> packed;
      for (const auto& [key, p] : *entries) packed.push_back((hash(key) & 0x3fff) | p << 14 | 1u << 15);
      std::vector<uint16_t> words(packed.begin(), packed.end());
      words.resize(words.size() + 4);  // 8 bytes after the last entry
      file.section(words);
    }
    return seal("BDNGRAM\n" + std::string({1, 0, 0, 0, 3, 0, 0, 0}) + std::string(16, '\0') + file.out_);
  }

  // The file with the size and the checksum that its header needs.
  static std::string seal(std::string file) {
    if (file.size() < 32) return file;
    file.resize((file.size() + 7) / 8 * 8);
    uint64_t sum = 0;
    const uint64_t size = file.size();
    for (std::size_t i = 32; i < size; i += 8) {
      uint64_t word;
      std::memcpy(&word, file.data() + i, 8);
      sum += word * (2 * ((i - 32) / 8) + 1) * 0x9e3779b97f4a7c15;
    }
    std::memcpy(file.data() + 16, &size, 8);
    std::memcpy(file.data() + 24, &sum, 8);
    return file;
  }

 private:
  static constexpr std::string_view kText = "đi\nđì\ntoi\ntôi\n";
  static constexpr uint32_t kBits = 14 | 1 << 8 | 1 << 16;

  static uint64_t pair(uint64_t a, uint64_t b) { return a << 14 | b; }
  static uint64_t hash(uint64_t key) {
    key *= 0x9e3779b97f4a7c15;
    key ^= key >> 32;
    key *= 0xd6e8feb86659fd93;
    return key ^ key >> 32;
  }
  template <typename T>
  void put(const std::vector<T>& values) {
    out_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  template <typename T>
  void section(const std::vector<T>& values) {
    put(values);
    out_.resize((out_.size() + 7) / 8 * 8);
  }
  void text(std::string_view bytes) { section(std::vector<char>(bytes.begin(), bytes.end())); }

  std::string out_;
  std::vector<std::pair<uint64_t, uint32_t>> bigrams_, trigrams_;
};

}  // namespace binhdan::text::restore

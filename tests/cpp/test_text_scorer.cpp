// csrc/text/restore/scorer: the file, and what the scores change.
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "check.h"
#include "ngram_file.h"
#include "temporary_folder.h"
#include "text/restore/restore.h"

using namespace binhdan;
using namespace binhdan::text::restore;

namespace {

constexpr uint32_t kIds = 8, kToi = 6;

std::shared_ptr<const NgramModel> ngrams() {
  auto owner = std::make_shared<std::string>(NgramFile::bytes());
  return NgramModel::from_bytes(std::as_bytes(std::span(*owner)), owner);
}

// A network of zeros but for the bias of the form "toi".
std::string scorer_file(const NgramModel& model, float bias, uint32_t hidden = 32) {
  constexpr uint32_t kWidth = 32, kNear = 1, kInputs = 5 * kWidth, kOutput = 32, kBlockBytes = 22;
  std::string out = "BDSCORE\n";
  const auto put = [&](const auto& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (const uint32_t value : {2u, kIds, model.forms_checksum(), kWidth, kNear, hidden, hidden, kOutput})
    put(value);
  const auto matrix = [&](std::size_t rows, std::size_t width) {
    out.append(rows * width / 32 * kBlockBytes, '\0');  // blocks of Q5_0 with the scale 0
  };
  matrix(kIds, kWidth);
  matrix(kShapes, kWidth);
  matrix(kInputs, hidden);
  matrix(hidden, hidden);
  matrix(hidden, kOutput);
  matrix(kInputs, kOutput);
  matrix(kIds, kOutput);
  for (std::size_t i = 0; i < hidden + hidden + kOutput; ++i) put(0.0f);
  for (uint32_t i = 0; i < kIds; ++i) put(i == kToi ? bias : 0.0f);
  return out;
}

std::shared_ptr<const Scorer> open(const std::string& bytes, const NgramModel& model) {
  const TemporaryFolder folder;
  return Scorer::open(folder.write("scorer.bin", std::as_bytes(std::span(bytes))), model);
}

std::string message_of(const std::string& bytes, const NgramModel& model) {
  try {
    open(bytes, model);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(scores_decide_doubtful_words) {
  const auto model = ngrams();
  const auto restored = [&](float bias) {
    const auto scorer = open(scorer_file(*model, bias), *model);
    Options options;
    options.scorer = scorer.get();
    std::string out;
    text::restore::restore(*model, "toi, toi", options, out);
    return out;
  };
  // The n-grams are sure of the first word only.
  CHECK(restored(20) == "tôi, toi" && restored(-20) == "tôi, tôi");
  CHECK(restored(1000) == "tôi, toi");  // scores have a limit
}

TEST(damaged_files_are_refused) {
  const auto model = ngrams();
  const std::string file = scorer_file(*model, 0);
  CHECK(open(file, *model) != nullptr);
  CHECK(message_of("BD", *model).find("more bytes") != std::string::npos);
  CHECK(message_of("BDNGRAM\n" + file, *model).find("expected the magic BDSCORE") != std::string::npos);
  for (std::size_t size = 8; size < file.size(); size += 97)
    CHECK(!message_of(file.substr(0, size), *model).empty());
  CHECK(message_of(scorer_file(*model, 0, 33), *model).find("multiples of 32, got 33") != std::string::npos);
  CHECK(message_of(file + "x", *model).find("1 bytes too many") != std::string::npos);
  const auto changed = [&](std::size_t at, uint32_t value) {
    std::string other = file;
    std::memcpy(other.data() + at, &value, sizeof(value));
    return message_of(other, *model);
  };
  CHECK(changed(8, 1).find("expected version 2, got 1") != std::string::npos);
  CHECK(changed(12, 9).find("another n-gram file") != std::string::npos);
  CHECK(changed(16, 9).find("another n-gram file") != std::string::npos);
  CHECK(changed(20, 0).find("expected widths") != std::string::npos);
  CHECK(changed(24, 4096).find("more bytes") != std::string::npos);
  CHECK(changed(40, 0x7e00).find("finite") != std::string::npos);
}

// libFuzzer: any text in any format, and any n-gram file with a right checksum, give a result or an Error.
#include <cstdlib>

#include "base/error.h"
#include "ngram_file.h"
#include "text/restore/restore.h"

using namespace binhdan;
using namespace binhdan::text::restore;

namespace {

std::shared_ptr<const NgramModel> open(std::string file) {
  auto owner = std::make_shared<std::string>(std::move(file));
  return NgramModel::from_bytes(std::as_bytes(std::span(*owner)), owner);
}

void check_text(const NgramModel& model, std::string_view given, const Options& options) {
  std::string once, twice;
  text::restore::restore(model, given, options, once);
  if (once.size() < given.size() && options.style == Style::keep) std::abort();  // marks are only added
  text::restore::restore(model, once, options, twice);
  if (once != twice) std::abort();
  std::vector<Choice> choices;
  text::restore::restore(model, given, options, once, &choices);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string file = NgramFile::bytes();
  static const auto tiny = open(file);
  if (size < 3) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 3, size - 3);
  try {
    if (data[0] % 2 == 0) {
      Options options;
      options.format = static_cast<Format>(data[1] % kFormats);
      options.style = static_cast<Style>(data[2] % 3);
      check_text(*tiny, rest, options);
    } else {  // bytes of the file are replaced from an offset on
      const size_t at = std::min<size_t>(data[1] | data[2] << 8, file.size());
      std::string changed = file;
      changed.replace(at, rest.size(), rest);
      const auto model = open(NgramFile::seal(std::move(changed)));
      std::string out;
      text::restore::restore(*model, "toi di hoc. Toi DI, toi đi 3 lan", {}, out);
    }
  } catch (const Error&) {
  }
  return 0;
}

// Pack files: a model loads from its own file only, and a damaged file is never used.
#include <filesystem>
#include <fstream>

#include "base/output_file.h"
#include "check.h"
#include "embedded_model.h"
#include "model/forward.h"
#include "model/pack_file.h"
#include "temporary_folder.h"

using namespace binhdan;
using namespace binhdan::model;
namespace fs = std::filesystem;

namespace {

// A copy of the embedded model in a new folder, with its pack file.
struct Packed {
  Packed() {
    fs::copy_file(BINHDAN_TEST_MODEL, model);
    const Model fresh = load();
    CHECK(!fresh.weights.from_pack_file && fresh.warnings.empty());
    fresh.weights.write_pack_file(fresh.file, pack);
  }
  Model load() const { return Model::load(model, "", {.threads = 2}); }
  // The file must not be used, and the warning must say why.
  void check_rejected(const char* reason) const {
    const Model loaded = load();
    CHECK(!loaded.weights.from_pack_file);
    CHECK(loaded.warnings.size() == 1);
    if (loaded.warnings.size() != 1) return;
    CHECK(loaded.warnings[0].find(reason) != std::string::npos);
    CHECK(loaded.warnings[0].find("run binhdan pack again") != std::string::npos);
  }
  void change_byte(const std::string& path, uint64_t offset) const {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(offset));
    const int before = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(before ^ 1));
  }

  TemporaryFolder folder;
  std::string model = folder / "model.gguf", pack = PackFile::path_of(model);
};

std::vector<float> logits(const Model& model) {
  SequenceState state(model.config);
  Forward forward(model, 2);
  const auto tokens = some_tokens(20);
  state.reserve(20);
  const Chunk chunk{.state = &state, .tokens = tokens, .outputs = Outputs::last_logits, .decode = false};
  forward.run({&chunk, 1});
  const auto values = forward.logits(0);
  return {values.begin(), values.end()};
}

}  // namespace

TEST(a_model_runs_from_its_pack_file) {
  const Packed packed;
  const Model mapped = packed.load();
  CHECK(mapped.weights.from_pack_file);
  CHECK(mapped.warnings.empty());
  CHECK(logits(mapped) == logits(*embedded_model()));
  const Model ignored = Model::load(packed.model, "", {.threads = 2, .use_pack_file = false});
  CHECK(!ignored.weights.from_pack_file);
}

TEST(every_table_reads_the_same_pack_file) {
  const Packed packed;
  const Model mapped = Model::load(packed.model, "scalar", {.threads = 1});
  CHECK(mapped.weights.from_pack_file);
  CHECK(logits(mapped) == logits(*embedded_model("scalar")));
}

TEST(a_damaged_pack_file_is_not_used) {
  const Packed packed;
  const uint64_t size = fs::file_size(packed.pack);
  for (const uint64_t offset : {size - 1, size / 2, uint64_t{64} << 10}) {
    packed.change_byte(packed.pack, offset);
    packed.check_rejected("damaged");
    packed.change_byte(packed.pack, offset);
  }
  CHECK(packed.load().weights.from_pack_file);
  packed.change_byte(packed.pack, 0);
  packed.check_rejected("not a pack file");
  packed.change_byte(packed.pack, 0);
  packed.change_byte(packed.pack, 8);
  packed.check_rejected("another version");
  packed.change_byte(packed.pack, 8);
  packed.change_byte(packed.pack, 24);
  packed.check_rejected("layout");
  packed.change_byte(packed.pack, 24);
  for (const uint64_t bytes : {size - 1, uint64_t{70000}, uint64_t{100}}) {
    fs::resize_file(packed.pack, bytes);
    packed.check_rejected(bytes < 1000 ? "truncated" : "wrong size");
  }
  fs::resize_file(packed.pack, 0);
  packed.check_rejected("empty");
  fs::remove(packed.pack);
  fs::create_directory(packed.pack);
  packed.check_rejected("directory");
}

TEST(the_pack_file_of_another_model_is_not_used) {
  const Packed packed;
  const auto time = fs::last_write_time(packed.model);
  fs::last_write_time(packed.model, time + std::chrono::hours(1));
  packed.check_rejected("has changed");
  fs::last_write_time(packed.model, time);
  CHECK(packed.load().weights.from_pack_file);
  // The last byte is a weight: the content changes, and neither the size nor the time.
  packed.change_byte(packed.model, fs::file_size(packed.model) - 1);
  fs::last_write_time(packed.model, time);
  packed.check_rejected("has changed");
}

TEST(weights_that_do_not_fit_are_an_error_before_they_are_allocated) {
  const uint64_t needed = embedded_model()->weights.needed_bytes;
  CHECK(needed > 1 << 20);
  CHECK_FAILS(Model::load(BINHDAN_TEST_MODEL, "", {.threads = 2, .available_memory = needed - 1}),
              "the weights need");
  CHECK(Model::load(BINHDAN_TEST_MODEL, "", {.threads = 2, .available_memory = needed}).weights.bytes > 0);
}

TEST(an_output_file_appears_whole_or_not_at_all) {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const std::string text = "text";
  const auto bytes = std::as_bytes(std::span(text));
  {
    OutputFile file(path);
    file.write(bytes);
  }
  CHECK(fs::is_empty(folder / ""));
  {
    OutputFile file(path);
    file.write(bytes);
    file.commit();
  }
  CHECK(fs::file_size(path) == text.size());
  CHECK_FAILS(OutputFile(folder / "missing/file"), "cannot create the file");
}

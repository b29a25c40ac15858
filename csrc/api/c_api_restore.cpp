// The C ABI: restoring diacritics, and spelling.
#include "api/c_api.h"
#include "api/json.h"
#include "text/restore/restore.h"
#include "text/restore/spell.h"

using namespace binhdan;
using namespace binhdan::api;

namespace {

using text::restore::Format;
using text::restore::Style;
using text::restore::Typing;
static_assert(static_cast<int>(Style::new_place) == BINHDAN_STYLE_NEW);
static_assert(static_cast<int>(Style::old_place) == BINHDAN_STYLE_OLD);
static_assert(static_cast<int>(Format::html) == BINHDAN_FORMAT_HTML);
static_assert(static_cast<int>(Format::code) == BINHDAN_FORMAT_CODE);
static_assert(static_cast<int>(Typing::telex) == BINHDAN_TYPING_TELEX);
static_assert(static_cast<int>(Typing::vni) == BINHDAN_TYPING_VNI);

void check(int32_t format, float min_confidence) {
  if (format < BINHDAN_FORMAT_TEXT || format > BINHDAN_FORMAT_CODE)
    fail(Code::invalid_argument, "format: expected ", BINHDAN_CONSTANT(BINHDAN_FORMAT_TEXT), " to ",
         BINHDAN_CONSTANT(BINHDAN_FORMAT_CODE), ", got ", format);
  if (!(min_confidence >= 0 && min_confidence <= 1))
    fail(Code::invalid_argument, "min_confidence: expected 0 to 1, got ", min_confidence);
}

void write_alternatives(JsonWriter& json, const char* name,
                        const std::vector<text::restore::Alternative>& alternatives) {
  json.key(name).begin_array();
  for (const text::restore::Alternative& one : alternatives)
    json.begin_object().field("text", one.text).field("probability", one.probability).end_object();
  json.end_array();
}

text::restore::Options read_options(const Restorer& restorer, const binhdan_restore_options* given) {
  const auto options = read_struct(given, "binhdan_restore_options", binhdan_restore_options{});
  if (options.style < BINHDAN_STYLE_KEEP || options.style > BINHDAN_STYLE_OLD)
    fail(Code::invalid_argument, "style: expected ", BINHDAN_CONSTANT(BINHDAN_STYLE_KEEP), " to ",
         BINHDAN_CONSTANT(BINHDAN_STYLE_OLD), ", got ", options.style);
  check(options.format, options.min_confidence);
  if (options.typing < BINHDAN_TYPING_NONE || options.typing > BINHDAN_TYPING_VNI)
    fail(Code::invalid_argument, "typing: expected ", BINHDAN_CONSTANT(BINHDAN_TYPING_NONE), " to ",
         BINHDAN_CONSTANT(BINHDAN_TYPING_VNI), ", got ", options.typing);
  if (options.fast != 0 && options.fast != 1)
    fail(Code::invalid_argument, "fast: expected 0 or 1, got ", options.fast);
  return {static_cast<Style>(options.style), static_cast<Format>(options.format), options.min_confidence,
          static_cast<Typing>(options.typing), options.fast == 0 ? restorer.scorer.get() : nullptr};
}

// Keeps its memory, so that a call from a keystroke handler allocates nothing. Here, because Clang refuses thread-local
// variables inside exported functions of a DLL.
std::string& kept_text() {
  thread_local std::string text;
  return text;
}

}  // namespace

int32_t binhdan_restorer_open(const char* path, binhdan_restorer* out) {
  return guarded([&] {
    require(path, "path");
    require(out, "restorer");
    *out = restorers().add(
        std::make_shared<const Restorer>(Restorer{text::restore::NgramModel::open(path), nullptr}));
  });
}

int32_t binhdan_restorer_open_scored(const char* path, const char* scorer_path, binhdan_restorer* out) {
  return guarded([&] {
    require(path, "path");
    require(scorer_path, "scorer_path");
    require(out, "restorer");
    auto ngrams = text::restore::NgramModel::open(path);
    auto scorer = text::restore::Scorer::open(scorer_path, *ngrams);
    *out = restorers().add(std::make_shared<const Restorer>(Restorer{std::move(ngrams), std::move(scorer)}));
  });
}

int32_t binhdan_restorer_close(binhdan_restorer handle) {
  return guarded([&] { restorers().remove(handle, "restorer"); });
}

int32_t binhdan_restorer_card(binhdan_restorer handle, char* out, size_t capacity, size_t* size) {
  return guarded([&] {
    const auto restorer = restorers().get(handle, "restorer");
    write_array<char>(restorer->ngrams->card(), out, capacity, size);
  });
}

int32_t binhdan_restore(binhdan_restorer handle, const char* data, size_t size,
                        const binhdan_restore_options* given, char* out, size_t capacity, size_t* out_size) {
  return guarded([&] {
    const auto restorer = restorers().get(handle, "restorer");
    const text::restore::Options options = read_options(*restorer, given);
    std::string& result = kept_text();
    text::restore::restore(*restorer->ngrams, api::text(data, size, "text"), options, result);
    write_array<char>(result, out, capacity, out_size);
  });
}

int32_t binhdan_restore_explain(binhdan_restorer handle, const char* data, size_t size,
                                const binhdan_restore_options* given, char* out, size_t capacity,
                                size_t* out_size) {
  return guarded([&] {
    const auto restorer = restorers().get(handle, "restorer");
    std::string result;
    std::vector<text::restore::Choice> choices;
    text::restore::restore(*restorer->ngrams, api::text(data, size, "text"), read_options(*restorer, given),
                           result, &choices);
    JsonWriter json;
    json.begin_object().field("text", result).key("choices").begin_array();
    for (const text::restore::Choice& choice : choices) {
      json.begin_object().field("begin", choice.begin).field("end", choice.end);
      write_alternatives(json, "alternatives", choice.alternatives);
      json.end_object();
    }
    json.end_array().end_object();
    write_array<char>(json.text(), out, capacity, out_size);
  });
}

int32_t binhdan_spell(binhdan_restorer handle, const char* data, size_t size,
                      const binhdan_spell_options* given, char* out, size_t capacity, size_t* out_size) {
  return guarded([&] {
    const auto restorer = restorers().get(handle, "restorer");
    const text::restore::SpellOptions defaults;
    binhdan_spell_options options{};
    options.min_confidence = defaults.min_confidence;
    options = read_struct(given, "binhdan_spell_options", options);
    check(options.format, options.min_confidence);
    const std::string_view input = api::text(data, size, "text");
    std::vector<text::restore::Misspelling> found;
    text::restore::spell(*restorer->ngrams, input,
                         {static_cast<Format>(options.format), options.min_confidence}, found);
    std::string corrected;
    std::size_t copied = 0;
    JsonWriter json;
    json.begin_object().key("misspellings").begin_array();
    for (const text::restore::Misspelling& one : found) {
      corrected.append(input.substr(copied, one.begin - copied)).append(one.suggestions.front().text);
      copied = one.end;
      json.begin_object().field("begin", one.begin).field("end", one.end);
      write_alternatives(json, "suggestions", one.suggestions);
      json.end_object();
    }
    corrected.append(input.substr(copied));
    json.end_array().field("text", corrected).end_object();
    write_array<char>(json.text(), out, capacity, out_size);
  });
}

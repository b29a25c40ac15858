// csrc/text/restore/: syllables, tokens, the n-gram file and the restored text.
#include <atomic>
#include <cstdlib>
#include <new>

#include "base/error.h"
#include "check.h"
#include "ngram_file.h"
#include "text/restore/restore.h"
#include "text/restore/tokens.h"
#include "text/unicode.h"

using namespace binhdan;
using namespace binhdan::text::restore;

namespace {

std::atomic<int64_t> allocations{0};

Syllable parse(std::string_view word) {
  Syllable parsed;
  for (size_t i = 0; i < word.size();) {
    const char32_t c = text::next_codepoint(word, i);
    const Letter letter = letter_of(c), mark = mark_of(c);
    CHECK(letter.base != 0 ? parsed.append(letter) : parsed.add_mark(mark));
  }
  return parsed;
}

std::string write(const Syllable& form, bool nfd) {
  std::string out;
  for (size_t i = 0; i < form.count; ++i) append_letter(out, form, i, form.upper >> i & 1, nfd);
  return out;
}

std::shared_ptr<const NgramModel> open(const std::string& file) {
  auto owner = std::make_shared<std::string>(file);
  return NgramModel::from_bytes(std::as_bytes(std::span(*owner)), owner);
}

std::string restored(const NgramModel& model, std::string_view given, const Options& options = {}) {
  std::string out;
  text::restore::restore(model, given, options, out);
  return out;
}

const NgramModel& packaged() {
  static const auto model = NgramModel::open(BINHDAN_TEST_NGRAMS);
  return *model;
}

std::string message_of(const std::string& file) {
  try {
    open(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

// Not inlined: GCC 12 would warn about malloc and delete.
__attribute__((noinline)) void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort allocates with this one and frees with the operators below.
__attribute__((noinline)) void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
__attribute__((noinline)) void operator delete(void* memory) noexcept {
  std::free(memory);
}
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

TEST(syllables_are_read_and_written) {
  for (const std::string_view word : {"nghiêng", "Đường", "QUYỂN", "ĩ", "hoà", "hòa", "người", "ỹ"}) {
    CHECK(write(parse(word), false) == word);
    CHECK(parse(write(parse(word), true)).bare == parse(word).bare);
    CHECK(text::nfc(write(parse(word), true)) == word);
  }
  CHECK(write(parse("ậ"), true) == "a\u0323\u0302" && write(parse("Ợ"), true) == "O\u031b\u0323");
  CHECK(write(parse("ế"), true) == "e\u0302\u0301" && write(parse("ẳ"), true) == "a\u0306\u0309");
  CHECK(parse("Đường").base(0) == 'd' && parse("Đường").quality(0) == 1 && parse("Đường").upper == 1);
  Syllable two = parse("á");
  CHECK(!two.append(letter_of(U'à')) && !two.add_mark(mark_of(0x300)));
  CHECK(letter_of(U'Ð').base == 0 && letter_of(U'ñ').base == 0 && letter_of(U'1').base == 0);
}

TEST(tones_have_places) {
  const auto places = [](std::string_view word) {
    const auto found = tone_places(parse(word));
    return found ? found->old_place * 10 + found->new_place : -1;
  };
  CHECK(places("hòa") == 12 && places("khỏe") == 23 && places("thúy") == 23 && places("quý") == 22);
  CHECK(places("toán") == 22 && places("người") == 33 && places("già") == 22 && places("gì") == 11);
  CHECK(places("mía") == 11 && places("khuỷu") == 33 && places("ngoài") == 33 && places("việt") == 22);
  CHECK(places("viêt") == -1 && places("cạt") == 11 && places("càt") == -1 && places("cat") == 11);
  CHECK(places("dươc") == -1 && places("bz") == -1 && places("ngàng") == 22 && places("f") == -1);
}

TEST(chunks_that_stay) {
  for (const std::string_view chunk :
       {"http://a.b/c", "a@b.vn", "@ai",      "#viec", "#đi",   "a/b/c",    "/tmp",
        "/õa",          "a.õa",   "ten_bien", "f()",   "a.txt", "{x}",      "$x",
        "%s",           "--co",   "a=b",      "C:\\a", "&amp;", "std::min", "<br>"})
    CHECK(is_protected(chunk));
  for (const std::string_view chunk : {"hoc.", "va/hoac", "1.500", "(nha)", "\"toi\"", "a-b", "50%", "#1",
                                       "chào.Ông", "#“", "...", "-", "/"})
    CHECK(!is_protected(chunk));
}

TEST(tokens_cover_words) {
  std::string kinds;
  TokenReader reader("Toi đi, 3 lan 2a... FOO iPhone a@b.vn.\n");
  for (Token token; reader.next(token);) kinds += static_cast<char>('0' + token.kind);
  CHECK(kinds ==
            "44324204410"
            "0" ||
        kinds ==
            "443242"
            "0"
            "4110");
}

TEST(the_tiny_file_restores) {
  const auto model = open(NgramFile::bytes());
  CHECK(model->forms().size() == 4 && model->card() == "{}" && model->order() == 3);
  CHECK(model->find(2, uint64_t{7} << 14 | 4).found && !model->find(2, uint64_t{6} << 14 | 4).found);
  CHECK(restored(*model, "toi di") == "tôi đi");
  CHECK(restored(*model, "TOI Di") == "TÔI Đi");
}

TEST(damaged_files_are_refused) {
  const std::string file = NgramFile::bytes();
  CHECK(message_of(file).empty());
  CHECK(message_of("").find("expected 8 bytes") != std::string::npos);
  CHECK(message_of("not an n-gram file").find("magic") != std::string::npos);
  for (size_t size = 8; size < file.size(); ++size) CHECK(!message_of(file.substr(0, size)).empty());
  for (size_t i = 0; i < file.size(); ++i) {  // any changed byte
    std::string changed = file;
    changed[i] = static_cast<char>(changed[i] ^ 0x41);
    if (i < 16 || i >= 32) CHECK(!message_of(changed).empty());
    // With the right checksum, such a file is either refused or works.
    try {
      restored(*open(NgramFile::seal(changed)), "toi di hoc. TOI DI");
    } catch (const Error& error) {
      CHECK(error.code() == Code::bad_format || error.code() == Code::unsupported);
    }
  }
  std::string form = file;
  const size_t at = form.find("toi\n");
  form.replace(at, 3, "tzi");
  CHECK(message_of(NgramFile::seal(form)).find("form 3 is not a possible Vietnamese syllable") !=
        std::string::npos);
}

TEST(text_is_restored) {
  CHECK(restored(packaged(), "Ha Noi la thu do cua Viet Nam.") == "Hà Nội là thủ đô của Việt Nam.");
  CHECK(restored(packaged(), "").empty());
  CHECK(restored(packaged(), "Tôi đi học ở trường đại học.") == "Tôi đi học ở trường đại học.");
  for (const std::string_view text : {"Nếu bi chủ dính bi mục tiêu thì bi chủ được đặt lại vào vị trí quy "
                                      "định và bi mục tiêu ở nguyên vị trí."})
    CHECK(restored(packaged(), text) == text);  // a word without marks, many times
  CHECK(restored(packaged(), "\xff toi di hoc\ntoi di hoc") == "\xff toi di hoc\ntôi đi học");
  CHECK_FAILS(restored(packaged(), std::string_view("a\0b", 3)), "found a NUL byte at 1");
}

TEST(a_confident_choice_is_explained) {
  std::string out;
  std::vector<Choice> choices;
  text::restore::restore(packaged(), "toi di hoc", {}, out, &choices);
  CHECK(choices.size() == 3 && choices[2].begin == 7 && choices[2].end == 10);
  CHECK(choices[2].alternatives[0].text == "học" && choices[2].alternatives[0].probability > 0.9f);
  Options strict;
  strict.min_confidence = 1;
  CHECK(restored(packaged(), "toi di hoc", strict) == "toi di hoc");
}

TEST(nothing_is_allocated_after_the_first_call) {
  const std::string_view line =
      "hom nay troi dep qua, chung ta di choi o cong vien gan nha, roi ve an com toi voi ca nha";
  const std::string_view decomposed = "ho\u0302m nay tro\u031b\u0300i dep qua, chung ta di choi";
  std::string scorer_file = BINHDAN_TEST_NGRAMS;
  scorer_file.insert(scorer_file.size() - 4, "-scorer");
  const auto scorer = Scorer::open(scorer_file, packaged());
  for (const Scorer* used : {static_cast<const Scorer*>(nullptr), scorer.get()})
    for (const Typing typing : {Typing::none, Typing::telex})
      for (const std::string_view text : {line, decomposed}) {
        Options options;
        options.scorer = used;
        options.typing = typing;
        std::string out;
        text::restore::restore(packaged(), text, options, out);
        CHECK(out != text);
        const int64_t before = allocations;
        text::restore::restore(packaged(), text, options, out);
        CHECK(allocations == before);
      }
}

// csrc/text/restore/typing: the keys of Telex and VNI.
#include <string>

#include "check.h"
#include "text/restore/typing.h"

using namespace binhdan::text::restore;

namespace {

// The syllables, separated by spaces; with "!" if one is the word itself.
std::string read(std::string_view word, Typing typing) {
  const KeySyllables keys = read_keys(word, typing);
  std::string out;
  for (std::size_t i = 0; i < keys.count; ++i) {
    if (i > 0) out += ' ';
    const Syllable& syllable = keys.syllables[i];
    for (std::size_t k = 0; k < syllable.count; ++k)
      append_letter(out, syllable, k, (syllable.upper >> k & 1) != 0, false);
  }
  return keys.literal ? out + "!" : out;
}

}  // namespace

TEST(telex_is_read) {
  const auto telex = [](std::string_view word) { return read(word, Typing::telex); };
  CHECK(telex("tieesng") == "tiếng" && telex("tieengs") == "tiếng" && telex("tienges") == "tiếng");
  CHECK(telex("dduwowcj") == "được" && telex("dduwocj") == "được" && telex("DDuowjc") == "Được");
  CHECK(telex("thuowr") == "thuở" && telex("muwa") == "mưa" && telex("quawn") == "quăn");
  CHECK(telex("tw") == "tư" && telex("nhwng") == "nhưng" && telex("w") == "ư");
  CHECK(telex("xooong") == "xoong" && telex("hoafs") == "hóa" && telex("hoasz") == "hoa");
  CHECK(telex("toi") == "toi!" && telex("dinhd") == "đinh" && telex("VIEETJ") == "VIỆT");
  CHECK(telex("hocj") == "học" && telex("hof") == "hò" && telex("nghieengf") == "nghiềng");
  CHECK(telex("class").empty() && telex("has5").empty() && telex("computer").empty() && telex("").empty());
  CHECK(telex(std::string(100, 'w')).empty() && telex("aeaeaeaeaeaeaeae").empty());
  CHECK(telex("việts") != "việt");
}

TEST(vni_is_read) {
  const auto vni = [](std::string_view word) { return read(word, Typing::vni); };
  CHECK(vni("tie6ng1") == "tiếng" && vni("tie61ng") == "tiếng" && vni("d9u7o7c5") == "được");
  CHECK(vni("duoc975") == "được" && vni("D9ang8") == "Đăng" && vni("ba8ng") == "băng");
  CHECK(vni("2018").empty() && vni("covid19").empty() && vni("toi") == "toi!");
}

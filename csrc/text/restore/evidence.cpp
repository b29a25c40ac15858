#include "text/restore/evidence.h"

namespace binhdan::text::restore {

void Evidence::add(const Token& token) {
  if (token.kind != kFirstForm || !token.letters.marked()) return;
  ++marked;
  ++(token.decomposed ? decomposed : composed);
  if (token.letters.tone == 0) return;
  ++toned;
  const auto places = tone_places(token.letters);
  if (!places || places->old_place == places->new_place) return;
  old_place += token.letters.tone_place == places->old_place;
  new_place += token.letters.tone_place == places->new_place;
}

Evidence find_evidence(std::string_view text, std::span<const Span> spans) {
  Evidence evidence;
  const auto past_ascii = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  if (std::ranges::none_of(text, past_ascii)) return evidence;
  for_each_line(text, spans, [&](std::size_t begin, std::size_t end) {
    TokenReader reader(text.substr(begin, end - begin));
    for (Token token; reader.next(token);) evidence.add(token);
  });
  return evidence;
}

}  // namespace binhdan::text::restore

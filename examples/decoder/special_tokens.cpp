#include "special_tokens.hpp"

#include <algorithm>

namespace decoder {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : by_first_byte_(256) {
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(vocabulary.size()); ++id) {
    const TokenKind kind = vocabulary.kind(id);
    if (kind != TokenKind::control && kind != TokenKind::user_defined) continue;
    const std::string& name = vocabulary.bytes(id);
    if (!name.empty()) by_first_byte_[static_cast<unsigned char>(name[0])].push_back(id);
  }
  for (std::vector<std::int32_t>& ids : by_first_byte_) {
    std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) {
      return vocabulary.bytes(a).size() > vocabulary.bytes(b).size();
    });
  }
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, std::size_t from,
                                                        bool control,
                                                        const Vocabulary& vocabulary) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (const auto match = match_at(text, begin, control, vocabulary)) return match;
  }
  return std::nullopt;
}

std::optional<SpecialTokens::Match> SpecialTokens::match_at(std::string_view text,
                                                            std::size_t begin, bool control,
                                                            const Vocabulary& vocabulary) const {
  for (const std::int32_t id : by_first_byte_[static_cast<unsigned char>(text[begin])]) {
    if (!control && vocabulary.kind(id) == TokenKind::control) continue;
    const std::string& name = vocabulary.bytes(id);
    if (text.substr(begin, name.size()) == name) return Match{begin, begin + name.size(), id};
  }
  return std::nullopt;
}

}  // namespace decoder

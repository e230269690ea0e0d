#include "pretokenizer.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "error.hpp"
#include "one_line.hpp"
#include "utf8.hpp"

namespace decoder {

namespace {

// Expressions as the models' published tokenizer.json files have them; \s only inside brackets (see
// Regex).

constexpr const char* gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|[\s]+(?![^\s])|[\s]+)";
constexpr const char* one_digit = R"(\p{N})";
constexpr const char* llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+)";
constexpr const char* qwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                              R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+)";
constexpr const char* punctuation = R"([\p{P}\$\+<=>\^~\|]+)";

constexpr std::array gpt2_stages{gpt2};
constexpr std::array smollm_stages{one_digit, gpt2};
constexpr std::array llama3_stages{llama3_pattern};
constexpr std::array qwen2_stages{qwen2};
constexpr std::array default_stages{punctuation, gpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"};

struct Known {
  std::string_view name;
  std::span<const char* const> stages;
  bool whole_pieces_first;
};

constexpr std::array pretokenizers{
    Known{"default", default_stages, false},        Known{"gpt-2", gpt2_stages, false},
    Known{"smollm", smollm_stages, false},          Known{"starcoder", smollm_stages, false},
    Known{"refact", smollm_stages, false},          Known{"codeshell", smollm_stages, false},
    Known{"llama-bpe", llama3_stages, true},        Known{"llama3", llama3_stages, true},
    Known{"llama-v3", llama3_stages, true},         Known{"qwen2", qwen2_stages, false},
    Known{"deepseek-r1-qwen", qwen2_stages, false},
};

std::string known_names() {
  std::string names;
  for (const Known& entry : pretokenizers)
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  return names;
}

}  // namespace

Pretokenizer::Pretokenizer(std::string_view name) {
  const auto found = std::find_if(pretokenizers.begin(), pretokenizers.end(),
                                  [&](const Known& entry) { return entry.name == name; });
  if (found == pretokenizers.end()) {
    throw Error("pre-tokenizer '" + one_line(name) + "' is not known; use a model with one of " +
                known_names());
  }
  for (const char* pattern : found->stages) stages_.emplace_back(pattern);
  whole_pieces_first_ = found->whole_pieces_first;
}

std::vector<std::string_view> Pretokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  Regex::Scratch scratch;
  while (!text.empty()) {
    const std::size_t good = utf8_prefix(text);
    if (good > 0) split_well_formed(text.substr(0, good), scratch, pieces);
    text.remove_prefix(good);
    std::size_t bad = 0;
    while (bad < text.size() && utf8_character(text.substr(bad)) == 0) ++bad;
    if (bad > 0) pieces.push_back(text.substr(0, bad));
    text.remove_prefix(bad);
  }
  return pieces;
}

void Pretokenizer::split_well_formed(std::string_view text, Regex::Scratch& scratch,
                                     std::vector<std::string_view>& pieces) const {
  std::vector<std::string_view> coarse{text};
  std::vector<std::string_view> fine;
  for (const Regex& stage : stages_) {
    fine.clear();
    for (const std::string_view piece : coarse) {
      std::size_t done = 0;
      std::size_t end = 0;
      for (std::size_t begin = 0; stage.find(piece, scratch, begin, end); begin = done = end) {
        if (begin > done) fine.push_back(piece.substr(done, begin - done));
        fine.push_back(piece.substr(begin, end - begin));
      }
      if (done < piece.size()) fine.push_back(piece.substr(done));
    }
    coarse.swap(fine);
  }
  pieces.insert(pieces.end(), coarse.begin(), coarse.end());
}

}  // namespace decoder

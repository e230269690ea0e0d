#include "tokenizer.hpp"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"
#include "expect_error.hpp"
#include "gguf_writer.hpp"

namespace {

using namespace decoder;
using test::GgufWriter;
using Ids = std::vector<std::int32_t>;

Tokenizer make(const GgufWriter& writer) { return Tokenizer(test::open_bytes(writer.bytes())); }

/// Byte-level tokenizer without merges but those given; byte b is token b.
Tokenizer byte_level(std::string_view pre, const std::vector<std::string>& merges = {},
                     const std::vector<std::string>& control = {}) {
  GgufWriter writer;
  return make(test::add_byte_level_tokenizer(writer, pre, merges, control));
}

std::vector<std::string> pieces(std::string_view pre, std::string_view text) {
  std::vector<std::string> found;
  for (const std::string_view piece : Pretokenizer(pre).split(text)) found.emplace_back(piece);
  return found;
}

using Pieces = std::vector<std::string>;

/// SentencePiece tokenizer: unknown, begin, end, 256 bytes, then `words` with falling scores.
GgufWriter sentence_piece(const std::vector<std::string>& words) {
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> kinds{2, 3, 3};
  constexpr const char* digits = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    kinds.push_back(6);
  }
  std::vector<float> scores(tokens.size(), 0.f);
  for (const std::string& word : words) {
    tokens.push_back(word);
    kinds.push_back(1);
    scores.push_back(-static_cast<float>(scores.size()));
  }
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens);
  writer.integers("tokenizer.ggml.token_type", kinds).numbers("tokenizer.ggml.scores", scores);
  return writer.integer("tokenizer.ggml.bos_token_id", 1).integer("tokenizer.ggml.eos_token_id", 2);
}

constexpr std::int32_t first_word = 259;

}  // namespace

TEST_CASE("GPT-2 pieces: contractions, words with their space, runs of spaces") {
  CHECK(pieces("gpt-2", "I'm  you'LL 12a!?\n\n x") ==
        Pieces{"I", "'m", " ", " you", "'", "LL", " 12", "a", "!?", "\n\n", " x"});
  CHECK(pieces("gpt-2", "a   ") == Pieces{"a", "   "});
  CHECK(pieces("gpt-2", "").empty());
}

TEST_CASE("SmolLM pieces: each digit alone before GPT-2's expression sees the text") {
  CHECK(pieces("smollm", "a  12") == Pieces{"a", "  ", "1", "2"});
  CHECK(pieces("gpt-2", "a  12") == Pieces{"a", " ", " 12"});
}

TEST_CASE(
    "Llama 3 pieces: threes of digits, any case of contractions, newlines with spaces before "
    "them") {
  CHECK(pieces("llama-bpe", "I'M 12345 (ok)\n\n  \n b") ==
        Pieces{"I", "'M", " ", "123", "45", " (", "ok", ")\n\n", "  \n", " b"});
  CHECK(pieces("llama3", "a.b") == Pieces{"a", ".b"});
}

TEST_CASE("Qwen 2 pieces: as Llama 3's with single digits") {
  CHECK(pieces("qwen2", "x 123") == Pieces{"x", " ", "1", "2", "3"});
  CHECK(pieces("deepseek-r1-qwen", "don'T") == Pieces{"don", "'T"});
}

TEST_CASE("white space is Unicode's property") {
  CHECK(pieces("gpt-2", "a\xC2\x85\xC2\x85") == Pieces{"a", "\xC2\x85\xC2\x85"});
  CHECK(pieces("gpt-2", "!\xE1\xA0\x8E!") == Pieces{"!\xE1\xA0\x8E!"});  // U+180E is none
  CHECK(pieces("gpt-2", "!\xE3\x80\x80!") == Pieces{"!", "\xE3\x80\x80", "!"});
}

TEST_CASE("pieces of any bytes join to the text again") {
  std::mt19937 random(7);
  for (const char* pre : {"default", "gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const Pretokenizer pretokenizer(pre);
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (auto left = random() % 40; left > 0; --left) {
        text += random() % 3 == 0 ? static_cast<char>(random()) : " \n1a'.\xC3\xA9"[random() % 8];
      }
      std::string joined;
      for (const std::string_view piece : pretokenizer.split(text)) {
        CHECK_FALSE(piece.empty());
        joined += piece;
      }
      CHECK(joined == text);
    }
  }
}

TEST_CASE("merges apply by rank, leftmost first") {
  const Tokenizer tokenizer = byte_level("gpt-2", {"b c", "a b", "a a", "aa a"});
  CHECK(tokenizer.encode("abc", false) == Ids{'a', 256});
  CHECK(tokenizer.encode("ab", false) == Ids{257});
  CHECK(tokenizer.encode("aaaaa", false) == Ids{258, 259});
  CHECK(tokenizer.encode("aabc", false) == Ids{258, 256});
  CHECK(tokenizer.decode(Ids{257, 259, 'z'}) == "abaaaz");
}

TEST_CASE("merges never cross pieces") {
  const Tokenizer tokenizer = byte_level("gpt-2", {"a 1"});
  CHECK(tokenizer.encode("a1", false) == Ids{'a', '1'});
}

TEST_CASE("Llama 3 takes whole words that are tokens, others merge") {
  // "abc" is a token that no order of these merges reaches from its bytes.
  const std::vector<std::string> merges{"b c", "a b", "ab c"};
  CHECK(byte_level("llama-bpe", merges).encode("abc", false) == Ids{258});
  CHECK(byte_level("gpt-2", merges).encode("abc", false) == Ids{'a', 256});
}

TEST_CASE("any bytes come back from their tokens") {
  const Tokenizer tokenizer = byte_level("smollm", {"\xC4\xA0 a", "a b"}, {"<|x|>"});
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (auto left = random() % 60; left > 0; --left) {
      text += random() % 2 == 0 ? static_cast<char>(random()) : " ab<|x|>"[random() % 8];
    }
    CHECK(tokenizer.decode(tokenizer.encode(text, true)) == text);
    CHECK(tokenizer.decode(tokenizer.encode(text, false)) == text);
  }
  CHECK(tokenizer.encode(" ab", false) == Ids{256, 'b'});
}

TEST_CASE("names of control tokens are tokens only when asked for, the longest first") {
  const Tokenizer tokenizer = byte_level("gpt-2", {}, {"<|a", "<|a|>", "<|end|>"});
  CHECK(tokenizer.encode("x<|a|>y<|a!", true) == Ids{'x', 257, 'y', 256, '!'});
  CHECK(tokenizer.encode("<|a", false) == Ids{'<', '|', 'a'});
  CHECK(tokenizer.encode("<|end|><|end|>", true) == Ids{258, 258});
  CHECK(tokenizer.encode("<|en", true) == Ids{'<', '|', 'e', 'n'});
  CHECK(tokenizer.decode(Ids{'x', 257}) == "x<|a|>");
}

TEST_CASE("user-defined tokens always match") {
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
  writer.strings("tokenizer.ggml.tokens", {"a", "b", "<tool>"})
      .integers("tokenizer.ggml.token_type", {1, 1, 4});
  writer.strings("tokenizer.ggml.merges", {});
  const Tokenizer tokenizer = make(writer);
  CHECK(tokenizer.encode("a<tool>b", false) == Ids{0, 2, 1});
  CHECK(tokenizer.encode("acb", false) == Ids{0, 1});  // no token for the byte c
}

TEST_CASE("a vocabulary of user-defined tokens alone needs no merges") {
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "default");
  writer.strings("tokenizer.ggml.tokens", {"<s>", "f ", "f=7 "})
      .integers("tokenizer.ggml.token_type", {3, 4, 4});
  CHECK(make(writer).encode("f f=7 f ", false) == Ids{1, 2, 1});
  GgufWriter with_text;
  with_text.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a", "b"});
  test::check_error([&] { make(with_text); }, "tokenizer.ggml.merges");
}

TEST_CASE("begin and end tokens follow the file") {
  GgufWriter writer;
  test::add_byte_level_tokenizer(writer, "gpt-2", {}, {"<s>", "<|im_end|>", "<other>"});
  writer.integer("tokenizer.ggml.bos_token_id", 256).integer("tokenizer.ggml.eos_token_id", 'e');
  writer.boolean("tokenizer.ggml.add_bos_token", true);
  const Tokenizer tokenizer = make(writer);
  CHECK(tokenizer.bos() == 256);
  CHECK(tokenizer.eos() == 'e');
  CHECK(tokenizer.is_end('e'));
  CHECK(tokenizer.is_end(257));
  CHECK_FALSE(tokenizer.is_end(256));
  CHECK_FALSE(tokenizer.is_end(258));
  CHECK(tokenizer.encode_prompt("a") == Ids{256, 'a'});
  CHECK(tokenizer.encode_prompt("<s>a") == Ids{256, 'a'});
  CHECK(tokenizer.encode("a", true) == Ids{'a'});
  CHECK(byte_level("gpt-2").encode_prompt("a") == Ids{'a'});
  CHECK_FALSE(byte_level("gpt-2").bos());
}

TEST_CASE("SentencePiece merges by score, marks spaces and falls back to bytes") {
  const Tokenizer tokenizer = make(sentence_piece({"\xE2\x96\x81", "a", "b", "ab",
                                                   "\xE2\x96\x81"
                                                   "a"}));
  const std::int32_t space = first_word, b = first_word + 2, ab = first_word + 3;
  CHECK(tokenizer.encode("ab", false) == Ids{space, ab});  // "ab" scores above "\u2581a"
  CHECK(tokenizer.encode("a b", false) == Ids{first_word + 4, space, b});
  CHECK(tokenizer.encode("\xC3\xA9", false) == Ids{space, 3 + 0xC3, 3 + 0xA9});
  CHECK(tokenizer.encode("\xFF", false) == Ids{space, 3 + 0xFF});
  CHECK(tokenizer.encode("</s>", true) == Ids{2});
  CHECK(tokenizer.encode_prompt("b") == Ids{1, space, b});
  CHECK(tokenizer.encode("", true).empty());
  for (const std::string text : {"ab  a \xC3\xA9\n\xFF", " lead", "x"}) {
    CHECK(tokenizer.decode(tokenizer.encode(text, false)) == text);
  }
}

TEST_CASE("what cannot be a tokenizer is refused with the reason") {
  const auto refused = [](const GgufWriter& writer, const char* why) {
    test::check_error([&] { make(writer); }, why);
  };
  const auto byte_pair = [](std::string_view pre, const std::vector<std::string>& merges) {
    GgufWriter writer;
    return test::add_byte_level_tokenizer(writer, pre, merges, {});
  };
  refused(GgufWriter(), "tokenizer.ggml.model");
  refused(
      GgufWriter().string("tokenizer.ggml.model", "bert").strings("tokenizer.ggml.tokens", {"a"}),
      "'bert'");
  refused(byte_pair("martian", {}), "'martian' is not known");
  refused(byte_pair("martian", {}), "smollm");
  refused(GgufWriter().string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {}),
          "0 tokens");
  refused(byte_pair("gpt-2", {}).integer("tokenizer.ggml.bos_token_id", 256),
          "outside the vocabulary");
  GgufWriter kinds;
  kinds.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a"});
  refused(kinds.integers("tokenizer.ggml.token_type", {1, 1}), "2 token types");
  GgufWriter merges;
  merges.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a", "b"});
  refused(merges.strings("tokenizer.ggml.merges", {"a b"}), "merge 0 ('a b')");
  GgufWriter scores;
  scores.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", {"a", "b"});
  refused(scores.numbers("tokenizer.ggml.scores", {1.f}), "tokenizer.ggml.scores");
  test::check_error([&] { byte_level("gpt-2").piece(256); }, "outside the vocabulary");
  CHECK_THROWS_AS(byte_level("gpt-2").decode(Ids{-1}), Error);
}

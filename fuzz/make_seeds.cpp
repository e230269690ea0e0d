// Writes the fuzzers' first inputs into FOLDER/gguf_fuzz and FOLDER/state_fuzz.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <lethe/lethe.hpp>
#include <string>
#include <vector>

#include "gguf_writer.hpp"

namespace {

using decoder::test::GgufWriter;

void write(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

/// A model's metadata with a tensor or two, small enough for the fuzzer to get through often.
GgufWriter model(const std::string& architecture) {
  GgufWriter writer;
  writer.string("general.architecture", architecture);
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv"}) {
    writer.integer(architecture + "." + key, 2);
  }
  writer.number(architecture + ".rope.freq_base", 10000.0f);
  writer.number(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
  using decoder::gguf::TensorType;
  writer.tensor("token_embd.weight", TensorType::F32, {2, 4}, std::vector<std::byte>(32));
  return writer.tensor("output.weight", TensorType::Q8_0, {32, 1}, std::vector<std::byte>(34));
}

GgufWriter& add_byte_pairs(GgufWriter& writer, const char* pre) {
  writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", pre);
  writer.strings("tokenizer.ggml.tokens",
                 {"H", "i", "\xC4\xA0", "t", "h", "e", "1", "Hi", "th", "the", "<|im_end|>"});
  writer.integers("tokenizer.ggml.token_type", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3});
  writer.strings("tokenizer.ggml.merges", {"H i", "t h", "th e"});
  writer.integer("tokenizer.ggml.eos_token_id", 10).integer("general.alignment", 32);
  return writer.string("tokenizer.chat_template", "<|im_start|>");
}

GgufWriter& add_sentence_pieces(GgufWriter& writer) {
  writer.string("tokenizer.ggml.model", "llama");
  writer.strings("tokenizer.ggml.tokens",
                 {"<unk>", "<s>", "</s>", "<0x0A>", "H", "i", "Hi", "\xE2\x96\x81"});
  writer.integers("tokenizer.ggml.token_type", {2, 3, 3, 6, 1, 1, 1, 1});
  writer.numbers("tokenizer.ggml.scores", {0, 0, 0, 0, -3, -2, -1, -4});
  return writer.boolean("tokenizer.ggml.add_bos_token", true)
      .integer("tokenizer.ggml.bos_token_id", 1);
}

void write_models(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const char* pre : {"default", "gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    GgufWriter writer = model("llama");
    write(folder / pre, add_byte_pairs(writer, pre).bytes());
  }
  GgufWriter pieces = model("qwen2");
  write(folder / "sentence_piece", add_sentence_pieces(pieces).bytes());
  write(folder / "version_2", model("qwen3").bytes(2));
}

/// One input per policy and mode: the fuzzer's first byte, then edits or a whole blob.
void write_states(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const lethe::policies::Lethe pruner({.layers = 2, .capacity = 24, .draft_tokens = 4});
  for (unsigned mode = 0; mode < 24; ++mode) {
    std::vector<std::byte> input{static_cast<std::byte>(mode)};
    if (mode % 2 == 0) {
      const std::vector<std::byte> blob = pruner.save();
      input.insert(input.end(), blob.begin(), blob.end());
    } else {
      input.resize(1 + 3 * mode, static_cast<std::byte>(mode));
    }
    write(folder / ("state_" + std::to_string(mode)), input);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: make_seeds FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  write_models(folder / "gguf_fuzz");
  write_states(folder / "state_fuzz");
}

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "decoder.hpp"
#include "expect_error.hpp"
#include "tiny_model.hpp"
#include "workbench.hpp"

namespace {

using namespace decoder;

/// A model of 20 KB whose every size can be changed.
test::TinyModel small(const std::string& architecture) {
  return {.architecture = architecture,
          .type = gguf::TensorType::Q4_0,
          .layers = 1,
          .width = 64,
          .feed_forward = 64,
          .heads = 2,
          .kv_heads = 1,
          .vocabulary = 32};
}

/// Loads a model and decodes two tokens.
void decode(const std::vector<std::byte>& bytes) {
  const Model model(test::open_bytes(bytes), 1);
  Decoder decoder(model, 1);
  Sequence sequence{KVCache(model.config(), CacheType::f16, 32), Pruner(), 0};
  for (const std::int32_t token : {0, 1}) decoder.step(sequence, token);
}

/// Bytes in front of the tensors' data.
std::size_t header_bytes(const test::TinyModel& model) {
  const gguf::File file = test::open_bytes(test::tiny_model(model));
  std::size_t data = 0;
  for (const auto& [name, tensor] : file.tensors()) data += (tensor.bytes + 31) / 32 * 32;
  return file.size() - data;
}

}  // namespace

TEST_CASE("a model file with any byte of its header changed decodes or is refused") {
  for (const char* architecture : {"llama", "qwen3"}) {
    const std::vector<std::byte> whole = test::tiny_model(small(architecture));
    const std::size_t header = header_bytes(small(architecture));
    std::size_t refused = 0;
    for (std::size_t at = 0; at < header; ++at) {
      for (const unsigned mask : {0x01u, 0xFFu}) {
        std::vector<std::byte> changed = whole;
        changed[at] ^= static_cast<std::byte>(mask);
        try {
          decode(changed);
        } catch (const Error&) {
          ++refused;
        }
      }
    }
    CHECK(refused > 0);
    CHECK(refused < 2 * header);
  }
}

TEST_CASE("a model whose tensors do not fit its metadata is refused by the tensor's name") {
  const auto refused = [](std::string_view cut, std::string_view why) {
    const std::vector<std::byte> whole = test::tiny_model(small("llama"));
    std::string text(reinterpret_cast<const char*>(whole.data()), whole.size());
    text[text.find(cut)] = 'X';
    const test::Bytes bytes = test::Bytes().raw(text);
    test::check_error([&] { decode(bytes.data()); }, why);
  };
  CHECK_NOTHROW(decode(test::tiny_model(small("llama"))));
  refused("token_embd.weight", "token_embd.weight");
  refused("blk.0.attn_q.weight", "blk.0.attn_q.weight");
  refused("blk.0.ffn_down.weight", "blk.0.ffn_down.weight");
  refused("output_norm.weight", "output_norm.weight");
  refused("llama.block_count", "llama.block_count");
  refused("llama", "architecture");
}

TEST_CASE("weights of a block that would be left out are refused by name") {
  test::TinyModel model = small("llama");
  model.unknown_tensor = "blk.0.attn_output.bias";
  test::check_error([&] { decode(test::tiny_model(model)); }, "blk.0.attn_output.bias");
  model.unknown_tensor = "some_other.weight";
  CHECK_NOTHROW(decode(test::tiny_model(model)));
}

TEST_CASE("a tokenizer with more tokens than the model embeds is refused") {
  test::TinyModel model = small("llama");
  const auto open = [&] {
    const test::TemporaryFile file(test::tiny_model(model));
    Workbench({.file = file.path().string(), .threads = 1});
  };
  CHECK_NOTHROW(open());
  model.tokens = model.vocabulary - 1;
  CHECK_NOTHROW(open());
  model.tokens = model.vocabulary + 1;
  test::check_error(open, "the tokenizer has 33 tokens");
}

TEST_CASE("a message about a file stays short, whatever the file says") {
  std::string message;
  try {
    decode(test::tiny_model(small(std::string(5000, 'y'))));
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.find("architecture 'yyy") != message.npos);
  CHECK(message.size() < 500);
}

TEST_CASE("the context ends where a sliding window would hide tokens, and old scaling counts") {
  test::GgufWriter writer;
  test::add_tiny_metadata(writer, small("llama"));
  writer.integer("llama.attention.sliding_window", 100);
  writer.number("llama.rope.scale_linear", 4.0f);
  writer.tensor("token_embd.weight", gguf::TensorType::F32, {1, 1}, std::vector<std::byte>(4));
  const ModelConfig config = ModelConfig::read(test::open_bytes(writer.bytes()));
  CHECK(config.context == 100);
  CHECK(config.rope_scale == 0.25f);
}

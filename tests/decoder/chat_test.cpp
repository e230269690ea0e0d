#include "chat.hpp"

#include <string>

#include "catch.hpp"
#include "expect_error.hpp"
#include "gguf_writer.hpp"

namespace {

using namespace decoder;

#define DEEPSEEK(name) "<\xEF\xBD\x9C" name "\xEF\xBD\x9C>"

std::string filled(std::string_view chat_template, std::string_view user,
                   std::string_view system = {}) {
  test::GgufWriter writer;
  writer.string("tokenizer.chat_template", chat_template);
  return apply_chat_template(test::open_bytes(writer.bytes()), user, system);
}

}  // namespace

TEST_CASE("ChatML with the default system prompt of its template") {
  const std::string turn = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  const std::string smollm =
      "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n' }}";
  CHECK(filled(smollm, "Hi") ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n" +
            turn);
  CHECK(filled("'<|im_start|>system\nYou are a helpful assistant.<|im_end|>'", "Hi") ==
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + turn);
  CHECK(filled("You are Qwen, created by Alibaba Cloud. You are a helpful assistant. <|im_start|>",
               "Hi") ==
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
        "assistant.<|im_end|>\n" +
            turn);
  CHECK(filled("<|im_start|>", "Hi") == turn);
  CHECK(filled(smollm, "Hi", "Be brief.") == "<|im_start|>system\nBe brief.<|im_end|>\n" + turn);
}

TEST_CASE("Llama 3 with and without the dates of later versions") {
  const std::string turn =
      "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n";
  CHECK(filled("<|start_header_id|>", "Hi") == "<|begin_of_text|>" + turn);
  CHECK(filled("<|start_header_id|>", "Hi", "S") ==
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>" + turn);
  CHECK(filled("<|start_header_id|> Cutting Knowledge Date: December 2023", "Hi") ==
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
        "December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>" +
            turn);
}

TEST_CASE("DeepSeek-R1 opens the reasoning block where its template does") {
  const std::string begin =
      "<\xEF\xBD\x9C"
      "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>";
  CHECK(filled(DEEPSEEK("User"), "Hi", "S") ==
        begin + "S" DEEPSEEK("User") "Hi" DEEPSEEK("Assistant"));
  CHECK(filled(DEEPSEEK("User") " '" DEEPSEEK("Assistant") "<think>\\n'", "Hi") ==
        begin + DEEPSEEK("User") "Hi" DEEPSEEK("Assistant") "<think>\n");
}

TEST_CASE("an unknown template or none asks for a raw prompt") {
  test::check_error([&] { filled("[INST] {{ x }} [/INST]", "Hi"); }, "pass the prompt raw");
  const gguf::File file = test::open_bytes(test::GgufWriter().bytes());
  test::check_error([&] { apply_chat_template(file, "Hi"); }, "no chat template");
}

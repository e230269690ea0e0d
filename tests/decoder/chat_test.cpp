#include "chat.hpp"

#include <string>

#include "catch.hpp"
#include "expect_error.hpp"
#include "gguf_writer.hpp"

namespace {

using namespace decoder;

#define DEEPSEEK(name) "<\xEF\xBD\x9C" name "\xEF\xBD\x9C>"

gguf::File file_of(std::string_view chat_template) {
  test::GgufWriter writer;
  writer.string("tokenizer.chat_template", chat_template);
  return test::open_bytes(writer.bytes());
}

std::string filled(std::string_view chat_template, std::string_view user,
                   std::string_view system = {}) {
  return apply_chat_template(file_of(chat_template), user, system);
}

std::string later(std::string_view chat_template, std::string_view user) {
  return later_chat_turn(file_of(chat_template), user);
}

const std::string zephyr_template =
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + "
    "message['content'] + eos_token }}{% endif %}{% endfor %}{{ '<|assistant|>' }}";

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

TEST_CASE("Llama 2 and Mistral put each turn between instruction marks") {
  const std::string llama2 = "'<<SYS>>\n' ... bos_token + '[INST] ' + content + ' [/INST]'";
  CHECK(filled(llama2, "Hi") == "<s>[INST] Hi [/INST]");
  CHECK(filled(llama2, "Hi", "S") == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST]");
  CHECK(filled("bos_token + '[INST] ' + content + ' [/INST]'", "Hi") == "[INST] Hi [/INST]");
  CHECK(filled("'[INST] ' + content + '[/INST]'", "Hi", "S") == "[INST] S\n\nHi[/INST]");
  CHECK(filled("'[INST]' + content + '[/INST]'", "Hi") == "[INST]Hi[/INST]");
}

TEST_CASE("Zephyr ends what is said with the end-of-text token") {
  const std::string turn = "<|user|>\nHi</s>\n<|assistant|>\n";
  CHECK(filled(zephyr_template, "Hi") == turn);
  CHECK(filled(zephyr_template, "Hi", "S") == "<|system|>\nS</s>\n" + turn);
}

TEST_CASE("a later turn repeats nothing that stands at the start of a chat alone") {
  CHECK(later("<|im_start|> You are a helpful assistant.", "Hi") ==
        "\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(later("<|start_header_id|> Cutting Knowledge Date: December 2023", "Hi") ==
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(later(DEEPSEEK("User"), "Hi") == DEEPSEEK("User") "Hi" DEEPSEEK("Assistant"));
  CHECK(later("'<<SYS>>' '[INST] ' + content + ' [/INST]'", "Hi") == "<s>[INST] Hi [/INST]");
  CHECK(later("'[INST] ' + content + ' [/INST]'", "Hi") == "[INST] Hi [/INST]");
  CHECK(later(zephyr_template, "Hi") == "\n<|user|>\nHi</s>\n<|assistant|>\n");
}

TEST_CASE("an unknown template or none asks for a raw prompt") {
  const gguf::File none = test::open_bytes(test::GgufWriter().bytes());
  CHECK(chat_template_of(none) == ChatTemplate::none);
  test::check_error([&] { apply_chat_template(none, "Hi"); }, "no chat template");
  for (const char* other : {"### Instruction: {{ x }}", "<|user|>\n{{ x }}<|end|>"}) {
    CHECK(chat_template_of(file_of(other)) == ChatTemplate::unknown);
    test::check_error([&] { filled(other, "Hi"); }, "give --raw");
  }
  CHECK(chat_template_of(file_of(zephyr_template)) == ChatTemplate::known);
}

#include "chat.hpp"

#include <algorithm>
#include <array>

namespace decoder {

namespace {

// DeepSeek writes its tokens' names with U+FF5C bars and U+2581 underscores.
constexpr std::string_view deepseek_begin =
    "<\xEF\xBD\x9C"
    "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>";
constexpr std::string_view deepseek_user =
    "<\xEF\xBD\x9C"
    "User\xEF\xBD\x9C>";
constexpr std::string_view deepseek_assistant =
    "<\xEF\xBD\x9C"
    "Assistant\xEF\xBD\x9C>";

/// System prompts that ChatML templates fall back to; whichever the template contains is its own.
constexpr std::array<std::string_view, 3> default_systems{
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
};

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string joined(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

std::string_view default_system(std::string_view chat_template) {
  const auto found =
      std::find_if(default_systems.begin(), default_systems.end(),
                   [&](std::string_view candidate) { return contains(chat_template, candidate); });
  return found == default_systems.end() ? std::string_view() : *found;
}

std::string chat_ml(std::string_view chat_template, std::string_view user,
                    std::string_view system) {
  if (system.empty()) system = default_system(chat_template);
  std::string text;
  if (!system.empty()) text = joined({"<|im_start|>system\n", system, "<|im_end|>\n"});
  return text + joined({"<|im_start|>user\n", user, "<|im_end|>\n<|im_start|>assistant\n"});
}

std::string llama3(std::string_view chat_template, std::string_view user, std::string_view system) {
  constexpr std::string_view header = "<|start_header_id|>";
  constexpr std::string_view after = "<|end_header_id|>\n\n";
  constexpr std::string_view end = "<|eot_id|>";
  // Llama 3.1 and later always state these dates; the templates' own fallback keeps runs
  // repeatable.
  const std::string_view dates =
      contains(chat_template, "Cutting Knowledge Date")
          ? "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
          : "";
  std::string text = "<|begin_of_text|>";
  if (!dates.empty() || !system.empty()) {
    text += joined({header, "system", after, dates, system, end});
  }
  return text + joined({header, "user", after, user, end, header, "assistant", after});
}

std::string deepseek(std::string_view chat_template, std::string_view user,
                     std::string_view system) {
  // Later templates open the reasoning block themselves.
  const bool thinks = contains(chat_template, joined({deepseek_assistant, "<think>\\n"}));
  return joined(
      {deepseek_begin, system, deepseek_user, user, deepseek_assistant, thinks ? "<think>\n" : ""});
}

}  // namespace

std::string apply_chat_template(const gguf::File& file, std::string_view user,
                                std::string_view system) {
  const std::string_view chat_template = file.string("tokenizer.chat_template", "");
  if (contains(chat_template, deepseek_user)) return deepseek(chat_template, user, system);
  if (contains(chat_template, "<|start_header_id|>")) return llama3(chat_template, user, system);
  if (contains(chat_template, "<|im_start|>")) return chat_ml(chat_template, user, system);
  throw file.error(chat_template.empty()
                       ? "has no chat template; pass the prompt raw, as the model expects it"
                       : "has a chat template that is not ChatML, Llama 3 or DeepSeek-R1; pass the "
                         "prompt raw, as the model expects it");
}

}  // namespace decoder

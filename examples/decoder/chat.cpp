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

/// One turn of a user, as a template writes it.
struct Turn {
  std::string_view chat_template = {};
  std::string_view user = {};
  std::string_view system = {};
  bool is_first = true;  ///< else it follows an answer and the token that ended it
};

std::string chat_ml(const Turn& turn) {
  std::string_view system = turn.system;
  if (system.empty()) system = default_system(turn.chat_template);
  std::string text = turn.is_first ? "" : "\n";
  if (turn.is_first && !system.empty())
    text = joined({"<|im_start|>system\n", system, "<|im_end|>\n"});
  return text + joined({"<|im_start|>user\n", turn.user, "<|im_end|>\n<|im_start|>assistant\n"});
}

std::string llama3(const Turn& turn) {
  constexpr std::string_view header = "<|start_header_id|>";
  constexpr std::string_view after = "<|end_header_id|>\n\n";
  constexpr std::string_view end = "<|eot_id|>";
  // Llama 3.1 and later always state these dates; the templates' own fallback keeps runs
  // repeatable.
  const std::string_view dates =
      contains(turn.chat_template, "Cutting Knowledge Date")
          ? "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
          : "";
  std::string text = turn.is_first ? "<|begin_of_text|>" : "";
  if (turn.is_first && (!dates.empty() || !turn.system.empty())) {
    text += joined({header, "system", after, dates, turn.system, end});
  }
  return text + joined({header, "user", after, turn.user, end, header, "assistant", after});
}

std::string deepseek(const Turn& turn) {
  // Later templates open the reasoning block themselves.
  const bool thinks = contains(turn.chat_template, joined({deepseek_assistant, "<think>\\n"}));
  const std::string start = turn.is_first ? joined({deepseek_begin, turn.system}) : "";
  return joined({start, deepseek_user, turn.user, deepseek_assistant, thinks ? "<think>\n" : ""});
}

/// Llama 2 and Mistral: Llama 2 begins every turn with <s>, Mistral the text alone, which the
/// tokenizer does.
std::string instructions(const Turn& turn) {
  const bool is_llama2 = contains(turn.chat_template, "<<SYS>>");
  const std::string_view before = contains(turn.chat_template, "[INST] ") ? " " : "";
  const std::string_view after = contains(turn.chat_template, " [/INST]") ? " " : "";
  std::string system;
  if (turn.is_first && !turn.system.empty())
    system = is_llama2 ? joined({"<<SYS>>\n", turn.system, "\n<</SYS>>\n\n"})
                       : joined({turn.system, "\n\n"});
  return joined({is_llama2 ? "<s>" : "", "[INST]", before, system, turn.user, after, "[/INST]"});
}

std::string zephyr(const Turn& turn) {
  std::string text = turn.is_first ? "" : "\n";
  if (turn.is_first && !turn.system.empty()) text = joined({"<|system|>\n", turn.system, "</s>\n"});
  return text + joined({"<|user|>\n", turn.user, "</s>\n<|assistant|>\n"});
}

/// Others name their users so too, but do not end what they say with the end-of-text token.
bool is_zephyr(std::string_view chat_template) {
  const std::size_t user = chat_template.find("<|user|>");
  return user != chat_template.npos &&
         contains(chat_template.substr(user, 64), "message['content'] + eos_token");
}

using Family = std::string (*)(const Turn&);

/// How a template's family writes a turn; null for a family not known here.
Family family_of(std::string_view chat_template) {
  if (contains(chat_template, deepseek_user)) return deepseek;
  if (contains(chat_template, "<|start_header_id|>")) return llama3;
  if (contains(chat_template, "<|im_start|>")) return chat_ml;
  if (contains(chat_template, "[INST]")) return instructions;
  return is_zephyr(chat_template) ? zephyr : nullptr;
}

std::string_view template_of(const gguf::File& file) {
  return file.string("tokenizer.chat_template", "");
}

std::string written(const gguf::File& file, Turn turn) {
  turn.chat_template = template_of(file);
  if (const Family family = family_of(turn.chat_template)) return family(turn);
  throw file.error(turn.chat_template.empty()
                       ? "has no chat template: give --raw, and the prompt as the model expects it"
                       : "has a chat template of a family that is not known here: give --raw, and "
                         "the prompt as the model expects it");
}

}  // namespace

ChatTemplate chat_template_of(const gguf::File& file) {
  const std::string_view chat_template = template_of(file);
  if (chat_template.empty()) return ChatTemplate::none;
  return family_of(chat_template) == nullptr ? ChatTemplate::unknown : ChatTemplate::known;
}

std::string apply_chat_template(const gguf::File& file, std::string_view user,
                                std::string_view system) {
  return written(file, {.user = user, .system = system});
}

std::string later_chat_turn(const gguf::File& file, std::string_view user) {
  return written(file, {.user = user, .is_first = false});
}

}  // namespace decoder

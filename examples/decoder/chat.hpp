#pragma once

#include <string>
#include <string_view>

#include "gguf.hpp"

namespace decoder {

/// What a file says about chats.
enum class ChatTemplate {
  none,
  unknown,  ///< of another family than those below
  known
};

/// Recognises the family from tokenizer.chat_template: ChatML, Llama 3, DeepSeek-R1, Llama 2,
/// Mistral or Zephyr. O(template).
ChatTemplate chat_template_of(const gguf::File& file);

/// The text a chat model is to continue for the first turn of a user, special tokens by name.
///
/// An empty `system` means the template's default, if it has one. Encode the result with
/// parse_special. Throws Error unless the template is of a known family. O(text).
std::string apply_chat_template(const gguf::File& file, std::string_view user,
                                std::string_view system = {});

/// The text of a later turn: what follows the end token of the model's answer; as
/// apply_chat_template, without what stands at the start of a chat alone.
std::string later_chat_turn(const gguf::File& file, std::string_view user);

}  // namespace decoder

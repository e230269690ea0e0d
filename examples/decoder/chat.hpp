#pragma once

#include <string>
#include <string_view>

#include "gguf.hpp"

namespace decoder {

/// The text a chat model is to continue for one user turn, special tokens by name.
///
/// The family (ChatML, Llama 3, DeepSeek-R1) is recognised from the file's tokenizer.chat_template;
/// an empty `system` means that template's default, if it has one. Encode the result with
/// parse_special. Throws Error when there is no template or it is of another family. O(text).
std::string apply_chat_template(const gguf::File& file, std::string_view user,
                                std::string_view system = {});

}  // namespace decoder

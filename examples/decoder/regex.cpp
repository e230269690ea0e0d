#define PCRE2_CODE_UNIT_WIDTH 8

#include "regex.hpp"

#include <pcre2.h>

#include <array>
#include <string>

#include "error.hpp"

namespace decoder {

namespace {

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// PCRE2's \s also takes U+180E and not U+0085; the reference tokenizers follow Unicode's property.
std::string with_unicode_space(std::string_view pattern) {
  constexpr std::string_view space = "\\t-\\r\\x{85}\\p{Z}";
  std::string expanded(pattern);
  for (std::size_t at = 0; (at = expanded.find("\\s", at)) != std::string::npos;) {
    expanded.replace(at, 2, space);
    at += space.size();
  }
  return expanded;
}

struct Free {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

}  // namespace

struct Regex::Scratch::Parts {
  std::unique_ptr<pcre2_match_data, Free> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Free> stack{pcre2_jit_stack_create(32 << 10, 8 << 20, nullptr)};
};

Regex::Scratch::Scratch() : parts_(std::make_shared<Parts>()) {
  if (!parts_->data || !parts_->context) throw Error("no memory left to split text into tokens");
  // Without a stack of its own the JIT uses 32 KiB of the caller's, and `find` falls back if that
  // is short.
  pcre2_jit_stack_assign(parts_->context.get(), nullptr, parts_->stack.get());
}

Regex::Regex(std::string_view pattern) {
  const std::string expanded = with_unicode_space(pattern);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                    PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr);
  if (compiled == nullptr) {
    throw Error("cannot compile the pre-tokenizer's expression: " + message_of(code) + " at " +
                std::to_string(offset) + "; build against a PCRE2 with Unicode support");
  }
  code_ = std::shared_ptr<pcre2_code>(compiled, pcre2_code_free);
  // A failure only means that matching is interpreted.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

bool Regex::find(std::string_view text, Scratch& scratch, std::size_t& begin,
                 std::size_t& end) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  pcre2_match_data* data = scratch.parts_->data.get();
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                       options | PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data,
                       scratch.parts_->context.get());
  };
  int result = match(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw Error("cannot split the text into tokens: " + message_of(result) +
                "; break up its longest runs");
  }
  begin = pcre2_get_ovector_pointer(data)[0];
  end = pcre2_get_ovector_pointer(data)[1];
  return true;
}

}  // namespace decoder

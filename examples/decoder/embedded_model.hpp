/// The model that is part of the program: a small reasoner (examples/models).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace decoder {

/// What the embedded model is called where others have a file's name.
inline constexpr std::string_view embedded_name = "the embedded reasoner";

/// A program for it, to be executed step by step: its prompt where none is given.
inline constexpr std::string_view embedded_prompt =
    "d=4 a=7 h=1 c=9 f=2 k=5 | L21 a + d > h L22 h - c > a L23 f + a > d L24 d - k > f "
    "L25 c + h > k L26 k - f > c R11 ? c | ";

/// Symbols of that program and its execution, about what the model was trained on at most.
inline constexpr std::size_t embedded_tokens = 900;

/// Returns its GGUF file, aligned to 64 bytes.
[[nodiscard]] std::span<const std::byte> embedded_model() noexcept;

}  // namespace decoder

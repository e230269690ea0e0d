/// The reasoner's vocabulary: one token a symbol.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace accuracy {

using Token = std::int32_t;

inline constexpr Token variables = 12, labels = 64, most_rounds = 32;

inline constexpr Token pad = 0, begin_text = 1, end_text = 2;
inline constexpr Token plus = 3, minus = 4, arrow = 5, ask = 6, bar = 7, due = 8, stream = 9;
inline constexpr Token first_variable = 10;
inline constexpr Token first_label = first_variable + variables;
inline constexpr Token first_digit = first_label + labels;
inline constexpr Token first_round = first_digit + 10;
inline constexpr Token first_value = first_round + most_rounds + 1;
inline constexpr Token symbols = first_value + 10 * variables;

/// The variable's name alone.
[[nodiscard]] constexpr Token name_of(Token variable) { return first_variable + variable; }
/// A variable and its value in one symbol: what a lookup has to find.
[[nodiscard]] constexpr Token value_of(Token variable, Token digit) {
  return first_value + 10 * variable + digit;
}

/// How a symbol is written; the space behind it makes every text unambiguous.
[[nodiscard]] std::string text_of(Token symbol);

}  // namespace accuracy

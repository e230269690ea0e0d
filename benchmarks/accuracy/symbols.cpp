#include "symbols.hpp"

#include <array>

namespace accuracy {
namespace {

std::string two_digits(Token number) {
  return {static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10)};
}

std::string letter(Token variable) { return {static_cast<char>('a' + variable)}; }

}  // namespace

std::string text_of(Token symbol) {
  static constexpr std::array<const char*, 10> marks{"<pad>", "<s>", "</s>", "+ ", "- ",
                                                     "> ",    "? ",  "| ",   ": ", "~ "};
  if (symbol < first_variable) return marks[static_cast<std::size_t>(symbol)];
  if (symbol < first_label) return letter(symbol - first_variable) + " ";
  if (symbol < first_digit) return "L" + two_digits(symbol - first_label) + " ";
  if (symbol < first_round) return std::to_string(symbol - first_digit) + " ";
  if (symbol < first_value) return "R" + two_digits(symbol - first_round) + " ";
  const Token pair = symbol - first_value;
  return letter(pair / 10) + "=" + std::to_string(pair % 10) + " ";
}

}  // namespace accuracy

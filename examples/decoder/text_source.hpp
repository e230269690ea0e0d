#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "workbench.hpp"

namespace decoder {

/// A text file as tokens.
struct TextSource {
  std::vector<std::int32_t> prompt;  ///< what is read first: the beginning-of-text token, or else
                                     ///< the first token of the file
  std::vector<std::int32_t> text;    ///< what is predicted
};

/// Reads a text file.
///
/// @param tokens  at most so many tokens are predicted
/// @throws Error when it cannot be read, or holds less than two tokens
TextSource read_text(const Workbench& bench, const std::string& path, std::size_t tokens);

}  // namespace decoder

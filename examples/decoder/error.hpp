#pragma once

#include <stdexcept>

namespace decoder {

/// What went wrong with a file, an argument or the machine, in one line for the person at the
/// terminal.
///
/// what() says what is wrong and what to do about it; the program prints it and ends with status 2.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace decoder

#pragma once

#include <string>
#include <string_view>

#include "catch.hpp"
#include "error.hpp"

namespace decoder::test {

/// Checks that `action()` throws decoder::Error with one line that contains `part`.
template <class Action>
void check_error(Action action, std::string_view part) {
  std::string message;
  try {
    action();
  } catch (const Error& error) {
    message = error.what();
  }
  INFO("message: " << message << ", wanted: " << part);
  CHECK_FALSE(message.empty());
  CHECK(message.find('\n') == message.npos);
  CHECK(message.find(part) != message.npos);
}

}  // namespace decoder::test

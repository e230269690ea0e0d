#include "utf8.hpp"

#include <string>
#include <vector>

#include "catch.hpp"
#include "one_line.hpp"

using namespace decoder;

TEST_CASE("well-formed characters have their length and others none") {
  CHECK(utf8_character("") == 0);
  CHECK(utf8_character(std::string("\0", 1)) == 1);
  CHECK(utf8_character("\x7F") == 1);
  CHECK(utf8_character("\xC2\x80") == 2);
  CHECK(utf8_character("\xDF\xBF") == 2);
  CHECK(utf8_character("\xE0\xA0\x80") == 3);
  CHECK(utf8_character("\xED\x9F\xBF") == 3);
  CHECK(utf8_character("\xEE\x80\x80") == 3);
  CHECK(utf8_character("\xF0\x90\x80\x80") == 4);
  CHECK(utf8_character("\xF4\x8F\xBF\xBF") == 4);
  for (const char* bad : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41",
                          "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE1\x80", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF1\x80\x80", "\xFF"}) {
    CHECK(utf8_character(bad) == 0);
  }
}

TEST_CASE("the well-formed prefix ends where the first bad byte is") {
  CHECK(utf8_prefix("abc") == 3);
  CHECK(utf8_prefix("h\xC3\xA9"
                    "y") == 4);
  CHECK(utf8_prefix("ab\xE2\x82") == 2);
  CHECK(utf8_prefix("\xFF"
                    "ab") == 0);
}

TEST_CASE("a stream cut at any byte shows whole characters only and loses nothing") {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x9A\x80z";
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string shown;
      for (const std::string& piece :
           {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) {
        shown += stream.push(piece);
        CHECK(utf8_prefix(shown) == shown.size());
        CHECK(text.starts_with(shown));
      }
      CHECK(shown == text);
      CHECK(stream.flush().empty());
    }
  }
}

TEST_CASE("a stream passes on bytes that can never become a character and flushes the rest") {
  Utf8Stream stream;
  CHECK(stream.push("a\xFF") == "a\xFF");
  CHECK(stream.push("\xE2\x82").empty());
  CHECK(stream.push("b") ==
        "\xE2\x82"
        "b");
  CHECK(stream.push("\xED\xA0") == "\xED\xA0");
  CHECK(stream.push("x\xF0\x9F\x9A") == "x");
  CHECK(stream.flush() == "\xF0\x9F\x9A");
  CHECK(stream.flush().empty());
}

TEST_CASE("control characters of every kind become question marks, letters stay") {
  CHECK(without_controls("a\x1B[1m\n\x7F") == "a?[1m??");
  CHECK(without_controls("\xC2\x9B"
                         "31m") == "??31m");
  CHECK(without_controls("\xC2\xA0\xC3\x9B\xE2\x82\xAC") == "\xC2\xA0\xC3\x9B\xE2\x82\xAC");
}

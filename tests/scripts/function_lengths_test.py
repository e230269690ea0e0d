#!/usr/bin/env python3
"""Tests scripts/function_lengths.py on a text whose functions are known."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts"))
from function_lengths import functions  # noqa: E402

TEXT = r"""
#define LOOP(x) do { \
  x; } while (0)
namespace a::b {
enum class Kind { one, two };
template <class T>
concept View = requires(T t) { t.size(); };
template <class T>
  requires requires(T t) { t(); }
int one_line(T t) { return t(); }
struct Point : Base<int> {
  int x = 0, y{3};
  std::array<int, 2> pair = {1, 2};
 public:
  explicit Point(int v) noexcept(true) : x(v), y{v}, pair{v, v} {
    use("} {", '{');  // }
  }
  ~Point() = default;
  bool operator()(int v) const
    requires true
  {
    auto f = [&](int k) {
      return k + v;
    };
    return f(1) == 1'000;
  }
};
template <class T>
auto later(T t) -> decltype(t()) {
  for (;;) {
  }
}
int defaulted(Options options = {},
              int v = 1) {
  return v;
}
extern "C" { void plain() {} }
}
"""


class FunctionLengths(unittest.TestCase):
    def test_every_function_is_found_with_its_length(self):
        expected = [(2, "one_line(T t)"), (3, "Point(int v)"), (8, "operator()(int v)"),
                    (4, "later(T t)"),
                    (4, "defaulted(Options"), (1, "plain()")]
        found = list(functions(TEXT))
        self.assertEqual([length for _, length, _ in found], [length for length, _ in expected])
        for (_, _, name), (_, part) in zip(found, expected):
            self.assertIn(part, name)

    def test_lines_are_those_of_the_file(self):
        line, _, name = list(functions(TEXT))[1]
        self.assertIn("explicit Point", TEXT.splitlines()[line - 1])


if __name__ == "__main__":
    unittest.main()

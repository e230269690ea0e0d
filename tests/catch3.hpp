#pragma once

#include <catch2/catch_all.hpp>
#include <string>

// What Catch2 3.x calls otherwise, under the names of 2.x.
namespace Catch {
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
using Matchers::Equals;
namespace Detail {
using Catch::Approx;
}
}  // namespace Catch

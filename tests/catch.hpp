#pragma once

// One include for Catch2 2.x (Debian 12) and 3.x.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
namespace Catch {
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
using Matchers::Equals;
namespace Detail {
using Catch::Approx;
}
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif

using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

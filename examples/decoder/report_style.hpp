#pragma once

#include <string>
#include <string_view>

namespace decoder::report {

/// A page with its style inside: light and dark, by what the reader's system asks for. O(length).
///
/// @param title, body  as HTML
/// @param style        rules of this page alone
std::string whole_page(std::string_view title, std::string_view body, std::string_view style = {});

}  // namespace decoder::report

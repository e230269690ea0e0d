#pragma once

#include <string_view>

namespace decoder::report {

/// The page's style sheet: light and dark, by what the reader's system asks for.
std::string_view style_sheet();

}  // namespace decoder::report

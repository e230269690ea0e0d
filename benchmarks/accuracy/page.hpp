/// Results as one self-contained HTML page.
#pragma once

#include <string>
#include <vector>

#include "paired.hpp"
#include "results.hpp"

namespace accuracy {

/// Where the results come from.
struct Source {
  std::vector<std::string> files;
  /// When the page was made; as people write it.
  std::string date;
};

/// A page with its style and its pictures inside; it needs no network and no script.
/// O(size of the results).
[[nodiscard]] std::string html_page(const Results& results, const Comparisons& comparisons,
                                    const Source& source);

}  // namespace accuracy

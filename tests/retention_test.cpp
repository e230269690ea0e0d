#include "lethe/retention.hpp"

#include <algorithm>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

TEST_CASE("the recent share is rounded up, and decimal shares count as written") {
  const lethe::Retention retention{.recent_ratio = 0.3f};
  for (const std::size_t tenth : {1u, 10u, 100u, 1000u, 10000u, 100000u}) {
    CHECK(lethe::recent_count(retention, 10 * tenth) == 3 * tenth);
    CHECK(lethe::recent_count(retention, 10 * tenth + 1) == 3 * tenth + 1);
  }
  CHECK(lethe::recent_count(retention, 0) == 0);
  CHECK(lethe::recent_count(retention, 1) == 1);
  CHECK(lethe::recent_count({.recent_ratio = 0.1f}, 1000) == 100);
  CHECK(lethe::recent_count({.recent_ratio = 0.7f}, 1000) == 700);
}

TEST_CASE("the larger of count and share holds, never more than there is") {
  CHECK(lethe::recent_count({.recent_tokens = 8, .recent_ratio = 0.5f}, 10) == 8);
  CHECK(lethe::recent_count({.recent_tokens = 8, .recent_ratio = 0.5f}, 20) == 10);
  CHECK(lethe::recent_count({.recent_tokens = 8}, 5) == 5);
  CHECK(lethe::recent_count({}, 100) == 0);
}

TEST_CASE("prefix and recents go by position, in order and out of order") {
  const std::vector<lethe::Position> ordered{0, 1, 2, 7, 8, 9, 20};
  const std::vector<lethe::Position> ring{8, 9, 20, 0, 1, 2, 7};
  std::vector<lethe::Position> scratch(ring.size());
  for (const lethe::Position end : {0u, 1u, 3u, 7u, 8u, 21u}) {
    CHECK(lethe::prefix_count(ordered, true, end) == lethe::prefix_count(ring, false, end));
  }
  CHECK(lethe::prefix_count(ring, false, 3) == 3);
  for (std::size_t recent = 1; recent <= ordered.size(); ++recent) {
    const lethe::Position expected = ordered[ordered.size() - recent];
    CHECK(lethe::recent_begin(ordered, true, recent, {}) == expected);
    CHECK(lethe::recent_begin(ring, false, recent, scratch) == expected);
  }
}

TEST_CASE("no recents protect nothing") {
  const std::vector<lethe::Position> positions{3, 4};
  CHECK(lethe::recent_begin(positions, true, 0, {}) == ~lethe::Position{0});
  CHECK(lethe::recent_begin(positions, true, 9, {}) == 3);
}

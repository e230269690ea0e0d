// Lethe over random traces on every kind of cache, against the naive model.
#include "naive/setup.hpp"

namespace {

using lethe::policies::Lethe;
constexpr unsigned full =
    naive::with_state | naive::with_bytes | naive::with_heads | naive::with_shared_prefix;

}  // namespace

TEST_CASE("Lethe keeps what the naive model keeps in a plain cache") {
  naive::run_traces<Lethe, naive::plain>(150, 1);
}

TEST_CASE("Lethe keeps what the naive model keeps with states, bytes and heads") {
  const naive::Tally tally = naive::run_traces<Lethe, full>(300, 10000);
  CHECK(tally.guarded > 0);
  CHECK(tally.shared > 0);
  CHECK(tally.postponed > 0);
}

TEST_CASE("Lethe keeps what the naive model keeps in blocks and count classes") {
  naive::run_traces<Lethe, full | naive::with_blocks>(100, 20000);
  naive::run_traces<Lethe, full | naive::with_classes>(100, 30000);
}

TEST_CASE("Lethe keeps what the naive model keeps where slots can be overwritten") {
  CHECK(naive::run_traces<Lethe, full | naive::with_overwrite>(150, 40000).overwritten > 0);
}

TEST_CASE("Lethe keeps one set for all layers where the cache asks for it") {
  naive::run_traces<Lethe, naive::with_state | naive::with_same_set>(150, 50000);
}

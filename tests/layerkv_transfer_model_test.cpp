// Random transfers over a copier that fails, delays and reorders.
#include "catch.hpp"
#include "naive/copier.hpp"
#include "naive/transfer_world.hpp"

// Runs with seeds of their own; 20,000 take about a minute.
#if !defined(LETHE_TRANSFER_RUNS)
#define LETHE_TRANSFER_RUNS 250
#endif

TEST_CASE("random transfers: none lost, none told twice, no byte touched by whom it is not for") {
  // The runs meet every end often.
  for (const std::size_t count :
       naive::transfers::outcomes_of<naive::Copier>(LETHE_TRANSFER_RUNS)) {
    CHECK(count > LETHE_TRANSFER_RUNS);
  }
}

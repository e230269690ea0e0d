// Budgets and caps that layers share, over random traces, against the naive model.
#include "naive/setup.hpp"

namespace {

template <class Budget>
using Rasr = lethe::Pruner<lethe::Rasr, Budget>;
constexpr unsigned full =
    naive::with_state | naive::with_bytes | naive::with_heads | naive::with_shared_prefix;

/// Rounds under totals, few of them too close to call.
void check_shared(const naive::Tally& tally) {
  CHECK(tally.shared > 0);
  CHECK(tally.unsure < tally.shared / 4);
}

}  // namespace

TEST_CASE("Hoyer's budget shares its total as the formula says") {
  const naive::Tally tally = naive::run_traces<Rasr<lethe::HoyerBudget>, full>(150, 60103);
  check_shared(tally);
  CHECK(tally.unsure < tally.shared / 50);
  CHECK(tally.guarded > 0);
  CHECK(tally.postponed > 0);
  CHECK(tally.refused > 0);
}

TEST_CASE("Hoyer's budget shares its total in blocks, count classes and overwritten slots") {
  check_shared(naive::run_traces<Rasr<lethe::HoyerBudget>, full | naive::with_blocks>(50, 61000));
  check_shared(naive::run_traces<Rasr<lethe::HoyerBudget>, full | naive::with_classes>(50, 62000));
  check_shared(
      naive::run_traces<Rasr<lethe::HoyerBudget>, full | naive::with_overwrite>(50, 63000));
}

TEST_CASE("An entropy's budget shares its total as the formula says") {
  check_shared(naive::run_traces<Rasr<lethe::EntropyBudget>, full>(80, 64000));
}

TEST_CASE("Layers that keep one set share a total evenly") {
  constexpr unsigned same =
      naive::with_state | naive::with_same_set | naive::with_bytes | naive::with_shared_prefix;
  check_shared(naive::run_traces<Rasr<lethe::HoyerBudget>, same>(60, 65000));
}

TEST_CASE("A table of layer shares is kept under every cap") {
  check_shared(naive::run_traces<Rasr<lethe::TableBudget>, full>(60, 66000));
}

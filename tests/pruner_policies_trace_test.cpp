// The other policies over random traces, against the naive model.
#include "naive/setup.hpp"

namespace {

constexpr unsigned full =
    naive::with_state | naive::with_bytes | naive::with_heads | naive::with_shared_prefix;
constexpr unsigned same =
    naive::with_state | naive::with_bytes | naive::with_shared_prefix | naive::with_same_set;

}  // namespace

TEST_CASE("H2O keeps what the naive model keeps") {
  naive::run_traces<lethe::policies::H2O, full | naive::with_overwrite>(150, 1);
}

TEST_CASE("TOVA keeps what the naive model keeps") {
  naive::run_traces<lethe::policies::TOVA, full>(150, 2000);
}

TEST_CASE("SnapKV keeps what the naive model keeps") {
  const naive::Tally tally =
      naive::run_traces<lethe::policies::SnapKV, full | naive::with_blocks>(150, 4000);
  CHECK(tally.guarded > 0);
}

TEST_CASE("StreamingLLM keeps what the naive model keeps") {
  naive::run_traces<lethe::policies::StreamingLLM, full>(150, 6000);
}

TEST_CASE("RandomAttention keeps what the naive model keeps of its draws") {
  naive::run_traces<lethe::policies::RandomAttention, full>(150, 8000);
}

TEST_CASE("One set for all layers is what the naive model keeps") {
  const naive::Tally tally =
      naive::run_traces<lethe::policies::H2O, same | naive::with_overwrite>(100, 10000);
  CHECK(tally.shared > 0);
  CHECK(tally.overwritten > 0);
  naive::run_traces<lethe::policies::SnapKV, same | naive::with_blocks>(100, 11000);
}

#include "lethe/plan.hpp"

#include <utility>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using Slots = std::vector<lethe::Slot>;

lethe::EvictionPlan plan_of(const Slots& kept, std::uint32_t tokens, std::uint32_t first_move) {
  return {.tokens = tokens, .first_move = first_move, .kept = kept};
}

lethe::PlanFault fault(const Slots& kept, std::uint32_t tokens, std::uint32_t first_move) {
  return lethe::check_plan(plan_of(kept, tokens, first_move), {});
}

std::vector<std::pair<lethe::Slot, lethe::Slot>> dropped(const lethe::EvictionPlan& plan) {
  std::vector<std::pair<lethe::Slot, lethe::Slot>> ranges;
  lethe::for_each_dropped_range(
      plan, [&](lethe::Slot begin, lethe::Slot end) { ranges.emplace_back(begin, end); });
  return ranges;
}

}  // namespace

TEST_CASE("first_move is the first slot whose row changes") {
  CHECK(lethe::first_move_of({}) == 0);
  CHECK(lethe::first_move_of(Slots{0, 1, 2}) == 3);
  CHECK(lethe::first_move_of(Slots{1, 2}) == 0);
  CHECK(lethe::first_move_of(Slots{0, 1, 3, 9}) == 2);

  Samples samples(5);
  for (int i = 0; i < 300; ++i) {
    const std::size_t tokens = 1 + samples.below(40);
    const Slots kept = samples.slots(tokens, samples.below(tokens + 1));
    std::uint32_t expected = 0;
    while (expected < kept.size() && kept[expected] == expected) ++expected;
    CHECK(lethe::first_move_of(kept) == expected);
  }
}

TEST_CASE("sound plans pass: all kept, none kept, a tail cut") {
  CHECK(fault({0, 1, 2}, 3, 3) == lethe::PlanFault::none);
  CHECK(fault({}, 3, 0) == lethe::PlanFault::none);
  CHECK(fault({0, 1}, 3, 2) == lethe::PlanFault::none);
  CHECK(fault({0, 2}, 3, 1) == lethe::PlanFault::none);
  CHECK(fault({}, 0, 0) == lethe::PlanFault::none);
}

TEST_CASE("a slot beyond the layer is a fault") {
  CHECK(fault({0, 3}, 3, 1) == lethe::PlanFault::out_of_range);
  CHECK(fault({0, 1, 2, 3}, 3, 4) == lethe::PlanFault::out_of_range);
}

TEST_CASE("slots that descend or repeat are a fault") {
  CHECK(fault({1, 0}, 3, 0) == lethe::PlanFault::not_ascending);
  CHECK(fault({0, 1, 1}, 3, 2) == lethe::PlanFault::not_ascending);
}

TEST_CASE("a first_move too low or too high is a fault") {
  CHECK(fault({0, 2}, 3, 0) == lethe::PlanFault::wrong_first_move);
  CHECK(fault({0, 2}, 3, 2) == lethe::PlanFault::wrong_first_move);
}

TEST_CASE("dropping any protected token is a fault, keeping them is none") {
  const std::vector<lethe::Position> positions{0, 1, 5, 8, 9};
  const lethe::Protection protection{.prefix_end = 2, .recent_begin = 9};
  const auto check = [&](const Slots& kept) {
    lethe::EvictionPlan plan = plan_of(kept, 5, lethe::first_move_of(kept));
    plan.positions = positions;
    return lethe::check_plan(plan, protection);
  };
  CHECK(check({0, 1, 4}) == lethe::PlanFault::none);
  CHECK(check({0, 1, 2, 3, 4}) == lethe::PlanFault::none);
  CHECK(check({0, 2, 4}) == lethe::PlanFault::drops_protected);
  CHECK(check({1, 4}) == lethe::PlanFault::drops_protected);
  CHECK(check({0, 1, 2, 3}) == lethe::PlanFault::drops_protected);
  CHECK(check({}) == lethe::PlanFault::drops_protected);
}

TEST_CASE("protection goes by position, not by slot") {
  const std::vector<lethe::Position> ring{8, 9, 0, 1, 7};
  const lethe::Protection protection{.prefix_end = 1, .recent_begin = 9};
  const Slots kept{1, 2};
  lethe::EvictionPlan plan = plan_of(kept, 5, 0);
  plan.positions = ring;
  CHECK(lethe::check_plan(plan, protection) == lethe::PlanFault::none);
  const Slots wrong{0, 2};
  plan.kept = wrong;
  plan.first_move = 1;
  CHECK(lethe::check_plan(plan, protection) == lethe::PlanFault::drops_protected);
}

TEST_CASE("every fault has a name of its own") {
  using enum lethe::PlanFault;
  CHECK(std::string(lethe::name(none)) == "none");
  CHECK(std::string(lethe::name(out_of_range)) == "a slot is out of range");
  CHECK(std::string(lethe::name(not_ascending)) == "slots are not ascending and unique");
  CHECK(std::string(lethe::name(wrong_first_move)) == "first_move is wrong");
  CHECK(std::string(lethe::name(drops_protected)) == "a protected token would be dropped");
}

TEST_CASE("dropped ranges are maximal, ascending, and complete the kept slots") {
  CHECK(dropped(plan_of({0, 1, 2}, 3, 3)).empty());
  using Ranges = std::vector<std::pair<lethe::Slot, lethe::Slot>>;
  CHECK(dropped(plan_of({}, 3, 0)) == Ranges{{0, 3}});
  CHECK(dropped(plan_of({0, 3, 4, 6}, 9, 1)) == Ranges{{1, 3}, {5, 6}, {7, 9}});

  Samples samples(6);
  for (int i = 0; i < 300; ++i) {
    const std::size_t tokens = 1 + samples.below(40);
    const Slots kept = samples.slots(tokens, samples.below(tokens + 1));
    std::vector<int> seen(tokens, 0);
    for (const lethe::Slot slot : kept) ++seen[slot];
    lethe::Slot last = 0;
    bool first = true;
    for (const auto& [begin, end] :
         dropped(plan_of(kept, static_cast<std::uint32_t>(tokens), lethe::first_move_of(kept)))) {
      CHECK(begin < end);
      CHECK((first || begin > last));
      for (lethe::Slot slot = begin; slot < end; ++slot) ++seen[slot];
      last = end;
      first = false;
    }
    CHECK(seen == std::vector<int>(tokens, 1));
  }
}

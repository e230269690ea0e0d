#include "lethe/slot_table.hpp"

#include <vector>

#include "catch.hpp"
#include "lethe/archive.hpp"
#include "samples.hpp"

namespace {

using Positions = std::vector<lethe::Position>;

Positions of(const lethe::SlotTable& table, std::size_t layer, std::size_t head = 0) {
  const auto row = table.positions(layer, head);
  return {row.begin(), row.end()};
}

lethe::EvictionPlan plan_of(std::uint32_t layer, const std::vector<lethe::Slot>& kept,
                            std::uint32_t tokens, std::uint32_t head = lethe::all_heads) {
  return {.layer = layer,
          .head = head,
          .tokens = tokens,
          .first_move = lethe::first_move_of(kept),
          .kept = kept};
}

/// A table of two layers, eight slots each, restored from what `change` leaves of its bytes.
template <class Change>
bool valid_after(Change change, lethe::Position end = 5) {
  lethe::SlotTable table(2, 1, 8);
  table.append(0, 5, 0);
  lethe::detail::StateWriter writer;
  lethe::SlotTable::archive(writer, static_cast<const lethe::SlotTable&>(table));
  std::vector<std::byte> bytes = writer.take();
  change(bytes);
  lethe::detail::StateReader reader(bytes);
  lethe::SlotTable::archive(reader, table);
  return reader.at_end() && table.valid(end);
}

}  // namespace

TEST_CASE("positions travel with the survivors, layer by layer") {
  lethe::SlotTable table(2, 1, 8);
  table.append(0, 6, 0);
  table.append(1, 6, 0);
  const std::vector<lethe::Slot> kept{0, 2, 5};
  table.keep(plan_of(0, kept, 6));
  table.append(0, 2, 6);
  CHECK(of(table, 0) == Positions{0, 2, 5, 6, 7});
  CHECK(of(table, 1) == Positions{0, 1, 2, 3, 4, 5});
  CHECK(table.ordered(0));
}

TEST_CASE("heads may hold different tokens, equally many") {
  lethe::SlotTable table(1, 2, 8);
  table.append(0, 5, 0);
  const std::vector<lethe::Slot> first{0, 1, 4};
  const std::vector<lethe::Slot> second{2, 3, 4};
  table.keep(plan_of(0, first, 5, 0));
  table.keep(plan_of(0, second, 5, 1));
  table.append(0, 1, 5);
  CHECK(of(table, 0, 0) == Positions{0, 1, 4, 5});
  CHECK(of(table, 0, 1) == Positions{2, 3, 4, 5});
}

TEST_CASE("heads may hold different counts; a layer's size is their mean, rounded up") {
  lethe::SlotTable table(2, 3, 8);
  table.append(0, 5, 0);
  CHECK(table.level(0));
  const std::vector<lethe::Slot> kept{0, 4};
  table.keep(plan_of(0, kept, 5, 1));
  CHECK(table.size(0) == 4);
  CHECK(table.size(0, 0) == 5);
  CHECK(table.size(0, 1) == 2);
  CHECK(table.longest(0) == 5);
  CHECK_FALSE(table.level(0));
  table.append(0, 2, 5);
  CHECK(of(table, 0, 1) == Positions{0, 4, 5, 6});
  CHECK(of(table, 0, 2) == Positions{0, 1, 2, 3, 4, 5, 6});
  CHECK(table.size(0) == 6);
  CHECK(table.size(1) == 0);
  table.reset();
  CHECK(table.size(0) == 0);
}

TEST_CASE("an overwritten slot takes the next token, and ends the order") {
  lethe::SlotTable table(1, 1, 8);
  table.append(0, 4, 0);
  table.vacate(0, 1);
  CHECK(table.vacant(0));
  CHECK(table.held(0) == 3);
  CHECK(table.size(0) == 4);
  table.append(0, 0, 4);
  CHECK(table.vacant(0));
  table.append(0, 2, 4);
  CHECK(of(table, 0) == Positions{0, 4, 2, 3, 5});
  CHECK_FALSE(table.vacant(0));
  CHECK_FALSE(table.ordered(0));
  table.reset();
  CHECK(table.size(0) == 0);
  CHECK(table.ordered(0));
}

TEST_CASE("restored tables are sound, or said not to be") {
  const auto put = [](std::size_t word, std::uint64_t value) {
    return [=](std::vector<std::byte>& bytes) {
      std::memcpy(bytes.data() + 8 * word, &value, sizeof value);
    };
  };
  // Words: layers, then vacancy and order of each; sizes, and each of them; the count of positions.
  CHECK(valid_after([](auto&) {}));
  CHECK_FALSE(valid_after([](auto&) {}, 4));
  CHECK_FALSE(valid_after(put(6, 9)));
  CHECK_FALSE(valid_after(put(1, 5)));
  CHECK(valid_after(put(1, 4)));
  CHECK_FALSE(valid_after(put(0, 3)));
  const auto position = [](std::size_t slot, lethe::Position value) {
    return [=](std::vector<std::byte>& bytes) {
      std::memcpy(bytes.data() + 9 * 8 + 4 * slot, &value, sizeof value);
    };
  };
  CHECK_FALSE(valid_after(position(1, 0)));
  CHECK_FALSE(valid_after(position(4, 5)));
  const auto unordered = [&](std::size_t slot, lethe::Position value) {
    return [=](std::vector<std::byte>& bytes) {
      put(2, 0)(bytes);
      position(slot, value)(bytes);
    };
  };
  CHECK(valid_after(unordered(0, 0)));
  CHECK_FALSE(valid_after(unordered(0, 3)));
}

/// Random transfers over a copier that fails, delays and reorders, beside a model that knows for
/// each byte who may touch it, for each slice how often it failed, and who is to go first.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/transfer.hpp"
#include "naive/random.hpp"

namespace naive::transfers {

using lethe::layerkv::ByteCopy;
using lethe::layerkv::FinishedTransfer;
using lethe::layerkv::no_buffer;
using lethe::layerkv::Route;
using lethe::layerkv::Staging;
using lethe::layerkv::TransferId;
using lethe::layerkv::TransferOutcome;
using lethe::layerkv::TransferQueueConfig;
using lethe::layerkv::Urgency;
using Bytes = std::vector<std::byte>;

inline constexpr std::size_t cell = 3;
inline constexpr std::size_t cells = 200;
inline constexpr std::size_t most_cells = 24;
inline constexpr std::size_t staging_bytes = most_cells * cell;
inline constexpr std::byte canary{0xCC};

/// One side's memory; who owns a byte is a transfer's tag, or 0.
struct Memory {
  std::array<std::byte, cell * cells> bytes{};
  std::array<std::uint64_t, cell * cells> owner{};

  [[nodiscard]] bool holds(const std::byte* place) const {
    return place >= bytes.data() && place < bytes.data() + bytes.size();
  }
  [[nodiscard]] std::uint64_t owner_of(const std::byte* place) const {
    return owner[static_cast<std::size_t>(place - bytes.data())];
  }
  /// Different free cells for a transfer, now its own: neighbours more often than not.
  std::vector<std::size_t> take(Random& random, std::size_t count, std::uint64_t tag) {
    std::vector<std::size_t> taken;
    for (std::size_t tries = 0; taken.size() < count && tries < 300; ++tries) {
      const bool next = !taken.empty() && taken.back() + 1 < cells && random.chance(60);
      const std::size_t index = next ? taken.back() + 1 : random.below(cells);
      if (owner[index * cell] != 0) continue;
      std::fill_n(owner.begin() + static_cast<std::ptrdiff_t>(index * cell), cell, tag);
      taken.push_back(index);
    }
    return taken;
  }
  void give_back(const std::vector<std::size_t>& taken) {
    for (const std::size_t index : taken) {
      std::fill_n(owner.begin() + static_cast<std::ptrdiff_t>(index * cell), cell, 0u);
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(index * cell), cell, canary);
    }
  }
};

/// What the model knows of a transfer.
struct Item {
  TransferId id = 0;
  TransferQueueConfig config{};
  Route route = Route::to_host;
  Urgency urgency = Urgency::background;
  Staging staging = Staging::none;
  std::vector<std::size_t> from{}, to{};
  std::vector<ByteCopy> copies{};
  Bytes expected{};
  /// Grows with start and set_urgency.
  std::uint64_t order = 0;
  std::size_t submitted = 0;
  bool cancelled = false;
  /// Failures of each slice, by where it begins.
  std::map<std::pair<const std::byte*, const std::byte*>, std::size_t> slices{};

  [[nodiscard]] bool failed() const {
    return std::any_of(slices.begin(), slices.end(),
                       [&](const auto& slice) { return slice.second >= config.attempts; });
  }
  /// Could have been submitted, and is not held up by a buffer.
  [[nodiscard]] bool could_go() const {
    return staging == Staging::none && submitted < expected.size() && !cancelled && !failed();
  }
};

/// Copier: naive::Copier, or what has its settings, its callbacks and under_way().
template <class Copier>
class World {
 public:
  World(std::uint64_t seed, const TransferQueueConfig& config)
      : random_(seed),
        config_(config),
        copier_(seed + 1),
        queue_(config, copier_, {std::span(staging_[0]), std::span(staging_[1])}) {
    for (Memory& memory : memories_) memory.bytes.fill(canary);
    copier_.keep_submissions = false;
    copier_.on_submit = [this](auto batch, Route route) { submitted(batch, route); };
    copier_.on_copy = [this](const ByteCopy& copy) { check_copy(copy); };
    copier_.on_failure = [this](auto batch) { ++item_of(batch).slices[key(batch)]; };
  }

  Copier& copier() { return copier_; }

  void step() {
    switch (random_.below(8)) {
      case 0:
      case 1:
        start();
        break;
      case 2:
        cancel();
        break;
      case 3:
        change_urgency();
        break;
      case 4:
        release_one();
        break;
      default:
        break;
    }
    poll();
    while (const auto finished = queue_.take_finished()) take(*finished);
    REQUIRE(queue_.consistent());
    REQUIRE(queue_.live() == items_.size());
  }

  /// Nothing fails from now on: all ends.
  void drain() {
    copier_.fail_percent = copier_.refuse_percent = 0;
    for (int polls = 0; polls < 20000 && !items_.empty(); ++polls) {
      release_one();
      now_ += std::chrono::nanoseconds(100);
      passed_ += 100;
      poll_with([] { return true; });
      while (const auto finished = queue_.take_finished()) take(*finished);
    }
    while (!read_.empty()) release_one();
    REQUIRE(items_.empty());
    REQUIRE(queue_.live() == 0);
    REQUIRE(queue_.under_way() == 0);
    REQUIRE(queue_.buffers_in_use() == 0);
    REQUIRE(copier_.under_way() == 0);
    for (const Memory& memory : memories_) {
      REQUIRE(std::all_of(memory.bytes.begin(), memory.bytes.end(),
                          [](std::byte byte) { return byte == canary; }));
    }
  }

  std::array<std::size_t, 3> outcomes{};

 private:
  Memory& source_of(const Item& item) { return memories_[item.route == Route::to_host ? 0 : 1]; }
  Memory& target_of(const Item& item) { return memories_[item.route == Route::to_host ? 1 : 0]; }

  void start() {
    const std::uint64_t tag = ++last_tag_;
    Item item{.config = config_,
              .route = random_.chance(50) ? Route::to_host : Route::to_device,
              .urgency = static_cast<Urgency>(random_.below(3)),
              .staging = static_cast<Staging>(random_.below(3))};
    item.from = source_of(item).take(random_, random_.below(most_cells + 1), tag);
    item.to = target_of(item).take(random_, item.from.size(), tag);
    while (item.from.size() > item.to.size()) give_back_last(item);
    for (std::size_t i = 0; i < item.from.size(); ++i) add_copy(item, i);
    const auto id = queue_.start({.copies = item.copies,
                                  .route = item.route,
                                  .urgency = item.urgency,
                                  .staging = item.staging,
                                  .tag = tag});
    REQUIRE(id.has_value() == (items_.size() < config_.transfers));
    if (!id) {
      give_back(item);
      return;
    }
    item.id = *id;
    item.order = ++last_order_;
    items_[tag] = item;
  }

  void give_back_last(Item& item) {
    source_of(item).give_back({item.from.back()});
    item.from.pop_back();
  }

  /// Neighbours on both sides come in one copy now and then.
  void add_copy(Item& item, std::size_t i) {
    std::byte* source = source_of(item).bytes.data() + item.from[i] * cell;
    std::byte* target = target_of(item).bytes.data() + item.to[i] * cell;
    for (std::size_t byte = 0; byte < cell; ++byte) {
      source[byte] = static_cast<std::byte>(random_.below(0xC0));
      item.expected.push_back(source[byte]);
    }
    const bool joined =
        !item.copies.empty() && random_.chance(50) &&
        lethe::layerkv::detail::extend(item.copies.back(), {source, target, cell}, staging_bytes);
    if (!joined) item.copies.push_back({source, target, cell});
  }

  void cancel() {
    if (items_.empty()) return;
    Item& item = any();
    const bool taken = queue_.cancel(item.id);
    if (item.cancelled || !item.failed()) REQUIRE(taken == !item.cancelled);
    item.cancelled = item.cancelled || taken;
    REQUIRE_FALSE(queue_.cancel(item.id + (std::uint64_t{1} << 32)));
  }

  void change_urgency() {
    if (items_.empty()) return;
    Item& item = any();
    const auto urgency = static_cast<Urgency>(random_.below(3));
    if (!queue_.set_urgency(item.id, urgency)) return;
    item.urgency = urgency;
    item.order = ++last_order_;
  }

  Item& any() {
    return std::next(items_.begin(), static_cast<std::ptrdiff_t>(random_.below(items_.size())))
        ->second;
  }

  /// A buffer that is being read holds what it held.
  void release_one() {
    if (read_.empty()) return;
    const auto [finished, expected] = read_.front();
    read_.erase(read_.begin());
    REQUIRE(std::equal(expected.begin(), expected.end(), finished.staged.begin(),
                       finished.staged.end()));
    read_buffers_[finished.buffer] = false;
    queue_.release(finished.buffer);
  }

  void poll() {
    move_clock();
    const bool free = random_.chance(70);
    if (random_.chance(5)) queue_.wait();
    poll_with([&] { return free || random_.chance(50); });
  }

  template <class LinkFree>
  void poll_with(LinkFree link_free) {
    allowed_ = 0;
    queue_.poll(now_, [&] {
      allowed_ = link_free() ? 1 : 0;
      return allowed_ != 0;
    });
    REQUIRE(copier_.under_way() <= (config_.duplex ? 2 : 1) * config_.slices);
    REQUIRE(queue_.buffers_in_use() <= 2);
  }

  void move_clock() {
    const auto step = static_cast<std::int64_t>(random_.below(300));
    const bool back = random_.chance(10);
    const std::int64_t jump = random_.chance(5) ? 1'000'000'000 : 1;
    now_ += std::chrono::nanoseconds(back ? -step * jump : step);
    passed_ += back ? 0 : static_cast<double>(step);
  }

  // ---- what the copier is seen to do; it may not throw

  static void require(bool holds, const char* otherwise) {
    if (!holds) FAIL_CHECK(otherwise);
  }

  /// Whose batch it is: known by the side of it that is not a staging buffer.
  std::uint64_t tag_of(const ByteCopy& copy) const {
    for (const Memory& memory : memories_) {
      if (memory.holds(copy.source)) return memory.owner_of(copy.source);
    }
    for (const Memory& memory : memories_) {
      if (memory.holds(copy.target)) return memory.owner_of(copy.target);
    }
    return 0;
  }
  Item& item_of(std::span<const ByteCopy> batch) {
    const auto found = items_.find(tag_of(batch[0]));
    if (found == items_.end()) std::abort();
    return found->second;
  }
  static std::pair<const std::byte*, const std::byte*> key(std::span<const ByteCopy> batch) {
    return {batch[0].source, batch[0].target};
  }

  void submitted(std::span<const ByteCopy> batch, Route route) {
    require(allowed_ == 1, "submitted without asking");  // asked just before
    allowed_ = 0;
    Item& item = item_of(batch);
    require(item.route == route, "wrong route");
    require(!item.cancelled, "submitted though cancelled");
    require(!item.failed(), "submitted though failed");
    std::size_t bytes = 0;
    for (const ByteCopy& copy : batch) bytes += copy.bytes;
    require(bytes <= config_.slice_bytes, "slice too large");
    require(batch.size() <= config_.slice_copies, "too many copies");
    const bool again = !item.slices.try_emplace(key(batch), 0).second;
    if (again) return;
    check_turn(item);
    item.submitted += bytes;
  }

  /// Nobody was to go before it.
  void check_turn(const Item& item) {
    for (const auto& [tag, other] : items_) {
      const bool rival = !config_.duplex || other.route == item.route;
      if (!rival || &other == &item || !other.could_go()) continue;
      require(other.urgency >= item.urgency, "a more urgent one was passed over");
      if (item.staging == Staging::none && other.urgency == item.urgency) {
        require(other.order > item.order, "an earlier one was passed over");
      }
    }
  }

  /// A copy touches its own transfer's bytes, or a buffer that nobody reads.
  void check_copy(const ByteCopy& copy) {
    const std::uint64_t tag = tag_of(copy);
    require(items_.count(tag) == 1, "a copy of no live transfer");
    check_place(copy.source, copy.bytes, tag, false);
    check_place(copy.target, copy.bytes, tag, true);
  }
  void check_place(const std::byte* place, std::size_t bytes, std::uint64_t tag, bool written) {
    for (std::size_t i = 0; i < bytes; ++i) {
      bool known = false;
      for (const Memory& memory : memories_) {
        if (!memory.holds(place + i)) continue;
        known = true;
        require(memory.owner_of(place + i) == tag, "a byte of somebody else");
      }
      for (std::size_t buffer = 0; buffer < 2; ++buffer) {
        const std::byte* begin = staging_[buffer].data();
        if (place + i < begin || place + i >= begin + staging_bytes) continue;
        known = true;
        require(!(written && read_buffers_[buffer]), "a buffer that is read is written");
      }
      require(known, "a byte of nobody");
    }
  }

  void take(const FinishedTransfer& finished) {
    const auto found = items_.find(finished.tag);
    REQUIRE(found != items_.end());  // neither told twice nor made up
    Item& item = found->second;
    REQUIRE(finished.id == item.id);
    ++outcomes[static_cast<std::size_t>(finished.outcome)];
    const TransferOutcome expected = item.cancelled  ? TransferOutcome::cancelled
                                     : item.failed() ? TransferOutcome::failed
                                                     : TransferOutcome::done;
    REQUIRE(finished.outcome == expected);
    if (finished.outcome == TransferOutcome::done) {
      through_ += static_cast<double>(finished.bytes);
      check_speed();
      check_bytes(item, finished);
    }
    give_back(item);
    items_.erase(found);
  }

  void check_bytes(const Item& item, const FinishedTransfer& finished) {
    if (item.staging == Staging::into) {
      if (finished.buffer == no_buffer) {
        REQUIRE(item.expected.empty());
        return;
      }
      REQUIRE(std::equal(item.expected.begin(), item.expected.end(), finished.staged.begin(),
                         finished.staged.end()));
      read_.push_back({finished, item.expected});
      read_buffers_[finished.buffer] = true;
      return;
    }
    for (std::size_t i = 0; i < item.to.size(); ++i) {
      const std::byte* target = target_of(item).bytes.data() + item.to[i] * cell;
      REQUIRE(std::memcmp(target, &item.expected[i * cell], cell) == 0);
    }
  }

  void check_speed() const {
    if (config_.link.bytes_per_second == 0) return;
    const double lanes = config_.duplex ? 2 : 1;
    REQUIRE(through_ <= lanes * config_.link.bytes_per_second * passed_ * 1e-9 + 1e-6);
  }

  void give_back(const Item& item) {
    source_of(item).give_back(item.from);
    target_of(item).give_back(item.to);
  }

  Random random_;
  TransferQueueConfig config_;
  std::array<Memory, 2> memories_;
  std::array<std::array<std::byte, staging_bytes>, 2> staging_{};
  std::map<std::uint64_t, Item> items_;
  std::vector<std::pair<FinishedTransfer, Bytes>> read_;
  std::array<bool, 2> read_buffers_{};
  std::uint64_t last_tag_ = 0;
  std::uint64_t last_order_ = 0;
  std::chrono::nanoseconds now_{0};
  double passed_ = 0;
  double through_ = 0;
  int allowed_ = 0;
  Copier copier_;
  lethe::layerkv::TransferQueue<Copier> queue_;
};

inline TransferQueueConfig random_config(Random& random) {
  return {.transfers = random.between(1, 12),
          .copies = most_cells,
          .slice_bytes = random.between(1, 40),
          .slice_copies = random.between(1, 8),
          .slices = random.between(1, 4),
          .attempts = random.between(1, 4),
          .duplex = random.chance(50),
          .staging_on_device = random.chance(50),
          .link = {.bytes_per_second = random.chance(50) ? 0 : 1e9}};
}

/// How often transfers ended each way in so many runs, each with a seed of its own; a run checks
/// itself.
template <class Copier>
std::array<std::size_t, 3> outcomes_of(std::size_t runs) {
  std::array<std::size_t, 3> outcomes{};
  for (std::uint64_t seed = 0; seed < runs; ++seed) {
    INFO("seed " << seed);
    Random random(seed * 1000 + 17);
    World<Copier> world(seed, random_config(random));
    world.copier().most_delay = random.below(6);
    world.copier().fail_percent = random.chance(50) ? 0 : random.below(60);
    world.copier().refuse_percent = random.chance(50) ? 0 : random.below(40);
    for (int steps = 0; steps < 250; ++steps) world.step();
    world.drain();
    for (std::size_t i = 0; i < 3; ++i) outcomes[i] += world.outcomes[i];
  }
  return outcomes;
}

}  // namespace naive::transfers

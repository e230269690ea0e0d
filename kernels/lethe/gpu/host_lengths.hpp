/// What a host knows of lengths that the device decides: bounds that hold at every moment.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::gpu {

/// Settings of HostLengths.
struct HostLengthsConfig {
  std::size_t layers = 0;
  /// State slots: sequences at once.
  std::size_t slots = 0;

  bool operator==(const HostLengthsConfig&) const = default;
};

/// Bounds of the tokens in each (layer, state slot), never below the device's count, and equal to
/// it whenever no round is under way: a round only shortens, and only its read-back is believed.
/// The host tells in the order in which it enqueues. Nothing is allocated after construction.
class HostLengths {
 public:
  using Config = HostLengthsConfig;

  /// Throws std::invalid_argument for counts of 0.
  explicit HostLengths(const Config& config)
      : config_(checked(config)),
        bounds_(config.layers * config.slots, 0),
        changes_(config.slots, 0),
        reopened_(config.slots, false) {}

  /// A slot gets a sequence of so many tokens in every layer; 0: it falls free. O(layers).
  void open(std::size_t slot, std::uint32_t tokens) {
    for (std::size_t layer = 0; layer < config_.layers; ++layer) at(layer, slot) = tokens;
    reopened_[slot] = true;
  }
  /// Tokens are appended to every layer. O(layers).
  void append(std::size_t slot, std::uint32_t tokens) { change(slot, tokens); }
  /// The last tokens of every layer are dropped: drafts that were rejected; no more than were
  /// appended since the last round. O(layers).
  void drop(std::size_t slot, std::uint32_t tokens) { change(slot, -std::int64_t{tokens}); }

  /// A round has been enqueued, whose outcome is read back before anything that is enqueued later.
  /// Not while another is under way. O(slots).
  void begin_round() {
    LETHE_ASSERT(!round_);
    round_ = true;
    std::fill(changes_.begin(), changes_.end(), std::int64_t{0});
    std::fill(reopened_.begin(), reopened_.end(), false);
  }
  /// Its outcome: the count of each (layer, state slot), number layer x slots + slot, as the round
  /// left it. Slots opened since are not touched. O(layers x slots).
  void end_round(std::span<const std::uint32_t> counts) {
    LETHE_ASSERT(round_ && counts.size() == bounds_.size());
    round_ = false;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::size_t slot = i % config_.slots;
      if (reopened_[slot]) continue;
      bounds_[i] = static_cast<std::uint32_t>(counts[i] + changes_[slot]);
    }
  }
  /// Its outcome could not be read: the bounds before it still hold. O(1).
  void lose_round() { round_ = false; }

  [[nodiscard]] std::uint32_t bound(std::size_t layer, std::size_t slot) const {
    return bounds_[layer * config_.slots + slot];
  }
  /// Whether the device may hold fewer than the bounds say.
  [[nodiscard]] bool round_under_way() const { return round_; }
  [[nodiscard]] std::size_t layers() const { return config_.layers; }
  [[nodiscard]] std::size_t slots() const { return config_.slots; }

 private:
  static const Config& checked(const Config& config) {
    using lethe::detail::require;
    require(config.layers >= 1, "layers", config.layers, "give at least 1 layer");
    require(config.slots >= 1, "slots", config.slots, "give at least 1 slot");
    return config;
  }
  [[nodiscard]] std::uint32_t& at(std::size_t layer, std::size_t slot) {
    return bounds_[layer * config_.slots + slot];
  }
  void change(std::size_t slot, std::int64_t tokens) {
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      std::uint32_t& own = at(layer, slot);
      own = static_cast<std::uint32_t>(own + tokens);
    }
    changes_[slot] += tokens;
  }

  Config config_;
  std::vector<std::uint32_t> bounds_;
  /// Tokens appended to each slot since the round began.
  std::vector<std::int64_t> changes_;
  std::vector<bool> reopened_;
  bool round_ = false;
};

}  // namespace lethe::gpu

/// Free blocks a few steps ahead, and which layers to move before anything stalls.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::layerkv {

/// Settings of BlockForecast.
struct ForecastConfig {
  std::size_t block_tokens = 16;
  /// Steps to look ahead. A sequence takes a new block every block_tokens steps, so as many steps
  /// see what each needs next.
  std::size_t horizon = 16;

  bool operator==(const ForecastConfig&) const = default;
};

/// A decoding request, as a forecast sees it.
struct GrowingRequest {
  /// Cached tokens of a layer, and the most there will ever be (a pruner's bound, or the prompt and
  /// the longest output).
  std::size_t tokens = 0;
  std::size_t most_tokens = static_cast<std::size_t>(-1);
  /// Layers on the device, and the blocks they hold there now.
  std::size_t device_layers = 0;
  std::size_t device_blocks = 0;
  /// Steps until it ends and gives its blocks back: the far edge of a prediction, so that no block
  /// is counted before it is free.
  std::size_t steps_left = static_cast<std::size_t>(-1);

  bool operator==(const GrowingRequest&) const = default;
};

/// The fewest free blocks of a forecast, below 0 when requests would lack some, and the first step
/// with so few.
struct LowestPoint {
  std::int64_t free_blocks = 0;
  std::size_t step = 0;

  bool operator==(const LowestPoint&) const = default;
};

/// free(t + 1) = free(t) + released - newly needed, step by step (arXiv 2410.00428). Nothing is
/// allocated after construction.
class BlockForecast {
 public:
  /// Throws std::invalid_argument for a block or a horizon of 0, or absurdly large ones.
  explicit BlockForecast(const ForecastConfig& config = {})
      : config_(config), changes_(checked(config).horizon + 1, 0) {}

  /// Begins anew with so many free device blocks. O(horizon).
  void begin(std::size_t free_blocks) {
    std::fill(changes_.begin(), changes_.end(), 0);
    changes_[0] = static_cast<std::int64_t>(free_blocks);
  }

  /// One token a step, until it ends or holds most_tokens. What it needs for a step counts in that
  /// step; what it releases at its end counts from the next one on. O(horizon / block_tokens).
  void add(const GrowingRequest& request) {
    const std::size_t end = std::min(request.steps_left, config_.horizon);
    const std::size_t growth =
        request.most_tokens > request.tokens ? request.most_tokens - request.tokens : 0;
    const std::size_t last = std::min(end, growth);
    // Step s appends token number tokens + s; one that begins a block needs it in each layer.
    const std::size_t filled = request.tokens % config_.block_tokens;
    const std::size_t first = filled == 0 ? 1 : config_.block_tokens - filled + 1;
    std::size_t held = request.device_blocks;
    for (std::size_t step = first; step <= last; step += config_.block_tokens) {
      change(step, -static_cast<std::int64_t>(request.device_layers));
      held += request.device_layers;
    }
    if (request.steps_left < config_.horizon) {
      change(request.steps_left + 1, static_cast<std::int64_t>(held));
    }
  }

  /// Anything else that gives (above 0) or takes blocks at a step from 0 on: a prefill admitted, a
  /// copy that ends. Beyond the horizon it is not seen. O(1).
  void change(std::size_t step, std::int64_t blocks) {
    if (step < changes_.size()) changes_[step] += blocks;
  }

  /// The lowest point from now (step 0) to the horizon. O(horizon).
  [[nodiscard]] LowestPoint lowest() const {
    std::int64_t free = changes_[0];
    LowestPoint lowest{free, 0};
    for (std::size_t step = 1; step < changes_.size(); ++step) {
      free += changes_[step];
      if (free < lowest.free_blocks) lowest = {free, step};
    }
    return lowest;
  }

  [[nodiscard]] const ForecastConfig& config() const { return config_; }

 private:
  [[nodiscard]] static const ForecastConfig& checked(const ForecastConfig& config) {
    using lethe::detail::require;
    require(config.block_tokens >= 1 && config.block_tokens <= 65536, "block_tokens",
            config.block_tokens, "give 1 to 65536");
    require(config.horizon >= 1 && config.horizon <= (std::size_t{1} << 20), "horizon",
            config.horizon, "choose 1 to 1048576 steps");
    return config;
  }

  ForecastConfig config_;
  std::vector<std::int64_t> changes_;
};

/// Settings of the decisions to offload early and to bring layers back.
struct WatermarkConfig {
  /// Device blocks.
  std::size_t device_blocks = 0;
  /// Share of them that a forecast must leave free, or layers are offloaded: 0.01, what vLLM's
  /// block manager keeps free of new requests by default.
  double low = 0.01;
  /// Share that must stay free when layers return; twice as much, so that none goes to and fro.
  double high = 0.02;

  bool operator==(const WatermarkConfig&) const = default;
};

/// Turns a forecast into numbers of blocks to move.
class Watermarks {
 public:
  /// Throws std::invalid_argument for shares that are not 0 <= low <= high <= 1.
  explicit Watermarks(const WatermarkConfig& config) {
    using lethe::detail::require;
    require(config.device_blocks <= (std::size_t{1} << 48), "device_blocks", config.device_blocks,
            "give at most 2^48");
    require(config.low >= 0 && config.low <= 1, "low", config.low, "choose 0 to 1");
    require(config.high >= config.low && config.high <= 1, "high", config.high,
            "choose a share from low to 1");
    const auto blocks = static_cast<double>(config.device_blocks);
    low_ = static_cast<std::int64_t>(config.low * blocks);
    high_ = static_cast<std::int64_t>(config.high * blocks);
  }

  /// Blocks to offload now so that the forecast's lowest point keeps the low mark. O(1).
  [[nodiscard]] std::size_t to_offload(const LowestPoint& lowest) const {
    return static_cast<std::size_t>(std::max<std::int64_t>(0, low_ - lowest.free_blocks));
  }
  /// Blocks that may return to the device with the high mark still kept. O(1).
  [[nodiscard]] std::size_t to_return(const LowestPoint& lowest) const {
    return static_cast<std::size_t>(std::max<std::int64_t>(0, lowest.free_blocks - high_));
  }

 private:
  std::int64_t low_ = 0;
  std::int64_t high_ = 0;
};

/// A request whose layers may move.
struct MovableRequest {
  /// Layers on the device and on the host that may move: not those in transfer, nor shared ones.
  std::size_t device_layers = 0;
  std::size_t host_layers = 0;
  /// Blocks of one of its layers; where they differ, the fewest when offloading and the most when
  /// returning are safe.
  std::size_t layer_blocks = 0;

  bool operator==(const MovableRequest&) const = default;
};

/// So many layers of one request.
struct LayerMove {
  /// Its place among the requests given.
  std::size_t request = 0;
  std::size_t layers = 0;
  std::size_t blocks = 0;

  bool operator==(const LayerMove&) const = default;
};

/// What was decided: how many of the moves given are filled in, and their blocks.
struct MovePlan {
  std::size_t moves = 0;
  std::size_t blocks = 0;

  bool operator==(const MovePlan&) const = default;
};

/// Offloads whole layers until `wanted` blocks are free, or nothing more can go: from the latest
/// request back, as engines preempt, so that the oldest are slowed last. next_to_offload() says
/// which layers of each.
/// requests: in order of arrival. free_host_blocks: where they can go. moves: where the decisions
/// are written; it ends when they are full. O(requests looked at).
[[nodiscard]] inline MovePlan plan_offload(std::span<const MovableRequest> requests,
                                           std::size_t wanted, std::size_t free_host_blocks,
                                           std::span<LayerMove> moves) {
  MovePlan plan;
  for (std::size_t i = requests.size(); i-- != 0;) {
    if (plan.blocks >= wanted || plan.moves == moves.size()) break;
    const MovableRequest& request = requests[i];
    if (request.layer_blocks == 0) continue;
    const std::size_t missing = wanted - plan.blocks;
    const std::size_t needed = (missing - 1) / request.layer_blocks + 1;
    const std::size_t room = (free_host_blocks - plan.blocks) / request.layer_blocks;
    const std::size_t layers = std::min({request.device_layers, needed, room});
    if (layers == 0) continue;
    moves[plan.moves++] = {i, layers, layers * request.layer_blocks};
    plan.blocks += layers * request.layer_blocks;
  }
  return plan;
}

/// Brings whole layers back within `allowed` blocks: from the oldest request on, as plan_offload()
/// takes from the other end. next_to_return() says which layers of each.
/// requests: in order of arrival. moves: as in plan_offload(). O(requests looked at).
[[nodiscard]] inline MovePlan plan_return(std::span<const MovableRequest> requests,
                                          std::size_t allowed, std::span<LayerMove> moves) {
  MovePlan plan;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (plan.blocks >= allowed || plan.moves == moves.size()) break;
    const MovableRequest& request = requests[i];
    if (request.layer_blocks == 0) continue;
    const std::size_t layers =
        std::min(request.host_layers, (allowed - plan.blocks) / request.layer_blocks);
    if (layers == 0) continue;
    moves[plan.moves++] = {i, layers, layers * request.layer_blocks};
    plan.blocks += layers * request.layer_blocks;
  }
  return plan;
}

}  // namespace lethe::layerkv

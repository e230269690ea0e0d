/// Keys of survivors re-encoded to consecutive positions, for engines that take a token's position
/// from its slot.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/plan.hpp"
#include "lethe/rotation.hpp"
#include "lethe/unit_keys.hpp"

namespace lethe {

/// Keeps every rotated key of a cache at the position that is its slot: after a plan the key in
/// slot i is turned from where it was, kept[i], to i. The next token's position is then
/// size(layer), not tokens_seen(). Distances between survivors shrink with the gaps, as in
/// StreamingLLM (arXiv 2309.17453), so attention differs from that of a cache whose keys stay.
///
/// Not for scores that undo the rotation by the pruner's positions, which stay logical: those of
/// policies that are given frequencies. Every round rounds the moved keys once more to the cache's
/// type.
class Rerotation {
 public:
  /// Throws std::invalid_argument when kv_heads or head_dimension is 0, or frequencies turn more
  /// channels than there are, or are not finite.
  explicit Rerotation(const KeyShape& shape)
      : heads_(detail::check_keys(shape).kv_heads),
        rotation_(shape.frequencies, shape.pairs),
        key_(shape.head_dimension, 0.0f) {}

  /// To be called once the cache has packed its rows: at the end of its own apply, with the same
  /// plans. Nothing is allocated. O(rows that moved x channels).
  template <KeyWritableCache Cache>
  void apply(Cache& cache, std::span<const EvictionPlan> plans) {
    for (const EvictionPlan& plan : plans) {
      for (std::size_t slot = plan.first_move; slot < plan.kept.size(); ++slot) {
        // A turn back by the distance: turns by positions add up.
        rotation_.set_position(static_cast<Position>(plan.kept[slot] - slot));
        turn_back(cache, plan, slot);
      }
    }
  }

 private:
  template <class Cache>
  void turn_back(Cache& cache, const EvictionPlan& plan, std::size_t slot) {
    const std::size_t first = plan.head == all_heads ? 0 : plan.head;
    const std::size_t last = plan.head == all_heads ? heads_ : first + 1;
    for (std::size_t head = first; head < last; ++head) {
      cache.read_keys(plan.layer, head, slot, std::span<float>(key_));
      rotation_.turn_back(key_);
      cache.write_keys(plan.layer, head, slot, std::span<const float>(key_));
    }
  }

  std::size_t heads_;
  Rotation rotation_;
  std::vector<float> key_;
};

}  // namespace lethe

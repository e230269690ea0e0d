#pragma once

#include <cstddef>
#include <lethe/lethe.hpp>
#include <span>
#include <vector>

// A cache that holds token numbers in place of keys and values.
class ToyCache {
 public:
  explicit ToyCache(std::size_t layers) : rows_(layers) {}

  [[nodiscard]] std::size_t layers() const { return rows_.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return rows_[layer].size(); }
  [[nodiscard]] std::span<const lethe::Position> rows(std::size_t layer) const {
    return rows_[layer];
  }

  void append(lethe::Position token) {
    for (auto& layer : rows_) layer.push_back(token);
  }

  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      auto& layer = rows_[plan.layer];
      for (std::size_t i = 0; i < plan.kept.size(); ++i) layer[i] = layer[plan.kept[i]];
      layer.resize(plan.kept.size());
    }
  }

 private:
  std::vector<std::vector<lethe::Position>> rows_;
};

static_assert(lethe::KVCacheView<ToyCache>);

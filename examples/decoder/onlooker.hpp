#pragma once

#include <cstddef>
#include <lethe/pruner_config.hpp>

namespace decoder {

/// Stands in the place of a policy and drops nothing: what only watches a sequence derives from it.
class Onlooker {
 public:
  explicit Onlooker(const lethe::PrunerConfig& config) : config_(config) {}

  [[nodiscard]] const lethe::PrunerConfig& config() const noexcept { return config_; }
  void pin(std::size_t) {}
  void reset() {}
  [[nodiscard]] std::size_t bound(std::size_t) const { return config_.capacity; }
  [[nodiscard]] std::size_t threshold(std::size_t) const { return 0; }
  template <class Cache>
  [[nodiscard]] bool is_due(const Cache&, std::size_t) const {
    return false;
  }
  template <class Cache, class Trace>
  std::size_t make_room(Cache&, std::size_t, const Trace&) {
    return 0;
  }
  void commit() {}

 private:
  lethe::PrunerConfig config_;
};

}  // namespace decoder

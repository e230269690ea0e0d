#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/trace.hpp>
#include <nlohmann/json.hpp>
#include <vector>

#include "kv_cache.hpp"

namespace decoder {

/// Watches one cache after its prompt and while it decodes: bytes, kept tokens and rounds, over
/// time.
class Recorder {
 public:
  /// @param layers  layers of the cache
  /// @param tokens  tokens that will be seen, so that about a hundred samples are kept
  Recorder(std::size_t layers, std::size_t tokens);

  /// Takes the cache as it is after the prompt or a token; O(layers).
  ///
  /// @param seen  tokens the sequence has seen
  void sample(const KVCache& cache, std::size_t seen);

  /// Takes an examined layer.
  void add(const lethe::RoundStatistics& round);

  /// Mean over the sampled tokens of the cache's resident bytes.
  double mean_bytes() const;
  /// Most resident bytes at a sampled token.
  std::size_t peak_bytes() const { return peak_bytes_; }
  /// Mean kept tokens, over layers and sampled tokens.
  double mean_kept() const;

  /// Seconds spent planning, and applying, over all rounds.
  double plan_seconds() const { return plan_seconds_; }
  double apply_seconds() const { return apply_seconds_; }

  /// Resident bytes over time: {"tokens": [...], "bytes": [...]}.
  nlohmann::json bytes_over_time() const;
  /// Kept tokens over time: {"tokens": [...], "layers": [[...], ...]}.
  nlohmann::json kept_over_time() const;
  /// Sparsity at each layer's latest round, as kept_over_time; null without any measured.
  nlohmann::json sparsity_over_time() const;
  /// Examined layers: how many, how many pruned, and each one's figures as columns.
  nlohmann::json rounds() const;

 private:
  std::size_t layers_;
  std::size_t stride_;
  std::size_t samples_ = 0;
  double bytes_sum_ = 0;
  double kept_sum_ = 0;
  std::size_t peak_bytes_ = 0;
  std::vector<std::size_t> seen_;
  std::vector<std::size_t> bytes_;
  std::vector<std::vector<std::size_t>> kept_;
  std::vector<double> latest_sparsity_;
  std::vector<std::vector<double>> sparsity_;
  std::vector<lethe::RoundStatistics> rounds_;
  double plan_seconds_ = 0;
  double apply_seconds_ = 0;
};

}  // namespace decoder

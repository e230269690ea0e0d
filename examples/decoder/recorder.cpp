#include "recorder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace decoder {
namespace {

// Finer than a pixel of the report's pictures would be waste.
constexpr std::size_t wanted_samples = 110;

}  // namespace

Recorder::Recorder(std::size_t layers, std::size_t tokens)
    : layers_(layers),
      stride_(std::max<std::size_t>(1, tokens / wanted_samples)),
      kept_(layers),
      latest_sparsity_(layers, std::numeric_limits<double>::quiet_NaN()),
      sparsity_(layers) {}

void Recorder::sample(const KVCache& cache, std::size_t seen) {
  const std::size_t bytes = cache.resident_bytes();
  bytes_sum_ += static_cast<double>(bytes);
  peak_bytes_ = std::max(peak_bytes_, bytes);
  for (std::uint32_t layer = 0; layer < layers_; ++layer)
    kept_sum_ += static_cast<double>(cache.mean_size(layer));
  if (samples_++ % stride_ != 0) return;
  seen_.push_back(seen);
  bytes_.push_back(bytes);
  for (std::uint32_t layer = 0; layer < layers_; ++layer) {
    kept_[layer].push_back(cache.mean_size(layer));
    sparsity_[layer].push_back(latest_sparsity_[layer]);
  }
}

void Recorder::add(const lethe::RoundStatistics& round) {
  // apply_seconds is that of the whole round, told with each of its layers.
  if (rounds_.empty() || rounds_.back().tokens_seen != round.tokens_seen)
    apply_seconds_ += round.apply_seconds;
  plan_seconds_ += round.plan_seconds;
  if (round.layer < layers_ && round.sparsity > 0) latest_sparsity_[round.layer] = round.sparsity;
  rounds_.push_back(round);
}

double Recorder::mean_bytes() const {
  return samples_ == 0 ? 0 : bytes_sum_ / static_cast<double>(samples_);
}

double Recorder::mean_kept() const {
  return samples_ == 0 ? 0 : kept_sum_ / static_cast<double>(samples_ * layers_);
}

nlohmann::json Recorder::bytes_over_time() const { return {{"tokens", seen_}, {"bytes", bytes_}}; }

nlohmann::json Recorder::kept_over_time() const { return {{"tokens", seen_}, {"layers", kept_}}; }

nlohmann::json Recorder::sparsity_over_time() const {
  const bool is_measured = std::any_of(latest_sparsity_.begin(), latest_sparsity_.end(),
                                       [](double value) { return std::isfinite(value); });
  if (!is_measured) return nullptr;
  return {{"tokens", seen_}, {"layers", sparsity_}};
}

nlohmann::json Recorder::rounds() const {
  using nlohmann::json;
  json columns{{"tokens_seen", json::array()}, {"layer", json::array()},
               {"before", json::array()},      {"after", json::array()},
               {"sparsity", json::array()},    {"lost_mass", json::array()},
               {"outcome", json::array()}};
  std::size_t pruned = 0;
  for (const auto& round : rounds_) {
    pruned += round.tokens_after < round.tokens_before ? 1U : 0U;
    columns["tokens_seen"].push_back(round.tokens_seen);
    columns["layer"].push_back(round.layer);
    columns["before"].push_back(round.tokens_before);
    columns["after"].push_back(round.tokens_after);
    columns["sparsity"].push_back(round.sparsity);
    columns["lost_mass"].push_back(round.lost_mass);
    columns["outcome"].push_back(lethe::name(round.outcome));
  }
  return {{"count", rounds_.size()}, {"pruned", pruned}, {"each", std::move(columns)}};
}

}  // namespace decoder

#include "fidelity.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace decoder {
namespace {

void check_rows(std::span<const float> full, std::span<const float> pruned, std::int32_t target) {
  if (full.size() != pruned.size())
    throw std::invalid_argument("rows of " + std::to_string(full.size()) + " and " +
                                std::to_string(pruned.size()) +
                                " logits: give both the same vocabulary");
  if (target < 0 || static_cast<std::size_t>(target) >= full.size())
    throw std::invalid_argument("target " + std::to_string(target) + " is outside " +
                                std::to_string(full.size()) + " logits");
}

double finite_maximum(std::span<const float> row, std::size_t at) {
  if (!std::isfinite(row[at]))
    throw std::invalid_argument("logits without a finite maximum: the model's output is broken");
  return static_cast<double>(row[at]);
}

struct Sums {
  double full = 0;      // sum of exp(x - max x)
  double pruned = 0;    // sum of exp(y - max y)
  double weighted = 0;  // sum of exp(x - max x) * ((x - max x) - (y - max y))
};

Sums add_up(std::span<const float> full, std::span<const float> pruned, double full_maximum,
            double pruned_maximum) {
  Sums sums;
  for (std::size_t i = 0; i < full.size(); ++i) {
    const double x = static_cast<double>(full[i]) - full_maximum;
    const double y = static_cast<double>(pruned[i]) - pruned_maximum;
    const double weight = std::exp(x);
    sums.full += weight;
    sums.pruned += std::exp(y);
    // A masked token (logit -inf) has no weight, but its difference would be NaN.
    if (weight > 0) sums.weighted += weight * (x - y);
  }
  return sums;
}

}  // namespace

std::size_t argmax(std::span<const float> row) {
  if (row.empty()) throw std::invalid_argument("argmax of an empty row");
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

TokenFidelity compare_logits(std::span<const float> full, std::span<const float> pruned,
                             std::int32_t target) {
  check_rows(full, pruned, target);
  const std::size_t full_top = argmax(full);
  const std::size_t pruned_top = argmax(pruned);
  const double full_maximum = finite_maximum(full, full_top);
  const double pruned_maximum = finite_maximum(pruned, pruned_top);
  const Sums sums = add_up(full, pruned, full_maximum, pruned_maximum);
  const double full_log = std::log(sums.full);
  const double pruned_log = std::log(sums.pruned);
  const auto wanted = static_cast<std::size_t>(target);
  return {.divergence = std::max(0.0, sums.weighted / sums.full - full_log + pruned_log),
          .agrees = full_top == pruned_top,
          .full_loss = std::max(0.0, full_log + full_maximum - static_cast<double>(full[wanted])),
          .pruned_loss =
              std::max(0.0, pruned_log + pruned_maximum - static_cast<double>(pruned[wanted]))};
}

void FidelityTotals::add(const TokenFidelity& token) {
  ++tokens_;
  agreeing_ += token.agrees ? 1U : 0U;
  divergence_ += token.divergence;
  largest_divergence_ = std::max(largest_divergence_, token.divergence);
  full_loss_ += token.full_loss;
  pruned_loss_ += token.pruned_loss;
}

double FidelityTotals::mean(double sum) const {
  return tokens_ == 0 ? 0.0 : sum / static_cast<double>(tokens_);
}

double FidelityTotals::mean_divergence() const { return mean(divergence_); }

double FidelityTotals::agreement() const {
  return tokens_ == 0 ? 1.0 : mean(static_cast<double>(agreeing_));
}

double FidelityTotals::full_perplexity() const { return std::exp(mean(full_loss_)); }

double FidelityTotals::pruned_perplexity() const { return std::exp(mean(pruned_loss_)); }

double FidelityTotals::perplexity_ratio() const {
  return std::exp(mean(pruned_loss_ - full_loss_));
}

bool LongGapDetector::push(std::int32_t token) {
  std::rotate(last_.begin(), last_.begin() + 1, last_.end());
  last_.back() = token;
  const std::size_t at = count_++;
  if (count_ < order) return false;
  const auto [entry, is_new] = latest_.try_emplace(last_, at);
  const bool is_long_gap = !is_new && at - entry->second > gap_;
  entry->second = at;
  return is_long_gap;
}

}  // namespace decoder

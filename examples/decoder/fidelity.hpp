#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

namespace decoder {

/// How one predicted token fares under a pruned cache, beside the whole cache.
struct TokenFidelity {
  double divergence = 0;   ///< KL(full || pruned) of the next-token distributions, in nats
  bool agrees = false;     ///< both rows have their maximum at the same token
  double full_loss = 0;    ///< -log p(target) with the whole cache, in nats
  double pruned_loss = 0;  ///< -log p(target) with the pruned cache, in nats
};

/// Compares two rows of logits that predict the same token.
///
/// @param full    logits with the whole cache, one per vocabulary entry
/// @param pruned  logits with the pruned cache, same length
/// @param target  the token that follows in the text
/// @return divergence, agreement and both losses; never below zero
/// @throws std::invalid_argument when the rows differ in length, are empty, hold no finite
///         maximum, or `target` is outside them
/// Complexity: O(vocabulary), sums in double after the maximum is subtracted.
TokenFidelity compare_logits(std::span<const float> full, std::span<const float> pruned,
                             std::int32_t target);

/// Index of the largest entry, the first one of equals.
///
/// @param row  at least one value
/// @throws std::invalid_argument when the row is empty
std::size_t argmax(std::span<const float> row);

/// Sums of TokenFidelity over a text; O(1) memory.
class FidelityTotals {
 public:
  /// Adds one token.
  void add(const TokenFidelity& token);

  /// Tokens added so far.
  std::size_t tokens() const { return tokens_; }
  /// Mean divergence in nats; 0 without tokens, as all figures below (ratios: 1).
  double mean_divergence() const;
  /// Largest divergence of a single token, in nats.
  double largest_divergence() const { return largest_divergence_; }
  /// Share of tokens whose most likely next token is the same, in [0, 1].
  double agreement() const;
  /// exp of the mean loss with the whole cache.
  double full_perplexity() const;
  /// exp of the mean loss with the pruned cache.
  double pruned_perplexity() const;
  /// pruned_perplexity / full_perplexity, from the difference of the losses.
  double perplexity_ratio() const;

 private:
  double mean(double sum) const;

  std::size_t tokens_ = 0;
  std::size_t agreeing_ = 0;
  double divergence_ = 0;
  double largest_divergence_ = 0;
  double full_loss_ = 0;
  double pruned_loss_ = 0;
};

/// Finds "long-gap" tokens: those that a small window cannot predict, but a cache can.
///
/// A token is long-gap when the 4-gram that ends with it (itself included) occurred earlier in
/// the text, and the latest earlier occurrence ends more than `gap` tokens before it.
class LongGapDetector {
 public:
  static constexpr std::size_t order = 4;

  /// @param gap  distance in tokens that counts as long; 256 is what recents usually cover
  explicit LongGapDetector(std::size_t gap = 256) : gap_(gap) {}

  /// Takes the next token of the text and says whether it is long-gap; O(log tokens).
  bool push(std::int32_t token);

 private:
  using Gram = std::array<std::int32_t, order>;

  std::size_t gap_;
  std::size_t count_ = 0;
  Gram last_{};
  std::map<Gram, std::size_t> latest_;
};

}  // namespace decoder

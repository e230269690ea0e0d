#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "fidelity.hpp"
#include "recorder.hpp"
#include "workbench.hpp"

namespace decoder {

/// How one pruned cache follows the whole one over a text.
class Follower {
 public:
  /// @param tokens  tokens of the text, so that about fifty stretches are told apart over time; a
  ///                last one that is not full is left out there
  Follower(const Workbench& bench, const PolicyChoice& choice, std::size_t tokens);
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  Sequence sequence;
  Recorder recorder;

  /// Takes one predicted token.
  ///
  /// @param index  of the token in the text
  /// @param seen   tokens before it, prompt included
  void add(const TokenFidelity& token, bool is_long_gap, std::size_t index, std::size_t seen);

  /// Totals, first difference, mean bytes, and both over time.
  nlohmann::json results() const;

 private:
  void close_stretch(std::size_t seen);

  std::size_t stride_;
  FidelityTotals overall_;
  FidelityTotals long_gap_;
  FidelityTotals stretch_;
  std::optional<std::size_t> first_difference_;
  std::vector<std::size_t> seen_;
  std::vector<double> divergence_;
  std::vector<double> disagreement_;
};

/// Feeds one text to a whole cache and to pruned ones in lockstep, and compares every prediction.
class TeacherForcing {
 public:
  /// @param choices   the pruned caches; the whole one comes by itself
  /// @param capacity  most tokens seen
  TeacherForcing(const Workbench& bench, const std::vector<PolicyChoice>& choices,
                 std::size_t capacity);

  /// Reads `prompt`, then predicts each token of `text`; ends early when interrupted.
  void run(Workbench& bench, std::span<const std::int32_t> prompt,
           std::span<const std::int32_t> text);

  const std::vector<std::unique_ptr<Follower>>& followers() const { return followers_; }
  /// Mean resident bytes of the whole cache.
  double whole_bytes() const { return whole_->recorder.mean_bytes(); }

 private:
  void read_prompt(Workbench& bench, std::span<const std::int32_t> prompt);
  void compare(std::int32_t target, bool is_long_gap, std::size_t index, std::size_t seen);
  void step(Workbench& bench, std::int32_t token);
  void sample();

  std::unique_ptr<Follower> whole_;
  std::vector<std::unique_ptr<Follower>> followers_;
  std::size_t vocabulary_;
  std::vector<float> logits_;  ///< [1 + followers][vocabulary]
};

}  // namespace decoder

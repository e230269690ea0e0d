#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "curve.hpp"
#include "model_shape.hpp"

namespace serving {

/// A part of a prompt that one step computes.
struct PrefillPart {
  double tokens = 0;
  double context = 0;  ///< tokens before them that the cache holds
};

/// What one step computes.
struct StepWork {
  std::span<const PrefillPart> prefills;
  double decodes = 0;         ///< sequences that decode one token
  double decode_context = 0;  ///< tokens that they read of the cache, summed over the sequences

  double tokens() const;
  double sequences() const { return static_cast<double>(prefills.size()) + decodes; }
};

/// How long a step takes on one machine (all its GPUs together), in seconds.
///
/// What grows with tokens or sequences alone comes from curves; attention from one table of both
/// kinds of work in one batch, or from two tables whose times are summed.
class StepTimes {
 public:
  /// Curves of a whole step; attention of one layer.
  struct Tables {
    std::size_t layers = 0;
    Curve tokens;     ///< everything but attention and sampling, by tokens in the step
    Curve sequences;  ///< the last layer's rows and sampling, by sequences
    /// By tokens of prefill, their context, decoding sequences, mean context of those; 0 of the
    /// first or the third: none.
    Grid<4> mixed;
    /// Where `mixed` was not measured: by tokens and by sequences and their context.
    Curve prefill;   ///< attention of a whole prompt, by its tokens
    Grid<2> decode;  ///< by sequences and mean context
    bool is_mixed = false;
    /// Sizes that a step of few tokens is filled up to (CUDA graphs); empty: none.
    std::vector<double> graph_sizes;
    /// How much longer every step takes at so many seconds of the run, where others use the machine
    /// too; empty: no longer.
    Curve slowdown;
  };

  explicit StepTimes(Tables tables) : tables_(std::move(tables)) {}

  /// The whole step. O(prefills + log table).
  double seconds(const StepWork& work) const;
  /// Attention of one layer. O(prefills + log table).
  double attention(const StepWork& work) const;
  /// All but attention, of all layers.
  double rest(const StepWork& work) const;
  std::size_t layers() const { return tables_.layers; }
  /// What a step's seconds are multiplied by at that time of the run.
  double slowdown(double time) const {
    return tables_.slowdown.empty() ? 1 : tables_.slowdown(time);
  }

 private:
  double mixed(const StepWork& work) const;
  double separate(const StepWork& work) const;
  double prefill_alone(const PrefillPart& part) const;
  double in_batch(const PrefillPart& prefill, double decodes, double mean_context) const;

  Tables tables_;
};

}  // namespace serving

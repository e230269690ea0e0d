/// Shares with their intervals, and tests of paired outcomes.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

namespace accuracy {

/// A figure that no trial gave; shown as a dash, or a gap in a line.
inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// The ends of a 95% interval.
struct Interval {
  double low = 0;
  double high = 0;
};

/// The 95% interval of a share seen in `count` trials, in [0, 1]; both ends 0 for no trials.
/// count: may be an effective number, with a fraction.
/// Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
[[nodiscard]] Interval wilson(double share, double count);

/// Hits among independent trials.
struct Share {
  std::size_t hits = 0;
  std::size_t count = 0;

  /// 0 for no trials.
  [[nodiscard]] double value() const;
  [[nodiscard]] Interval interval() const;
};

/// Hits among trials that come in clusters: the lookups of one problem stand or fall together, so
/// that they say less than as many independent ones would.
class ClusteredShare {
 public:
  /// Adds one cluster.
  void add(std::size_t hits, std::size_t count);

  [[nodiscard]] const Share& total() const { return total_; }
  [[nodiscard]] double value() const { return total_.value(); }
  /// Wilson's interval for as many independent trials as would scatter the share as the clusters
  /// do; never more than there are trials. All trials where none or every one is a hit.
  /// Kish, "Survey Sampling", 1965 (design effect).
  [[nodiscard]] Interval interval() const;

 private:
  [[nodiscard]] double effective_count() const;

  Share total_;
  std::size_t clusters_ = 0;
  // Sums over clusters of hits^2, hits * count and count^2.
  double hits_hits_ = 0;
  double hits_count_ = 0;
  double count_count_ = 0;
};

/// The two-sided exact p of the sign test: how likely the pairs that differ fall at least so
/// unevenly when both sides are equally good. ahead, behind: pairs in which one of the two does
/// better. 1 for none. O(the smaller number). Of outcomes that are right or wrong, it is McNemar's:
/// "Note on the sampling error of the difference between correlated proportions", 1947.
[[nodiscard]] double sign_test(std::size_t ahead, std::size_t behind);

/// The p values corrected for their number, in the same order: each bounds the chance of any false
/// finding among all that are as small.
/// Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
[[nodiscard]] std::vector<double> holm(const std::vector<double>& values);

}  // namespace accuracy

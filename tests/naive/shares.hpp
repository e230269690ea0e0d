/// A total shared out by the formula, in real numbers: no bisection, no library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace naive {

/// One layer's part of a total.
struct Portion {
  double weight = 1;
  std::size_t floor = 0;
  std::size_t ceiling = 0;
  /// What one token costs.
  std::size_t cost = 1;

  bool operator==(const Portion&) const = default;

  [[nodiscard]] long double share(long double level) const {
    return std::min<long double>(ceiling, std::max<long double>(floor, level * weight));
  }
};

[[nodiscard]] inline long double spent(const std::vector<Portion>& portions, long double level) {
  long double sum = 0;
  for (const Portion& portion : portions) sum += portion.share(level) * portion.cost;
  return sum;
}

/// The level at which level x weight, between floors and ceilings, costs the total. What is spent
/// grows in straight lines between the levels at which a floor is left or a ceiling reached.
[[nodiscard]] inline long double level_of(const std::vector<Portion>& portions, std::size_t total) {
  std::vector<long double> turns{0};
  for (const Portion& portion : portions) {
    if (!(portion.weight > 0)) continue;
    turns.push_back(portion.floor / static_cast<long double>(portion.weight));
    turns.push_back(portion.ceiling / static_cast<long double>(portion.weight));
  }
  std::sort(turns.begin(), turns.end());
  long double last = 0;
  for (const long double turn : turns) {
    const long double before = spent(portions, last);
    const long double after = spent(portions, turn);
    if (after > total) {
      return last + (turn - last) * std::max(0.0L, (total - before) / (after - before));
    }
    last = turn;
  }
  return last;
}

/// Whole tokens of each share, then one at a time by largest remainder. Remainders within `error`
/// of each other are ties: to the lower layer, or, were the upper one larger by a hair, to that.
[[nodiscard]] inline std::vector<std::size_t> round_shares(const std::vector<Portion>& portions,
                                                           std::size_t total, double error,
                                                           bool upper) {
  const long double level = level_of(portions, total);
  std::vector<std::size_t> tokens;
  std::size_t used = 0;
  for (const Portion& portion : portions) {
    tokens.push_back(static_cast<std::size_t>(portion.share(level) + 1e-9L));
    used += tokens.back() * portion.cost;
  }
  for (;;) {
    std::size_t best = portions.size();
    long double largest = 0;
    for (std::size_t i = 0; i < portions.size(); ++i) {
      if (tokens[i] == portions[i].ceiling || used + portions[i].cost > total) continue;
      const long double remainder = portions[i].share(level) - tokens[i];
      const bool hair = upper && best != portions.size() && !(portions[i] == portions[best]);
      if (best != portions.size() && !(remainder > largest + (hair ? -error : error))) continue;
      largest = remainder;
      best = i;
    }
    if (best == portions.size()) return tokens;
    ++tokens[best];
    used += portions[best].cost;
  }
}

/// What each gets; `sure` where no rounding of the weights could change it.
struct Shares {
  std::vector<std::size_t> tokens;
  bool sure = true;
};

[[nodiscard]] inline Shares share_by_formula(const std::vector<Portion>& portions,
                                             std::size_t total, double error) {
  const std::vector<std::size_t> tokens = round_shares(portions, total, error, false);
  return {tokens, tokens == round_shares(portions, total, error, true)};
}

}  // namespace naive

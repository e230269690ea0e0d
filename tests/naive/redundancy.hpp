/// R-KV written from its formula, and keys and mass to try it on.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>
#include "catch.hpp"
#include "lethe/budget.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/decayed_maximum.hpp"
#include "lethe/score/redundancy.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace naive {

using Scorer = lethe::Redundant<lethe::WindowMass>;
using GlobalScorer = lethe::Redundant<lethe::DecayedMaximum<lethe::WindowMass>>;
using Doubles = std::vector<double>;

constexpr std::size_t heads = 2;
constexpr std::size_t dimension = 6;
constexpr std::size_t slots = 96;
constexpr std::size_t window = 8;
constexpr std::size_t recent = 8;
constexpr std::size_t pool = 7;
constexpr double lambda = static_cast<double>(0.1f);

/// A token, by its keys.
struct KeyedToken {
  lethe::Position position = 0;
  std::vector<float> key;
};

/// A cache of tokens; slots need not be in the order of position.
struct Keys {
  std::vector<KeyedToken> tokens;

  [[nodiscard]] std::size_t layers() const { return 1; }
  [[nodiscard]] std::size_t size(std::size_t) const { return tokens.size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) keep(plan.kept);
  }
  void keep(std::span<const lethe::Slot> kept) {
    for (std::size_t i = 0; i < kept.size(); ++i) tokens[i] = tokens[kept[i]];
    tokens.resize(kept.size());
  }
  void read_keys(std::size_t, std::size_t head, std::size_t slot, std::span<float> out) const {
    std::copy_n(tokens[slot].key.begin() + static_cast<std::ptrdiff_t>(head * dimension),
                out.size(), out.begin());
  }

  [[nodiscard]] std::vector<lethe::Position> positions() const {
    std::vector<lethe::Position> result;
    for (const KeyedToken& token : tokens) result.push_back(token.position);
    return result;
  }

  /// Every third token says an earlier one again, more or less.
  void draw(Samples& samples, lethe::Position position) {
    KeyedToken token{position, samples.row(heads * dimension, -0.5f, 0.5f)};
    if (position % 3 == 2) {
      const KeyedToken& old = tokens[samples.below(tokens.size())];
      for (std::size_t c = 0; c < token.key.size(); ++c) {
        token.key[c] = old.key[c] + 0.4f * token.key[c];
      }
    }
    tokens.push_back(token);
  }
};

inline lethe::KeyShape key_shape() {
  return {.kv_heads = heads, .head_dimension = dimension, .frequencies = {}};
}

inline Scorer make_scorer(std::size_t groups) {
  return Scorer({.score = {.window = window, .pool = 1}, .keys = key_shape()},
                {.layers = 1, .groups = groups, .slots = slots});
}

// R-KV as its formulas say, in double precision: the whole matrix, tokens in the order of position.

inline double cosine(const KeyedToken& a, const KeyedToken& b, std::size_t head) {
  double dot = 0;
  double left = 0;
  double right = 0;
  for (std::size_t c = head * dimension; c < (head + 1) * dimension; ++c) {
    dot += double(a.key[c]) * double(b.key[c]);
    left += double(a.key[c]) * double(a.key[c]);
    right += double(b.key[c]) * double(b.key[c]);
  }
  return dot / std::sqrt(left * right);
}

inline Doubles naive_redundancy(const std::vector<KeyedToken>& tokens, std::size_t head) {
  const std::size_t n = tokens.size();
  std::vector<Doubles> matrix(n, Doubles(n, 0.0));
  double undecided = 1;
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t last = n;
    for (std::size_t j = 0; j < n; ++j) {
      matrix[i][j] = i == j ? 0.0 : cosine(tokens[i], tokens[j], head);
      undecided = std::min(undecided, std::abs(matrix[i][j] - 0.5));
      if (matrix[i][j] > 0.5) last = j;
    }
    if (last != n) matrix[i][last] = 0.0;
  }
  REQUIRE(undecided > 1e-6);  // no rounding decides
  Doubles result(n, 0.0);
  double total = 0;
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < n; ++i) result[j] += matrix[i][j] / double(n);
    result[j] = std::exp(result[j]);
    total += result[j];
  }
  for (double& value : result) value /= total;
  return result;
}

/// The mean over the heads of a group.
inline Doubles naive_redundancy(const std::vector<KeyedToken>& tokens, std::size_t groups,
                                std::size_t group) {
  const std::size_t each = heads / groups;
  Doubles result(tokens.size(), 0.0);
  for (std::size_t head = group * each; head < (group + 1) * each; ++head) {
    const Doubles own = naive_redundancy(tokens, head);
    for (std::size_t i = 0; i < own.size(); ++i) result[i] += own[i] / double(each);
  }
  return result;
}

inline Doubles max_pooled(const Doubles& row) {
  Doubles result = row;
  for (std::size_t i = 0; i < row.size(); ++i) {
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t apart = i < j ? j - i : i - j;
      if (apart <= pool / 2) result[i] = std::max(result[i], row[j]);
    }
  }
  return result;
}

inline std::size_t others_of(std::size_t tokens) { return tokens - std::min(tokens, recent); }

inline double largest(const Doubles& row) { return *std::max_element(row.begin(), row.end()); }

/// Z of all tokens but the recent ones, raised by (1 - lambda) max R; mass: that of the window.
inline Doubles naive_scores(const Doubles& mass, const Doubles& redundancy) {
  Doubles past(mass.begin(), mass.begin() + static_cast<std::ptrdiff_t>(others_of(mass.size())));
  double sum = 0;
  for (const double value : past) sum += value;
  for (double& value : past) value /= sum;
  Doubles scores = max_pooled(past);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = lambda * scores[i] + (1 - lambda) * (largest(redundancy) - redundancy[i]);
  }
  return scores;
}

/// The mass of the last queries, one row of tokens a query.
struct Window {
  std::vector<Doubles> rows;

  void add(const std::vector<float>& mass) {
    for (Doubles& row : rows) row.resize(mass.size(), 0.0);
    rows.emplace_back(mass.begin(), mass.end());
    if (rows.size() > window) rows.erase(rows.begin());
  }
  void keep(std::span<const lethe::Slot> kept) {
    for (Doubles& row : rows) {
      for (std::size_t i = 0; i < kept.size(); ++i) row[i] = row[kept[i]];
      row.resize(kept.size());
    }
  }
  [[nodiscard]] Doubles sums() const {
    Doubles result(rows.back().size(), 0.0);
    for (const Doubles& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) result[i] += row[i];
    }
    return result;
  }
};

template <class Redundant>
inline std::vector<float> scores_of(Redundant& scorer, const Keys& keys, std::size_t group = 0) {
  std::vector<float> scratch(keys.tokens.size());
  const auto row = scorer.score(0, group, keys.positions(), scratch);
  return {row.begin(), row.end()};
}

template <class Redundant>
inline void observe(Redundant& scorer, const std::vector<float>& mass) {
  scorer.record(0, 0, 0, 0, mass);
  scorer.advance(1);
}

inline void require_close(const std::vector<float>& found, const Doubles& expected, double error) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE_THAT(double(found[i]), WithinAbs(expected[i], error));
  }
}

/// Tokens that come one by one, and what they are paid.
struct Stream {
  Samples samples;
  Keys keys{};
  std::vector<Window> mass;
  lethe::Position next = 0;

  explicit Stream(std::uint64_t seed, std::size_t groups = 1) : samples(seed), mass(groups) {}

  template <class Redundant>
  void step(Redundant& scorer) {
    keys.draw(samples, next++);
    for (std::size_t group = 0; group < mass.size(); ++group) {
      const std::vector<float> row = samples.mass(keys.tokens.size());
      mass[group].add(row);
      scorer.record(0, group, 0, 0, row);
    }
    scorer.advance(1);
  }

  void keep(std::span<const lethe::Slot> kept) {
    keys.keep(kept);
    for (Window& row : mass) row.keep(kept);
  }

  template <class Redundant>
  std::vector<lethe::Slot> drop_half(Redundant& scorer) {
    const std::size_t tokens = keys.tokens.size();
    const std::vector<lethe::Slot> kept = samples.slots(tokens, tokens / 2);
    for (std::size_t group = 0; group < mass.size(); ++group) {
      scorer.keep({.tokens = static_cast<std::uint32_t>(tokens), .kept = kept}, group);
    }
    keep(kept);
    return kept;
  }
};

}  // namespace naive

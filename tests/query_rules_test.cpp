// Every rule that learns from queries, against its formula in double precision, over rounds that
// drop tokens.
#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"
#include "query_text.hpp"

namespace {

using namespace query_text;

Rows covariance_of(const Rows& rows) {
  const Row mean = mean_of(rows);
  Rows result(channels, Row(channels, 0.0));
  for (const Row& row : rows) {
    for (std::size_t a = 0; a < channels; ++a) {
      for (std::size_t b = 0; b < channels; ++b) {
        result[a][b] += (row[a] - mean[a]) * (row[b] - mean[b]) / static_cast<double>(rows.size());
      }
    }
  }
  return result;
}

std::vector<double> distances_after(Position newest, const std::vector<double>& offsets) {
  std::vector<double> distances;
  for (const double offset : offsets) distances.push_back(newest + offset);
  return distances;
}

std::vector<double> next(std::size_t count) {
  std::vector<double> offsets(count);
  std::iota(offsets.begin(), offsets.end(), 1.0);
  return offsets;
}

/// k'(R Sigma R')k, the mean rotation R written out as a matrix.
double spread(const Row& key, const Rows& covariance, const Rows& columns) {
  Row back(channels, 0.0);
  for (std::size_t c = 0; c < channels; ++c) back[c] = dot(columns[c], key);
  double sum = 0;
  for (std::size_t a = 0; a < channels; ++a) sum += back[a] * dot(covariance[a], back);
  return sum;
}

/// The columns of the mean rotation.
Rows columns_of(const Turns& turns, const std::vector<double>& distances) {
  Rows columns;
  for (std::size_t c = 0; c < channels; ++c) {
    Row unit(channels, 0.0);
    unit[c] = 1;
    columns.push_back(turns.mean_turned(unit, distances));
  }
  return columns;
}

Row naive_expected(const NaiveHead& head, const Text& text, std::size_t horizon, std::size_t sinks,
                   double epsilon) {
  const std::vector<double> distances = distances_after(head.positions.back(), next(horizon));
  const Rows columns = columns_of(text.turns, distances);
  Row shares(head.keys.size(), 0.0);
  for (std::size_t h = 0; h < text.each; ++h) {
    const Rows queries = text.of(head.layer, head.head * text.each + h, sinks);
    const Row mean = text.turns.mean_turned(mean_of(queries), distances);
    const Rows covariance = covariance_of(queries);
    Row weights(head.keys.size(), 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (head.positions[i] < sinks) continue;
      const auto d = static_cast<double>(channels);
      weights[i] = std::exp(dot(mean, head.keys[i]) / std::sqrt(d) +
                            spread(head.keys[i], covariance, columns) / (2 * d));
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      shares[i] += weights[i] / total / static_cast<double>(text.each);
    }
  }
  for (std::size_t i = 0; i < shares.size(); ++i) {
    shares[i] = head.positions[i] < sinks ? 0 : (shares[i] + epsilon) * norm(head.values[i]);
  }
  const double best = *std::max_element(shares.begin(), shares.end());
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (head.positions[i] < sinks) shares[i] = best;
  }
  return shares;
}

/// One query head's scores of the tokens, wave by wave.
Row naive_waves(const NaiveHead& head, const Text& text, std::size_t query_head,
                std::size_t offsets) {
  const Turns& turns = text.turns;
  const Rows queries = text.of(head.layer, query_head);
  const Row mean = mean_of(queries);
  Row scores(head.keys.size(), 0.0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Row key = turns.turned(head.keys[i], -static_cast<double>(head.positions[i]));
    for (std::size_t f = 0; f < turns.each.size(); ++f) {
      const Factor relative = turns.pair(mean, f) * std::conj(turns.pair(key, f));
      double length = 0;
      for (const Row& query : queries) {
        length += std::abs(turns.pair(query, f)) / static_cast<double>(queries.size());
      }
      for (std::size_t o = 0; o < offsets; ++o) {
        const double distance = static_cast<double>(head.positions.back()) +
                                std::ldexp(1.0, int(o)) - static_cast<double>(head.positions[i]);
        scores[i] += std::abs(relative) * std::cos(turns.angle(f, distance) + std::arg(relative)) /
                     double(offsets);
      }
      scores[i] += (length - std::abs(turns.pair(mean, f))) * std::abs(turns.pair(key, f));
    }
    for (std::size_t c = 2 * turns.each.size(); c < channels; ++c) scores[i] += mean[c] * key[c];
  }
  return scores;
}

Row naive_trigonometric(const NaiveHead& head, const Text& text, std::size_t offsets) {
  Row best(head.keys.size(), -1e300);
  const auto tokens = static_cast<double>(best.size());
  for (std::size_t h = 0; h < text.each; ++h) {
    const Row scores = naive_waves(head, text, head.head * text.each + h, offsets);
    const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / tokens;
    double variance = 0;
    for (const double score : scores) variance += (score - mean) * (score - mean) / tokens;
    for (std::size_t i = 0; i < best.size(); ++i) {
      best[i] = std::max(best[i], (scores[i] - mean) / std::max(std::sqrt(variance), 1e-6));
    }
  }
  const double least = *std::min_element(best.begin(), best.end());
  for (double& score : best) score -= least;
  return best;
}

/// x with matrix x = right, by elimination.
Row solved(Rows matrix, Row right) {
  for (std::size_t c = 0; c < right.size(); ++c) {
    for (std::size_t r = 0; r < right.size(); ++r) {
      if (r == c) continue;
      const double factor = matrix[r][c] / matrix[c][c];
      for (std::size_t k = c; k < right.size(); ++k) matrix[r][k] -= factor * matrix[c][k];
      right[r] -= factor * right[c];
    }
  }
  for (std::size_t c = 0; c < right.size(); ++c) right[c] /= matrix[c][c];
  return right;
}

Row naive_capacity(const NaiveHead& head, const Text& text, double sharpness, std::size_t horizon) {
  Rows queries;
  for (std::size_t h = 0; h < text.each; ++h) {
    queries.push_back(mean_of(text.of(head.layer, head.head * text.each + h)));
  }
  const Row mean = text.turns.mean_turned(mean_of(queries),
                                          distances_after(head.positions.back(), next(horizon)));
  Rows matrix(value_channels, Row(value_channels, 0.0));
  for (std::size_t c = 0; c < value_channels; ++c) matrix[c][c] = 1;
  Row weights;
  for (std::size_t i = 0; i < head.keys.size(); ++i) {
    const double cosine = dot(head.keys[i], mean) / (norm(head.keys[i]) * norm(mean));
    weights.push_back(std::exp(sharpness * cosine));
    for (std::size_t a = 0; a < value_channels; ++a) {
      for (std::size_t b = 0; b < value_channels; ++b) {
        matrix[a][b] += weights[i] * head.values[i][a] * head.values[i][b];
      }
    }
  }
  Row scores;
  for (std::size_t i = 0; i < head.keys.size(); ++i) {
    scores.push_back(weights[i] * dot(head.values[i], solved(matrix, head.values[i])));
  }
  return scores;
}

}  // namespace

TEST_CASE("expected attention is the softmax of Gaussian queries to come, times |v|") {
  check_rule<lethe::ExpectedMass>({}, [](const NaiveHead& head, const Text& text) {
    return naive_expected(head, text, 512, 4, 0.0);
  });
  check_rule<lethe::ExpectedMass>({.horizon = 20, .first_tokens = 9, .epsilon = 0.02f},
                                  [](const NaiveHead& head, const Text& text) {
                                    return naive_expected(head, text, 20, 9, 0.02f);
                                  });
}

TEST_CASE("waves of rotary pairs over many distances, standardised in each query head") {
  check_rule<lethe::Trigonometric>({}, [](const NaiveHead& head, const Text& text) {
    return naive_trigonometric(head, text, 17);
  });
  check_rule<lethe::Trigonometric>({.offsets = 3}, [](const NaiveHead& head, const Text& text) {
    return naive_trigonometric(head, text, 3);
  });
}

TEST_CASE("capacity is the leverage of values, weighed by what the mean query looks for") {
  check_rule<lethe::Capacity>({}, [](const NaiveHead& head, const Text& text) {
    return naive_capacity(head, text, 5.0, 512);
  });
  check_rule<lethe::Capacity>(
      {.sharpness = 1.5f, .horizon = 1},
      [](const NaiveHead& head, const Text& text) { return naive_capacity(head, text, 1.5, 1); });
}

/// Attention that depends on who asks and who is asked alone, so that any way of stepping through
/// a text sees the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/lethe.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"

namespace naive {

/// Position of a token that will be rejected.
inline constexpr std::uint32_t rejected = 0x80000000u;

/// What the query at one position pays a key at another, in (0, 1].
inline float mass_between(std::size_t layer, std::size_t group, std::uint32_t query,
                          std::uint32_t key) {
  const std::uint64_t word = lethe::detail::mix(lethe::detail::mix(layer * 64 + group) ^
                                                (std::uint64_t{query} << 32 | key));
  const auto share = static_cast<float>((word >> 20) % 4096 + 1) * 0x1p-12f;
  return share * share * share;
}

/// Rows [group][query][column] for the positions of the columns.
inline std::vector<float> mass_rows(std::size_t layer, std::size_t groups,
                                    std::span<const std::uint32_t> columns,
                                    std::span<const std::uint32_t> step) {
  std::vector<float> rows;
  for (std::size_t g = 0; g < groups; ++g) {
    for (const std::uint32_t query : step) {
      for (const std::uint32_t key : columns) rows.push_back(mass_between(layer, g, query, key));
    }
  }
  return rows;
}

/// One sequence that is stepped through in whatever way.
template <class Pruner, unsigned Features = plain>
class Sequence {
 public:
  explicit Sequence(Pruner policy)
      : pruner(std::move(policy)),
        cache(pruner.config().layers,
              pruner.config().scope == lethe::Scope::head ? pruner.config().groups : 1) {}

  /// The positions of a step of which only `accepted` stands.
  [[nodiscard]] std::vector<std::uint32_t> positions_of(
      std::size_t tokens, std::span<const std::uint32_t> accepted) const {
    std::vector<std::uint32_t> step(tokens, 0);
    for (std::size_t i = 0; i < tokens; ++i) step[i] = rejected + static_cast<std::uint32_t>(i);
    for (std::size_t i = 0; i < accepted.size(); ++i) {
      step[accepted[i]] = static_cast<std::uint32_t>(pruner.tokens_seen() + i);
    }
    return step;
  }

  /// The positions of a layer's rows once the step's own are there.
  [[nodiscard]] std::vector<std::uint32_t> columns_of(
      std::size_t layer, const std::vector<std::uint32_t>& step) const {
    std::vector<std::uint32_t> columns = positions(layer);
    for (std::size_t i = 0; i < step.size(); ++i) {
      if (i == 0 && cache.vacant(layer) != cache.none) {
        columns[cache.vacant(layer)] = step[0];
      } else {
        columns.push_back(step[i]);
      }
    }
    return columns;
  }

  void observe(const std::vector<std::uint32_t>& step) {
    const std::size_t groups = pruner.config().groups;
    for (std::size_t l = 0; l < cache.layers(); ++l) {
      const std::vector<std::uint32_t> columns = columns_of(l, step);
      const std::vector<float> rows = mass_rows(l, groups, columns, step);
      pruner.observe(l, lethe::Mass<float>{.data = rows.data(),
                                           .groups = groups,
                                           .queries = step.size(),
                                           .columns = columns.size()});
    }
  }

  /// Proposes `tokens`, of which those at `accepted` stand.
  void step(std::size_t tokens, std::span<const std::uint32_t> accepted) {
    pruner.make_room(cache, tokens);
    const std::vector<std::uint32_t> ids = positions_of(tokens, accepted);
    observe(ids);
    std::vector<std::uint32_t> stand;
    for (const std::uint32_t i : accepted) stand.push_back(ids[i]);
    for (std::size_t l = 0; l < cache.layers(); ++l) cache.append(l, stand);
    pruner.commit(accepted);
  }

  void step(std::size_t tokens) {
    std::vector<std::uint32_t> all(tokens);
    for (std::size_t i = 0; i < tokens; ++i) all[i] = static_cast<std::uint32_t>(i);
    step(tokens, all);
  }

  [[nodiscard]] std::vector<lethe::Position> positions(std::size_t layer) const {
    const auto row = pruner.positions(layer);
    return {row.begin(), row.end()};
  }
  [[nodiscard]] std::vector<float> scores(std::size_t layer) {
    const auto row = pruner.scores(layer);
    return {row.begin(), row.end()};
  }

  Pruner pruner;
  TokenCache<Features> cache;
};

}  // namespace naive

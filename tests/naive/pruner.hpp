/// An obviously correct pruner: tokens in vectors, doubles, full sorts. Slow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace naive {

/// One cached token and what queries paid it, newest query last.
struct Token {
  std::uint32_t position = 0;
  /// One entry for each group: decayed sum.
  std::vector<double> decayed;
  /// One entry for each of the last queries: mass by group.
  std::vector<std::vector<double>> window;
};

/// How mass becomes a score.
struct ScoreRule {
  double decay = 1;
  /// 0: the decayed sum; else the sum over so many queries.
  std::size_t window = 0;
  std::size_t pool = 1;
  bool constant = false;
};

/// The tokens of one kept set (a layer, or one head of it).
struct KeptSet {
  std::vector<Token> tokens;

  /// A query paid mass[group][slot]; tokens past its row got none.
  void pay(const ScoreRule& rule, const std::vector<std::vector<double>>& mass) {
    for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
      Token& token = tokens[slot];
      token.decayed.resize(mass.size(), 0.0);
      std::vector<double> paid(rule.window != 0 ? mass.size() : 0);
      for (std::size_t group = 0; group < mass.size(); ++group) {
        const double now = slot < mass[group].size() ? mass[group][slot] : 0.0;
        token.decayed[group] = token.decayed[group] * rule.decay + now;
        if (rule.window != 0) paid[group] = now;
      }
      if (rule.window != 0) token.window.push_back(paid);
      if (token.window.size() > rule.window) token.window.erase(token.window.begin());
    }
  }

  [[nodiscard]] double raw_score(const ScoreRule& rule, const Token& token,
                                 std::size_t group) const {
    if (rule.constant) return 0;
    if (rule.window == 0) return group < token.decayed.size() ? token.decayed[group] : 0;
    double sum = 0;
    for (const auto& paid : token.window) sum += group < paid.size() ? paid[group] : 0;
    return sum;
  }

  /// Maximum over neighbours in position.
  [[nodiscard]] std::vector<double> scores(const ScoreRule& rule, std::size_t groups) const {
    std::vector<double> result(tokens.size(), 0.0);
    for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
      for (std::size_t group = 0; group < groups; ++group) {
        result[slot] += pooled_score(rule, slot, group);
      }
    }
    return result;
  }

  [[nodiscard]] double pooled_score(const ScoreRule& rule, std::size_t slot,
                                    std::size_t group) const {
    if (rule.pool == 1) return raw_score(rule, tokens[slot], group);
    std::vector<std::size_t> order(tokens.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return tokens[a].position < tokens[b].position;
    });
    const auto place =
        static_cast<std::size_t>(std::find(order.begin(), order.end(), slot) - order.begin());
    const std::size_t reach = rule.pool / 2;
    double best = 0;
    for (std::size_t i = place - std::min(place, reach); i < order.size() && i <= place + reach;
         ++i) {
      best = std::max(best, raw_score(rule, tokens[order[i]], group));
    }
    return best;
  }
};

/// What a plan is made from: exact scores and positions by slot, and what is protected.
struct Selection {
  std::size_t layer = 0;
  std::vector<double> scores;
  std::vector<std::uint32_t> positions;
  std::uint32_t prefix_end = 0;
  std::size_t recent = 0;

  [[nodiscard]] std::vector<bool> covered() const {
    std::vector<std::uint32_t> sorted = positions;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t rank = sorted.size() - std::min(recent, sorted.size());
    std::vector<bool> result;
    for (const std::uint32_t position : positions) {
      result.push_back(position < prefix_end || (rank < sorted.size() && position >= sorted[rank]));
    }
    return result;
  }

  [[nodiscard]] std::size_t prefix_tokens() const {
    return static_cast<std::size_t>(std::count_if(positions.begin(), positions.end(),
                                                  [&](std::uint32_t p) { return p < prefix_end; }));
  }

  /// Slots in the order in which they stay: by score, then by age.
  [[nodiscard]] std::vector<std::size_t> ranking(bool protection) const {
    const std::vector<bool> safe =
        protection ? covered() : std::vector<bool>(positions.size(), false);
    std::vector<std::size_t> order(positions.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      if (safe[a] != safe[b]) return static_cast<bool>(safe[a]);
      if (!safe[a] && scores[a] != scores[b]) return scores[a] > scores[b];
      return positions[a] < positions[b];
    });
    return order;
  }

  /// The slots of the `count` tokens that stay, ascending.
  [[nodiscard]] std::vector<std::size_t> best(std::size_t count) const {
    std::vector<std::size_t> order = ranking(true);
    order.resize(std::min(count, order.size()));
    std::sort(order.begin(), order.end());
    return order;
  }

  /// Hoyer's: 1 where one token has all, 0 where all have the same or there is nothing.
  [[nodiscard]] double sparsity() const {
    if (scores.size() == 1) return 1;
    double sum = 0;
    double squares = 0;
    for (const double score : scores) {
      sum += score;
      squares += score * score;
    }
    if (!(squares > 0)) return 0;
    const double root = std::sqrt(double(scores.size()));
    return std::min(1.0, std::max(0.0, (root - sum / std::sqrt(squares)) / (root - 1)));
  }

  /// Of the normalised scores, over the most that it could be.
  [[nodiscard]] double entropy() const {
    double sum = 0;
    for (const double score : scores) sum += score;
    double entropy = 0;
    for (const double score : scores) {
      if (score > 0) entropy -= score / sum * std::log(score / sum);
    }
    return scores.size() > 1 ? entropy / std::log(double(scores.size())) : 0;
  }

  [[nodiscard]] double lost_share(std::size_t count) const {
    double all = 0;
    double kept = 0;
    for (const double score : scores) all += score;
    for (const std::size_t slot : best(count)) kept += scores[slot];
    return all > 0 ? 1 - kept / all : 0;
  }
};

/// What a budget asks for.
struct Wish {
  std::size_t tokens = 0;
  bool spread_out = false;
};

/// A budget rule: the tokens of a layer, how many are protected, and the most that may stay.
using BudgetRule =
    std::function<Wish(const Selection&, std::size_t protected_tokens, std::size_t limit)>;

/// The same number in every layer; 0: as many as may stay.
inline BudgetRule uniform_rule(std::size_t budget) {
  return [budget](const Selection&, std::size_t, std::size_t limit) {
    return Wish{budget != 0 ? budget : limit, false};
  };
}

/// Lethe's Algorithm 1 as it is written: sort, cut into segments, look at each segment's head.
inline BudgetRule breakpoint_rule(double sparsity_ratio, std::size_t segments) {
  return [=](const Selection& layer, std::size_t protected_tokens, std::size_t) {
    const std::size_t n = layer.scores.size();
    std::vector<double> sorted = layer.scores;
    std::sort(sorted.rbegin(), sorted.rend());
    if (n == 0 || !(sorted[0] > 0)) return Wish{n, true};
    const double level = sorted[0] / sparsity_ratio;
    for (std::size_t segment = 1; segment < segments; ++segment) {
      const std::size_t begin = (segment * n + segments - 1) / segments;
      if (begin >= n) break;
      if (sorted[begin] >= level) continue;
      const std::vector<std::size_t> order = layer.ranking(false);
      const std::vector<bool> safe = layer.covered();
      std::size_t salient = 0;
      for (std::size_t i = 0; i < begin; ++i) salient += safe[order[i]] ? 0u : 1u;
      return Wish{protected_tokens + salient, false};
    }
    return Wish{n, true};
  };
}

/// Settings of a round, as PrunerConfig and Retention give them.
struct RoundRule {
  double slack_ratio = 0.125;
  std::size_t round_interval = 32;
  std::size_t first_threshold = 0;
  std::size_t recent_tokens = 0;
  std::size_t recent_percent = 0;
  /// Recents take at most one in so many of the kept tokens.
  std::size_t recent_divisor = 1;
  bool spreads_moves = false;
  bool overwrites = false;
  BudgetRule budget;
  /// Tokens of a budget that all layers share; 0: each has its own. A layer's claim on it, and how
  /// far rounding may put that off.
  std::size_t shared_total = 0;
  std::function<double(const Selection&)> weight;
  double weight_error = 1e-9;
  /// The count a cache wants instead of `tokens`, at most `limit` where it can be.
  std::function<std::size_t(std::size_t tokens, std::size_t limit)> permitted;

  [[nodiscard]] std::size_t slack(std::size_t bound) const {
    return std::max<std::size_t>(1, static_cast<std::size_t>(slack_ratio * double(bound)));
  }

  /// With a limit on moves layers are taken in turn, from half the slack before the bound.
  [[nodiscard]] bool forced(std::size_t size, std::size_t tokens, std::size_t bound) const {
    return size + tokens > bound - (spreads_moves ? slack(bound) / 2 : 0);
  }

  [[nodiscard]] bool due(std::size_t size, std::size_t tokens, std::size_t bound,
                         std::size_t threshold, std::size_t since) const {
    return forced(size, tokens, bound) ||
           (first_threshold != 0 && size >= threshold && since >= round_interval);
  }

  [[nodiscard]] std::size_t recents(std::size_t tokens) const {
    const std::size_t share = (recent_percent * tokens + 99) / 100;
    return std::min(tokens, std::max(share, recent_tokens));
  }

  /// Recents of a set of `size` tokens that may keep `most`, `prefix` of them first or pinned.
  [[nodiscard]] std::size_t recents(std::size_t size, std::size_t prefix, std::size_t most) const {
    return std::min(
        {recents(size), most / recent_divisor, most - std::min(most, prefix), size - prefix});
  }
};

/// What becomes of one examined kept set.
struct Verdict {
  bool forced = false;
  bool spread_out = false;
  std::size_t tokens = 0;
  std::size_t protected_tokens = 0;
  std::size_t recent = 0;
  std::size_t prefix = 0;
  /// Most that may stay, and most that a guard may keep.
  std::size_t limit = 0;
  std::size_t hard = 0;
};

/// Examines one kept set before `tokens` more are appended.
inline Verdict examine(const RoundRule& rule, Selection layer, std::size_t tokens,
                       std::size_t bound) {
  const std::size_t size = layer.positions.size();
  const std::size_t hard = std::min(size, bound - tokens);
  const bool forced = rule.forced(size, tokens, bound);
  const std::size_t free = rule.overwrites && tokens == 1 ? 1 : rule.slack(bound);
  std::size_t limit = forced ? std::min(hard, bound - free) : hard;
  const std::size_t prefix = layer.prefix_tokens();
  layer.recent = rule.recents(size, prefix, limit);
  limit = std::max(limit, std::min(prefix, hard));
  const Wish wish = rule.budget(layer, prefix + layer.recent, limit);
  Verdict verdict{.forced = forced, .prefix = prefix, .limit = limit, .hard = hard};
  const auto verdict_of = [&](bool spread_out, std::size_t kept) {
    verdict.spread_out = spread_out;
    verdict.tokens = std::min(kept, size);
    verdict.recent = layer.recent;
    verdict.protected_tokens = prefix + layer.recent;
    return verdict;
  };
  if (wish.spread_out && !forced) return verdict_of(true, size);
  const std::size_t wanted = rule.permitted(std::min(wish.tokens, limit), limit);
  if (wanted < prefix + layer.recent || rule.recent_divisor != 1) {
    layer.recent = rule.recents(size, prefix, wanted);
  }
  const std::size_t safe = prefix + layer.recent;
  const std::size_t kept = wanted >= safe ? wanted : std::max(rule.permitted(safe, limit), safe);
  return verdict_of(false, kept);
}

}  // namespace naive

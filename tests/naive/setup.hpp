/// Random configurations for traces, each made from one seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lethe/budget/entropy.hpp"
#include "lethe/budget/hoyer.hpp"
#include "lethe/budget/layer_shares.hpp"
#include "naive/shares.hpp"
#include "naive/trace.hpp"

namespace naive {

// Sanitizers cost a factor of ten; fewer traces are enough there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::size_t trace_share = 8;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr std::size_t trace_share = 8;
#else
inline constexpr std::size_t trace_share = 1;
#endif
#elif !defined(__OPTIMIZE__)
inline constexpr std::size_t trace_share = 8;
#else
inline constexpr std::size_t trace_share = 1;
#endif

inline std::string describe(const TraceSetup& s) {
  const lethe::PrunerConfig& c = s.config;
  return "seed " + std::to_string(s.seed) + " layers " + std::to_string(c.layers) + " capacity " +
         std::to_string(c.capacity) + " bytes " + std::to_string(c.capacity_bytes) + " total " +
         std::to_string(c.total_capacity) + " total_bytes " + std::to_string(c.total_bytes) +
         " groups " + std::to_string(c.groups) + " scope " +
         std::to_string(static_cast<int>(c.scope)) + " slack " + std::to_string(c.slack_ratio) +
         " interval " + std::to_string(c.round_interval) + " lost " +
         std::to_string(c.max_lost_mass) + " move " + std::to_string(c.max_move_bytes) + " chunk " +
         std::to_string(s.chunk) + " block " + std::to_string(s.block) + " pins " +
         std::to_string(s.pins) + " drafts " + std::to_string(c.draft_tokens);
}

inline std::size_t tracked_layers(const TraceSetup& s) {
  std::size_t count = 0;
  for (std::size_t l = 0; l < s.states.size(); ++l) count += s.tracked(l) ? 1u : 0u;
  return count;
}

inline void draw_layers(TraceSetup& s, Random& random, unsigned features) {
  const bool sequence = (features & with_same_set) != 0;
  s.config.layers = random.between(1, 4);
  for (std::size_t l = 0; l < s.config.layers; ++l) {
    const bool gone = (features & with_state) != 0 && l != 0 && random.chance(20);
    s.states.push_back(!gone               ? lethe::LayerState::prunable
                       : random.chance(50) ? lethe::LayerState::fixed
                                           : lethe::LayerState::absent);
    s.bytes.push_back(sequence ? 4 : random.between(2, 9));
  }
}

/// Caps over all layers, never so tight that protected tokens and a step cannot be held.
inline void draw_caps(TraceSetup& s, Random& random, unsigned features) {
  const std::size_t tracked = tracked_layers(s);
  if (random.chance(25)) s.config.total_capacity = tracked * random.between(28, s.config.capacity);
  if (s.config.total_capacity != 0) {
    s.config.total_capacity = std::max(s.config.total_capacity, 2 * s.config.layers);
  }
  if ((features & with_bytes) == 0) return;
  if (random.chance(25)) s.config.capacity_bytes = 9 * random.between(28, s.config.capacity);
  if (random.chance(20)) s.config.total_bytes = 9 * tracked * random.between(28, s.config.capacity);
  const bool sequence = s.config.scope == lethe::Scope::sequence;
  if (!sequence && random.chance(25)) s.config.max_move_bytes = random.between(200, 900);
}

inline void draw_scope(TraceSetup& s, Random& random, unsigned features) {
  s.config.groups = random.pick(std::vector<std::size_t>{1, 1, 2, 3});
  if ((features & with_same_set) != 0) s.config.scope = lethe::Scope::sequence;
  if ((features & with_heads) != 0 && random.chance(40)) s.config.scope = lethe::Scope::head;
}

inline void draw_rounding(TraceSetup& s, Random& random, unsigned features) {
  if ((features & with_blocks) != 0) s.block = random.pick(std::vector<std::size_t>{1, 4, 8});
  if ((features & with_classes) != 0) {
    for (std::size_t count = 6; count < s.config.capacity; count += random.between(3, 12)) {
      s.classes.push_back(count);
    }
  }
  const std::size_t block = s.block;
  const std::vector<std::size_t> classes = s.classes;
  s.round.permitted = [block, classes](std::size_t tokens, std::size_t limit) {
    if (classes.empty()) {
      const std::size_t up = (tokens + block - 1) / block * block;
      return up <= limit ? up : tokens;
    }
    std::size_t below = tokens;
    for (const std::size_t allowed : classes) {
      if (allowed >= tokens && allowed <= limit) return allowed;
      if (allowed <= limit) below = allowed;
    }
    return below;
  };
}

/// A configuration for a cache with these refinements.
inline TraceSetup draw_setup(std::uint64_t seed, unsigned features) {
  TraceSetup s;
  s.seed = seed;
  Random random(seed);
  draw_layers(s, random, features);
  s.config.capacity = random.between(32, 96);
  s.config.slack_ratio = random.pick(std::vector<float>{0.0f, 0.05f, 0.125f, 0.3f});
  s.config.round_interval = random.pick(std::vector<std::size_t>{1, 8, 32});
  s.config.max_lost_mass = random.pick(std::vector<float>{1.0f, 1.0f, 0.3f, 0.1f});
  draw_scope(s, random, features);
  draw_caps(s, random, features);
  draw_rounding(s, random, features);
  s.chunk = random.pick(std::vector<std::size_t>{1, 1, 3, 8});
  s.pins = random.chance(30) && s.config.capacity_bytes == 0;
  if (random.chance(30)) s.config.draft_tokens = random.between(1, 4);
  s.round.slack_ratio = double(s.config.slack_ratio);
  s.round.round_interval = s.config.round_interval;
  s.round.spreads_moves = s.config.max_move_bytes != 0;
  // A draft may be rejected, so it takes no other token's slot.
  s.round.overwrites = (features & with_overwrite) != 0 && s.config.draft_tokens == 0;
  return s;
}

/// Makes a pruner of a policy with random settings, and tells the model of them.
template <class Policy>
struct Maker;

template <>
struct Maker<lethe::policies::Lethe> {
  static lethe::policies::Lethe make(TraceSetup& s) {
    Random random(s.seed + 1000);
    lethe::LetheConfig c;
    c.decay = random.pick(std::vector<float>{1.0f, 0.98f, 0.5f});
    c.sparsity_ratio = random.pick(std::vector<float>{2.0f, 30.0f, 400.0f});
    s.round.recent_percent = random.pick(std::vector<std::size_t>{0, 10, 30});
    c.recent_ratio = static_cast<float>(s.round.recent_percent) / 100.0f;
    c.first_tokens = random.between(0, 4);
    c.segments = random.pick(std::vector<std::size_t>{1, 7, 64, 200});
    c.first_threshold = random.pick(std::vector<std::size_t>{0, 12, 20, 500});
    s.score.decay = double(c.decay);
    s.first_tokens = c.first_tokens;
    s.round.first_threshold = c.first_threshold;
    s.round.budget = breakpoint_rule(double(c.sparsity_ratio), c.segments);
    return lethe::policies::Lethe(s.config, c);
  }
};

template <>
struct Maker<lethe::policies::H2O> {
  static lethe::policies::H2O make(TraceSetup& s) {
    Random random(s.seed + 1000);
    const std::size_t budget = random.pick(std::vector<std::size_t>{0, 10, 25});
    s.round.recent_tokens = ~std::size_t{0};
    s.round.recent_divisor = 2;
    s.round.budget = uniform_rule(budget);
    return lethe::policies::H2O(s.config, {.budget = budget});
  }
};

template <>
struct Maker<lethe::policies::TOVA> {
  static lethe::policies::TOVA make(TraceSetup& s) {
    const std::size_t budget = s.seed % 3 * 9;
    s.score.window = 1;
    s.round.budget = uniform_rule(budget);
    return lethe::policies::TOVA(s.config, {.budget = budget});
  }
};

template <>
struct Maker<lethe::policies::SnapKV> {
  static lethe::policies::SnapKV make(TraceSetup& s) {
    Random random(s.seed + 1000);
    lethe::SnapKVConfig c;
    c.budget = random.pick(std::vector<std::size_t>{0, 10, 25});
    c.window = random.between(1, 9);
    c.pool = random.pick(std::vector<std::size_t>{1, 3, 7});
    s.score.window = s.round.recent_tokens = c.window;
    s.score.pool = c.pool;
    s.round.budget = uniform_rule(c.budget);
    return lethe::policies::SnapKV(s.config, c);
  }
};

template <>
struct Maker<lethe::policies::StreamingLLM> {
  static lethe::policies::StreamingLLM make(TraceSetup& s) {
    Random random(s.seed + 1000);
    lethe::StreamingLLMConfig c;
    c.budget = random.pick(std::vector<std::size_t>{0, 10, 25});
    c.first_tokens = s.first_tokens = random.between(0, 6);
    s.score.constant = true;
    s.drawn_scores = true;
    s.round.recent_tokens = ~std::size_t{0};
    s.round.budget = uniform_rule(c.budget);
    return lethe::policies::StreamingLLM(s.config, c);
  }
};

template <>
struct Maker<lethe::policies::RandomAttention> {
  static lethe::policies::RandomAttention make(TraceSetup& s) {
    const std::size_t budget = s.seed % 3 * 9;
    s.drawn_scores = true;
    s.round.recent_tokens = s.seed % 12;
    s.round.budget = uniform_rule(budget);
    return lethe::policies::RandomAttention(
        s.config, {.budget = budget, .recent_tokens = s.seed % 12, .seed = s.seed});
  }
};

/// A policy of RASR's score and any budget, with random protection.
template <class Budget>
struct RasrMaker {
  using Policy = lethe::Pruner<lethe::Rasr, Budget>;

  static Policy make(TraceSetup& s, Random& random, const typename Budget::Config& budget) {
    lethe::Retention retention{.first_tokens = random.between(0, 4),
                               .recent_tokens = random.pick(std::vector<std::size_t>{0, 6, 40})};
    s.round.recent_percent = random.pick(std::vector<std::size_t>{0, 10, 30});
    retention.recent_ratio = static_cast<float>(s.round.recent_percent) / 100.0f;
    const std::size_t threshold = random.pick(std::vector<std::size_t>{0, 0, 20});
    s.first_tokens = retention.first_tokens;
    s.round.recent_tokens = retention.recent_tokens;
    s.round.first_threshold = threshold;
    s.score.decay = 0.9;
    return Policy(s.config, {.retention = retention, .first_threshold = threshold}, {.decay = 0.9f},
                  budget);
  }

  /// A total of its own that all layers share.
  static Policy make_shared(TraceSetup& s) {
    Random random(s.seed + 1000);
    s.round.shared_total = s.config.layers * random.between(6, s.config.capacity);
    s.round.budget = uniform_rule(0);
    return make(s, random, {.total = s.round.shared_total});
  }
};

template <>
struct Maker<lethe::Pruner<lethe::Rasr, lethe::HoyerBudget>> {
  static auto make(TraceSetup& s) {
    s.round.weight = [](const Selection& layer) { return 1 / std::max(0.01, layer.sparsity()); };
    return RasrMaker<lethe::HoyerBudget>::make_shared(s);
  }
};

template <>
struct Maker<lethe::Pruner<lethe::Rasr, lethe::EntropyBudget>> {
  static auto make(TraceSetup& s) {
    s.round.weight = [](const Selection& layer) { return std::max(0.01, layer.entropy()); };
    // The library's logarithms are good to 1e-5.
    s.round.weight_error = 0.02;
    return RasrMaker<lethe::EntropyBudget>::make_shared(s);
  }
};

/// A table made once: demand^0.5, between a quarter and twice the mean.
template <>
struct Maker<lethe::Pruner<lethe::Rasr, lethe::TableBudget>> {
  static auto make(TraceSetup& s) {
    Random random(s.seed + 1000);
    const std::size_t mean = random.between(6, s.config.capacity);
    std::vector<double> demands;
    std::vector<Portion> portions;
    for (std::size_t l = 0; l < s.config.layers; ++l) {
      demands.push_back(double(random.between(1, 90)));
      portions.push_back({std::sqrt(demands[l]), (mean + 3) / 4, 2 * mean});
    }
    const std::size_t total = mean * s.config.layers;
    const Shares shares = share_by_formula(portions, total, 1e-9);
    s.round.budget = [shares](const Selection& layer, std::size_t, std::size_t) {
      return Wish{shares.tokens[layer.layer], false};
    };
    return RasrMaker<lethe::TableBudget>::make(s, random,
                                               lethe::reason_alloc_shares(demands, total));
  }
};

template <class Policy, unsigned Features>
Tally run_traces(std::size_t count, std::uint64_t first_seed) {
  Tally tally;
  for (std::uint64_t seed = first_seed; seed < first_seed + count / trace_share + 1; ++seed) {
    TraceSetup setup = draw_setup(seed, Features);
    INFO(describe(setup));
    Policy policy = Maker<Policy>::make(setup);
    Trace<Policy, Features> trace(setup, std::move(policy));
    trace.run();
    tally += trace.tally;
  }
  CHECK(tally.rounds > 0);
  return tally;
}

}  // namespace naive

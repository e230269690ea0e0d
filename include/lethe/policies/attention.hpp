/// Policies that look at attention in other ways: LazyEviction, RaaS, Scissorhands, Keyformer,
/// MorphKV, RPC, CAKE, ChunkKV, the rule of DMS, block-granular H2O. Included by name.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "lethe/budget.hpp"
#include "lethe/budget/dispersion.hpp"
#include "lethe/budget/score_threshold.hpp"
#include "lethe/budget/whole_blocks.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/blocks.hpp"
#include "lethe/score/forward_pool.hpp"
#include "lethe/score/gumbel_mass.hpp"
#include "lethe/score/per_age.hpp"
#include "lethe/score/pivotal_count.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/recurrence.hpp"
#include "lethe/score/time_stamp.hpp"
#include "lethe/score/window.hpp"
#include "lethe/score/window_shift.hpp"

namespace lethe {

/// Settings of policies::LazyEviction.
struct LazyEvictionConfig {
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Mass above which a query looks at a token; the published 1e-4 of one head's attention. It is
  /// compared with the mass of a score group: give 1e-4 x heads for 1e-4 of their mean.
  float threshold = 1e-4f;
  /// As RandomAttention's buffer; the published window depends on the text.
  std::size_t recent_tokens = 32;
  /// Queries whose mass comes in pieces at a time; 1 where each query's heads come together. At
  /// least deferred.queries in any case.
  std::size_t open_queries = 1;

  bool operator==(const LazyEvictionConfig&) const = default;
};

/// Settings of policies::RaaS.
struct RaaSConfig {
  std::size_t budget = 0;
  /// Share of the tokens that each query stamps; the published half.
  float share = 0.5f;
  /// As LazyEviction's.
  std::size_t open_queries = 1;

  bool operator==(const RaaSConfig&) const = default;
};

/// Settings of policies::Scissorhands.
struct ScissorhandsConfig {
  std::size_t budget = 0;
  /// Queries that count; the published 400.
  std::size_t window = 400;
  /// Recent tokens always kept; the published 10.
  std::size_t recent_tokens = 10;
  /// As LazyEviction's.
  std::size_t open_queries = 1;

  bool operator==(const ScissorhandsConfig&) const = default;
};

/// Settings of policies::Keyformer.
struct KeyformerConfig {
  std::size_t budget = 0;
  /// Share of the kept tokens that are recent ones; that of the authors' code.
  float recent_ratio = 0.3f;
  /// Temperature of the noise at first and at last; the published 1 and 2.
  float first_temperature = 1.0f;
  float last_temperature = 2.0f;
  /// Queries over which it rises: give the text's length where it is known; 100 is what the
  /// authors' code makes of it.
  std::size_t rise = 100;
  std::uint64_t seed = 1;
  /// As LazyEviction's.
  std::size_t open_queries = 1;

  bool operator==(const KeyformerConfig&) const = default;
};

/// Settings of policies::DMS.
struct DMSConfig {
  /// Recent tokens always kept; a token is judged once it has left them. The published 128.
  std::size_t window = 128;
  /// As ScoreThreshold's share.
  float threshold = 0.1f;
  /// As Lethe's: a mass that fades, so that tokens of any age are measured alike.
  float decay = 0.98f;
  /// Attention sinks (StreamingLLM's 4); they would set the mean that the others are measured by.
  std::size_t first_tokens = 4;

  bool operator==(const DMSConfig&) const = default;
};

/// Settings of policies::MorphKV.
struct MorphKVConfig {
  std::size_t budget = 0;
  /// Queries whose attention counts, and recent tokens always kept; as SnapKV's.
  std::size_t window = 32;

  bool operator==(const MorphKVConfig&) const = default;
};

/// Settings of policies::RPC.
struct RPCConfig {
  std::size_t budget = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 32.
  std::size_t window = 32;
  /// Neighbours averaged; the published 7.
  std::size_t pool = 7;

  bool operator==(const RPCConfig&) const = default;
};

/// Settings of policies::CAKE.
struct CAKEConfig {
  /// Query heads of a layer; must be given, since a variance depends on how many were summed.
  std::size_t heads = 0;
  /// Tokens over all layers at a round; must be given.
  std::size_t total = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 32.
  std::size_t window = 32;
  /// Neighbours averaged; 5 in the authors' program.
  std::size_t pool = 5;
  /// gamma: what a token's variance weighs beside its mean; the published 200.
  float variance_weight = 200.0f;
  /// t1 and t2, as DispersionBudget's.
  double entropy_temperature = 1.0;
  double variance_temperature = 1.0;

  bool operator==(const CAKEConfig&) const = default;
};

/// Settings of policies::ChunkKV.
struct ChunkKVConfig {
  /// Tokens kept in whole chunks; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Consecutive positions that stay or go together; the published 20.
  std::size_t chunk = 20;
  /// As SnapKV's.
  std::size_t window = 32;
  std::size_t pool = 7;

  bool operator==(const ChunkKVConfig&) const = default;
};

/// Settings of policies::BlockH2O and policies::BlockH2OSum.
struct BlockH2OConfig {
  /// Tokens of a block; give a multiple of it for the four sizes below.
  std::size_t block = 32;
  /// Tokens kept in whole blocks, protected ones included (max); 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Protected (start, recent), as OpenVINO GenAI's.
  std::size_t first_tokens = 32;
  std::size_t recent_tokens = 128;
  /// Tokens over which each query's mass is pooled forwards; 1: none.
  std::size_t pool = 1;

  bool operator==(const BlockH2OConfig&) const = default;
};

namespace detail {

/// Query heads that a score group sums.
[[nodiscard]] inline std::size_t heads_of_group(const PrunerConfig& pruner, std::size_t heads) {
  const std::size_t groups = std::max<std::size_t>(pruner.groups, 1);
  require(heads >= 1 && heads % groups == 0, "heads", heads,
          "give the query heads of a layer, a multiple of groups");
  return heads / groups;
}

/// Queries that scores of whole queries must hold open.
[[nodiscard]] inline std::size_t open_queries(const PrunerConfig& pruner, std::size_t asked) {
  return asked == 0 ? 0 : std::max(asked, pruner.deferred.queries);
}

}  // namespace detail

namespace policies {

/// LazyEviction (arXiv 2506.15969): tokens that attention comes back to, after gaps such as they
/// have had.
class LazyEviction : public Pruner<Recurrence, UniformBudget> {
 public:
  explicit LazyEviction(const PrunerConfig& pruner, const LazyEvictionConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.threshold = config.threshold,
                .open_queries = detail::open_queries(pruner, config.open_queries)},
               {.budget = config.budget}) {}
};

/// RaaS (arXiv 2502.11147): who was last in the upper half of a query's mass longest ago goes. Pin
/// the prompt to have the published policy.
class RaaS : public Pruner<TimeStamp, UniformBudget> {
 public:
  explicit RaaS(const PrunerConfig& pruner, const RaaSConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0}},
               {.share = config.share,
                .open_queries = detail::open_queries(pruner, config.open_queries)},
               {.budget = config.budget}) {}
};

/// Scissorhands (arXiv 2305.17118): what most of the last 400 queries found below their mean goes.
/// With slack_ratio 0.5 a round drops half, as published.
class Scissorhands : public Pruner<PivotalCount, UniformBudget> {
 public:
  explicit Scissorhands(const PrunerConfig& pruner, const ScissorhandsConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.window = config.window,
                .open_queries = detail::open_queries(pruner, config.open_queries)},
               {.budget = config.budget}) {}
};

/// Keyformer (arXiv 2403.09054): mass shared out anew with Gumbel noise at each query, summed.
/// Published with a set for each head: Scope::head and as many groups.
class Keyformer : public Pruner<GumbelMass, UniformBudget> {
 public:
  explicit Keyformer(const PrunerConfig& pruner, const KeyformerConfig& config = {})
      : Pruner(pruner,
               {.retention = {.first_tokens = 0,
                              .recent_tokens = std::numeric_limits<std::size_t>::max(),
                              .recent_share = config.recent_ratio}},
               {.first_temperature = config.first_temperature,
                .last_temperature = config.last_temperature,
                .rise = config.rise,
                .seed = config.seed,
                .open_queries = detail::open_queries(pruner, config.open_queries)},
               {.budget = config.budget}) {}
};

/// The rule of DMS (arXiv 2506.05345) on decayed mass: who has left a window of 128 stays while its
/// score reaches a threshold. Layers are looked at every PrunerConfig::round_interval tokens, full
/// or not. With another score: Pruner<that, ScoreThreshold>.
class DMS : public Pruner<Rasr, ScoreThreshold> {
 public:
  explicit DMS(const PrunerConfig& pruner, const DMSConfig& config = {})
      : Pruner(pruner,
               {.retention = {.first_tokens = config.first_tokens, .recent_tokens = config.window},
                .first_threshold = config.first_tokens + config.window + 1},
               {.decay = config.decay}, {.share = config.threshold}) {}
};

/// MorphKV (arXiv 2503.00979): mass of the last few queries, summed. With slack_ratio 0 it prunes
/// at every step, as published.
class MorphKV : public Pruner<WindowMass, UniformBudget> {
 public:
  explicit MorphKV(const PrunerConfig& pruner, const MorphKVConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.window = config.window, .pool = 1}, {.budget = config.budget}) {}
};

/// RPC (arXiv 2505.13866): mass of the last 32 queries, averaged over neighbours. Pin the prompt to
/// have the published policy; its budget grows with the text, this one stays.
class RPC : public Pruner<WindowMass, UniformBudget> {
 public:
  explicit RPC(const PrunerConfig& pruner, const RPCConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.window = config.window, .pool = config.pool, .pooling = Pooling::mean},
               {.budget = config.budget}) {}
};

/// CAKE (arXiv 2503.12491): mass of the last 32 queries and its variance over them; layers share a
/// total by how widely their attention is spread and how much it moves. Published with a set for
/// each KV head: Scope::head and as many groups.
class CAKE : public Pruner<WindowShift, DispersionBudget> {
 public:
  CAKE(const PrunerConfig& pruner, const CAKEConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.window = config.window,
                .pool = config.pool,
                .variance_weight = config.variance_weight,
                .heads = detail::heads_of_group(pruner, config.heads)},
               {.total = config.total,
                .entropy_temperature = config.entropy_temperature,
                .variance_temperature = config.variance_temperature}) {}
};

/// ChunkKV (arXiv 2502.00299): SnapKV's scores, averaged over chunks that stay or go whole.
class ChunkKV : public Pruner<Blocks<WindowMass>, WholeBlocks> {
 public:
  explicit ChunkKV(const PrunerConfig& pruner, const ChunkKVConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.score = {.window = config.window, .pool = config.pool},
                .block = config.chunk,
                .recent_tokens = config.window},
               {.block = config.chunk, .budget = config.budget}) {}
};

/// Block-granular H2O as OpenVINO GenAI defines it: the blocks of least mass go, of equal ones the
/// older. Score: ForwardPool<Rasr> sums mass (SUM), PerAge of it divides by age (NORM_SUM; the
/// prompt then comes as one step).
template <TokenScorer Score>
class BlockwiseH2O : public Pruner<Blocks<Score>, WholeBlocks> {
 public:
  explicit BlockwiseH2O(const PrunerConfig& pruner, const BlockH2OConfig& config = {})
      : Pruner<Blocks<Score>, WholeBlocks>(
            pruner,
            {.retention = {.first_tokens = config.first_tokens,
                           .recent_tokens = config.recent_tokens}},
            {.score = {.score = {.decay = 1.0f},
                       .pool = config.pool,
                       .open_queries = detail::open_queries(pruner, 1)},
             .block = config.block,
             .combine = BlockScore::sum,
             .newer_wins_ties = true,
             .first_tokens = config.first_tokens,
             .recent_tokens = config.recent_tokens},
            {.block = config.block, .budget = config.budget}) {}
};

using BlockH2O = BlockwiseH2O<PerAge<ForwardPool<Rasr>>>;
using BlockH2OSum = BlockwiseH2O<ForwardPool<Rasr>>;

}  // namespace policies
}  // namespace lethe

// Block-granular H2O as OpenVINO GenAI defines it, as a composition of the library's parts.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/whole_blocks.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/blocks.hpp"
#include "lethe/score/forward_pool.hpp"
#include "lethe/score/per_age.hpp"
#include "lethe/score/rasr.hpp"
#include "naive/given.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Row = std::vector<float>;
using BlockList = std::vector<std::size_t>;

using Pooled = lethe::ForwardPool<lethe::Rasr>;
/// Sums of mass (SUM), and sums over the token's age (NORM_SUM).
using Sum = lethe::Blocks<Pooled>;
using NormSum = lethe::Blocks<lethe::PerAge<Pooled>>;

static_assert(lethe::CacheReadingScorer<lethe::ForwardPool<naive::Shown>, naive::GivenCache>);

/// Sizes in tokens.
struct Sizes {
  std::size_t block = 4;
  std::size_t start = 32;
  std::size_t recent = 32;
  std::size_t most = 192;
  std::size_t pool = 1;
};

template <class Scorer>
lethe::Pruner<Scorer, lethe::WholeBlocks> make_pruner(const Sizes& sizes) {
  return {{.layers = 1, .capacity = 512, .round_interval = 1},
          {.retention = {.first_tokens = sizes.start, .recent_tokens = sizes.recent},
           .first_threshold = 1},
          {.score = {.score = {.decay = 1.0f}, .pool = sizes.pool},
           .block = sizes.block,
           .combine = lethe::BlockScore::sum,
           .newer_wins_ties = true,
           .recent_tokens = sizes.recent},
          {.block = sizes.block, .budget = sizes.most}};
}

using Cache = naive::TokenCache<naive::plain>;

std::vector<Position> positions_of(const Cache& cache) {
  std::vector<Position> positions;
  for (const naive::Row& row : cache.rows(0, 0)) positions.push_back(row.key);
  return positions;
}

/// One registration: a step of so many tokens, whose last query alone is told of.
template <class Pruner>
void register_scores(Pruner& pruner, Cache& cache, std::size_t tokens, const Row& scores) {
  std::vector<Position> ids(tokens);
  for (std::size_t i = 0; i < tokens; ++i) {
    ids[i] = static_cast<Position>(pruner.tokens_seen() + i);
  }
  cache.append(0, ids);
  REQUIRE(cache.size(0) == scores.size());
  pruner.observe(0,
                 lethe::Mass<float>{
                     .data = scores.data(), .columns = scores.size(), .first_query = tokens - 1});
  pruner.commit();
}

/// Blocks of the cache, by index, that went; each must have gone whole.
BlockList gone_blocks(const std::vector<Position>& before, const std::vector<Position>& after,
                      std::size_t block) {
  std::map<std::size_t, std::size_t> gone;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (std::find(after.begin(), after.end(), before[i]) == after.end()) ++gone[i / block];
  }
  BlockList blocks;
  for (const auto& [index, tokens] : gone) {
    REQUIRE(tokens == block);
    blocks.push_back(index);
  }
  return blocks;
}

/// What goes after one registration of these scores.
template <class Scorer>
BlockList evicted(const Row& scores, const Sizes& sizes = {}) {
  auto pruner = make_pruner<Scorer>(sizes);
  Cache cache(1, 1);
  pruner.make_room(cache, scores.size());
  register_scores(pruner, cache, scores.size(), scores);
  const std::vector<Position> before = positions_of(cache);
  pruner.make_room(cache, 1);
  return gone_blocks(before, positions_of(cache), sizes.block);
}

Row ones_but(std::size_t tokens, const BlockList& zero_blocks) {
  Row scores(tokens, 1.0f);
  for (const std::size_t block : zero_blocks)
    std::fill_n(scores.begin() + long(4 * block), 4, 0.0f);
  return scores;
}

Row powers(const std::function<double(double)>& base, double exponent) {
  Row scores;
  for (std::size_t i = 0; i < 207; ++i) {
    scores.push_back(static_cast<float>(std::pow(base(double(i)), exponent)));
  }
  return scores;
}

/// The definition, block by block, in doubles. Sizes in blocks are whole numbers there.
class Definition {
 public:
  Definition(const Sizes& sizes, bool by_age) : sizes_(sizes), by_age_(by_age) {}

  /// Scores of all tokens, the last `fresh` of them new.
  void enter(std::size_t fresh, const Row& scores) {
    const bool first = tokens_.empty();
    tokens_.resize(tokens_.size() + fresh);
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      float pooled = scores[i];
      for (std::size_t j = i; j < std::min(i + sizes_.pool, scores.size()); ++j) {
        pooled = std::max(pooled, scores[j]);
      }
      tokens_[i].sum += double(pooled);
      tokens_[i].count += first ? double(tokens_.size() - i) : 1.0;
    }
  }

  /// The blocks to evict, ascending; they are taken out.
  BlockList evict() {
    const std::size_t blocks = tokens_.size() / sizes_.block;
    const std::size_t most = sizes_.most / sizes_.block;
    BlockList candidates;
    for (std::size_t b = sizes_.start / sizes_.block; b + sizes_.recent / sizes_.block < blocks;
         ++b)
      candidates.push_back(b);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](std::size_t a, std::size_t b) { return score(a) < score(b); });
    candidates.resize(blocks - std::min(blocks, most));
    std::sort(candidates.begin(), candidates.end());
    for (auto b = candidates.rbegin(); b != candidates.rend(); ++b) {
      const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(*b * sizes_.block);
      tokens_.erase(begin, begin + static_cast<std::ptrdiff_t>(sizes_.block));
    }
    return candidates;
  }

 private:
  struct Token {
    double sum = 0;
    double count = 0;
  };

  [[nodiscard]] double score(std::size_t block) const {
    double result = 0;
    for (std::size_t i = block * sizes_.block; i < (block + 1) * sizes_.block; ++i) {
      result += tokens_[i].sum / (by_age_ ? tokens_[i].count : 1.0);
    }
    return result;
  }

  Sizes sizes_;
  bool by_age_;
  std::vector<Token> tokens_;
};

/// A prompt, then a token a step; the same blocks go as by the definition. Returns how many.
template <class Scorer>
std::size_t decode(const Sizes& sizes, std::size_t prompt, std::uint64_t seed) {
  Samples samples(seed);
  auto pruner = make_pruner<Scorer>(sizes);
  Definition definition(sizes, std::is_same_v<Scorer, NormSum>);
  Cache cache(1, 1);
  std::size_t gone = 0;
  for (std::size_t step = 0; step < 200; ++step) {
    const std::vector<Position> before = positions_of(cache);
    const BlockList wanted = definition.evict();
    const std::size_t fresh = step == 0 ? prompt : 1;
    pruner.make_room(cache, fresh);
    REQUIRE(gone_blocks(before, positions_of(cache), sizes.block) == wanted);
    gone += wanted.size();
    const Row scores = samples.mass(cache.size(0) + fresh);
    register_scores(pruner, cache, fresh, scores);
    definition.enter(fresh, scores);
  }
  return gone;
}

}  // namespace

TEST_CASE("equal scores: only full blocks beyond the most go, the oldest first") {
  const auto gone = [](std::size_t tokens) { return evicted<NormSum>(Row(tokens, 1.0f)); };
  for (const std::size_t tokens : {std::size_t{192}, std::size_t{193}, std::size_t{195}}) {
    CHECK(gone(tokens).empty());
  }
  CHECK(gone(196) == BlockList{8});
  CHECK(gone(197) == BlockList{8});
  CHECK(gone(200) == BlockList{8, 9});
  CHECK(gone(227) == BlockList{8, 9, 10, 11, 12, 13, 14, 15});
}

TEST_CASE("blocks without score go before others, the protected ones excepted") {
  const Row some = ones_but(217, {0, 2, 7, 24, 31, 49});
  CHECK(evicted<Sum>(some) == BlockList{8, 9, 10, 11, 24, 31});
  CHECK(evicted<NormSum>(some) == BlockList{8, 9, 10, 11, 24, 31});
  const Row others = ones_but(217, {5, 19, 27, 39, 50, 52});
  CHECK(evicted<Sum>(others) == BlockList{8, 9, 10, 19, 27, 39});
  CHECK(evicted<NormSum>(others) == BlockList{8, 9, 10, 19, 27, 39});
}

TEST_CASE("rising and falling scores, summed and by age") {
  const auto falling = [](double i) { return 206 - i; };
  const auto rising = [](double i) { return i; };
  CHECK(evicted<Sum>(powers(falling, 0.9)) == BlockList{40, 41, 42});
  CHECK(evicted<Sum>(powers(falling, 1.1)) == BlockList{40, 41, 42});
  CHECK(evicted<NormSum>(powers(falling, 1.1)) == BlockList{40, 41, 42});
  CHECK(evicted<NormSum>(powers(falling, 0.9)) == BlockList{8, 9, 10});
  for (const double exponent : {0.9, 1.1}) {
    CHECK(evicted<Sum>(powers(rising, exponent)) == BlockList{8, 9, 10});
    CHECK(evicted<NormSum>(powers(rising, exponent)) == BlockList{8, 9, 10});
  }
}

TEST_CASE("scores are pooled over the tokens that follow") {
  const Row scores{0, 0, 1, 1, 0, 0, 5, 0, 2, 2};
  Sizes sizes{.block = 2, .start = 2, .recent = 2, .most = 8, .pool = 1};
  CHECK(evicted<Sum>(scores, sizes) == BlockList{2});
  sizes.pool = 3;
  CHECK(evicted<Sum>(scores, sizes) == BlockList{1});
}

TEST_CASE("a prompt and its decoding lose the blocks that the definition names") {
  for (const std::size_t pool : {1u, 3u}) {
    const Sizes sizes{.block = 4, .start = 8, .recent = 12, .most = 64, .pool = pool};
    CHECK(decode<Sum>(sizes, 150, 1) > 50);
    CHECK(decode<NormSum>(sizes, 150, 2) > 50);
    CHECK(decode<Sum>(sizes, 3, 3) > 20);
    CHECK(decode<NormSum>({.block = 3, .start = 0, .recent = 0, .most = 30, .pool = pool}, 40, 4) >
          20);
  }
}

TEST_CASE("each query's mass is pooled by itself, its heads together") {
  Pooled scorer({.score = {.decay = 1.0f}, .pool = 2}, {.layers = 1, .groups = 2, .slots = 8});
  const auto found = [&](std::size_t group) {
    return naive::scores_of(scorer, ascending_positions(4), 0, group);
  };
  scorer.record(0, 1, 0, 0, Row{1, 0, 2, 0});
  scorer.record(0, 1, 0, 2, Row{0, 4});
  CHECK(found(1) == Row{0, 0, 0, 0});
  scorer.advance(1);
  CHECK(found(1) == Row{1, 2, 4, 4});
  scorer.record(0, 1, 0, 0, Row{0, 3, 0, 0});
  scorer.advance(1);
  CHECK(found(1) == Row{4, 5, 4, 4});  // not max(1, 3) and so on of the sums 1 3 2 4
  CHECK(found(0) == Row{0, 0, 0, 0});
  const std::vector<lethe::Slot> kept{1, 3};
  scorer.keep({.layer = 0, .tokens = 4, .first_move = 0, .kept = kept}, 1);
  CHECK(found(1) == Row{5, 4, 0, 0});
  scorer.forget(0, 1, 0);
  CHECK(found(1) == Row{0, 4, 0, 0});
  Pooled restored = naive::restored(scorer, {.score = {.decay = 1.0f}, .pool = 2},
                                    {.layers = 1, .groups = 2, .slots = 8});
  CHECK(naive::scores_of(restored, ascending_positions(4), 0, 1) == Row{0, 4, 0, 0});
  scorer.reset();
  CHECK(found(1) == Row{0, 0, 0, 0});
}

TEST_CASE("a query weighs by when it came, not by when it is handed on") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 8};
  Pooled pooled({.score = {.decay = 0.5f}, .pool = 2, .open_queries = 4}, shape);
  lethe::Rasr plain({.decay = 0.5f}, shape);
  for (int step = 0; step < 5; ++step) {
    pooled.record(0, 0, 0, 0, Row{1, 0, 2, 0});
    pooled.record(0, 0, 1, 0, Row{0, 4, 0, 0});
    pooled.advance(2);
    plain.record(0, 0, 0, 0, Row{1, 2, 2, 0});
    plain.record(0, 0, 1, 0, Row{4, 4, 0, 0});
    plain.advance(2);
    if (step % 2 == 1) {
      CHECK(naive::scores_of(pooled, ascending_positions(4)) ==
            naive::scores_of(plain, ascending_positions(4)));
    }
  }
}

TEST_CASE("mass that is not finite stays visible where it is pooled") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    Pooled scorer({.score = {.decay = 1.0f}, .pool = 2}, {.layers = 1, .slots = 8});
    scorer.record(0, 0, 0, 0, Row{1, 1, odd, 1});
    scorer.advance(1);
    const Row found = naive::scores_of(scorer, ascending_positions(4));
    CHECK(lethe::is_finite(found[0]));
    CHECK_FALSE(lethe::is_finite(found[2]));
  }
}

TEST_CASE("a pool of no tokens is refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  CHECK_THROWS_WITH(Pooled({.pool = 0}, shape), Catch::Contains("pool = 0"));
  CHECK_THROWS_WITH(Pooled({.pool = 3, .open_queries = 0}, shape),
                    Catch::Contains("open_queries = 0"));
  CHECK_THROWS_AS(Pooled({.pool = 0}, shape), std::invalid_argument);
}

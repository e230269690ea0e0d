/// Mass as a noised draw would share it out, query by query, summed. Keyformer.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lethe/exact_log.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/score.hpp"
#include "lethe/score/step_rows.hpp"

namespace lethe {

/// Settings of GumbelMass.
struct GumbelMassConfig {
  /// tau of the first query, and of those from `rise` on; the published 1 and 2.
  float first_temperature = 1.0f;
  float last_temperature = 2.0f;
  /// T: queries over which tau rises evenly. Published is the length of the text to come; without
  /// one, the authors' code adds 0.01 a query.
  std::size_t rise = 100;
  /// Equal seeds give equal noise, on every machine.
  std::uint64_t seed = 1;
  /// As Recurrence's.
  std::size_t open_queries = 1;

  bool operator==(const GumbelMassConfig&) const = default;
};

/// Keyformer (arXiv 2403.09054): the sum over queries of softmax((x + zeta) / tau), x being logits
/// and zeta Gumbel noise. The logarithm of the mass stands for x, since they differ by a constant
/// that the softmax does not see; so does a group's mass for the mean over its heads. As in the
/// authors' code each query draws anew for each token: from a hash of seed, layer, group, query and
/// slot, so a fork draws what its parent would. Every query is a step, also those of a prompt.
/// Mass below 2^-100 counts as none, and none earns nothing. Mass that is not finite makes the
/// token's score NaN. Memory: 4 + 4 x open_queries bytes a slot and group. A query costs two
/// logarithms and a power a token.
class GumbelMass {
 public:
  using Config = GumbelMassConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "gumbel mass";

  /// Throws std::invalid_argument unless both temperatures lie from 0.01 to 1000 and rise and
  /// open_queries are at least 1.
  GumbelMass(const Config& config, const ScoreShape& shape)
      : config_(checked(config)),
        shape_(shape),
        rows_(config.open_queries, shape),
        scores_(shape.layers * shape.groups * shape.slots, 0.0f),
        shares_(shape.slots, 0.0f) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, queries_ + query + 1, first_slot, mass, Fold{*this, layer, group});
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// Sums over the queries committed, not negative. O(1), and O(n) for each open query.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float>) {
    rows_.finish(layer, group, queries_, Fold{*this, layer, group});
    return row_of(layer, group).first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    rows_.keep(plan, group);
    keep_row(row_of(plan.layer, group), plan);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    rows_.forget(layer, group, slot);
    row_of(layer, group)[slot] = 0.0f;
  }

  void reset() {
    rows_.reset();
    std::fill(scores_.begin(), scores_.end(), 0.0f);
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    const Config& own = self.config_;
    const bool first =
        detail::archive_setting(archive, std::bit_cast<std::uint32_t>(own.first_temperature));
    const bool last =
        detail::archive_setting(archive, std::bit_cast<std::uint32_t>(own.last_temperature));
    const bool rise = detail::archive_setting(archive, static_cast<std::uint64_t>(own.rise));
    if constexpr (!std::is_const_v<Self>) self.same_temperatures_ = first && last && rise;
    archive(self.config_.seed);
    archive(self.queries_);
    StepRows::archive(archive, self.rows_);
    archive(self.scores_);
  }

  [[nodiscard]] bool valid() const {
    return same_temperatures_ && queries_ >= 0 && queries_ < (std::int64_t{1} << 62) &&
           rows_.valid(queries_);
  }

 private:
  struct Fold {
    GumbelMass& owner;
    std::size_t layer;
    std::size_t group;

    void operator()(std::int64_t number, std::span<const float> mass) const {
      owner.add(layer, group, number, mass);
    }
  };

  /// What a token without mass has for a logit; a power of it is 0.
  static constexpr float none = std::numeric_limits<float>::lowest();

  [[nodiscard]] static const Config& checked(const Config& config) {
    const auto warm = [](float value) { return value >= 0.01f && value <= 1000.0f; };
    const char* remedy = "choose a temperature from 0.01 to 1000";
    detail::require(is_finite(config.first_temperature) && warm(config.first_temperature),
                    "first_temperature", config.first_temperature, remedy);
    detail::require(is_finite(config.last_temperature) && warm(config.last_temperature),
                    "last_temperature", config.last_temperature, remedy);
    detail::require(config.rise >= 1, "rise", config.rise, "choose at least 1 query");
    return config;
  }

  [[nodiscard]] std::span<float> row_of(std::size_t layer, std::size_t group) {
    return std::span(scores_).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  /// 1 / tau of a query, counted from 1.
  [[nodiscard]] LETHE_EXACT float coldness(std::int64_t query) const {
    LETHE_EXACT_BODY
    const double done = std::min(static_cast<double>(query - 1), static_cast<double>(config_.rise));
    const auto first = static_cast<double>(config_.first_temperature);
    const double rise = static_cast<double>(config_.last_temperature) - first;
    // A float between, so that no compiler fuses the product with the addition.
    const auto risen = static_cast<float>(rise * done / static_cast<double>(config_.rise));
    return static_cast<float>(1.0 / (first + static_cast<double>(risen)));
  }

  LETHE_EXACT void add(std::size_t layer, std::size_t group, std::int64_t query,
                       std::span<const float> mass) {
    LETHE_EXACT_BODY
    const std::span<float> scores = row_of(layer, group);
    const std::span<float> shares = std::span(shares_).first(mass.size());
    const float most = draw(layer, group, query, mass);
    spoil(mass, scores);
    if (!(most > none)) return;
    for (float& share : shares) share = exact_exp(share - most);
    const double factor = detail::reciprocal(detail::sum(shares));
    for (std::size_t i = 0; i < shares.size(); ++i) {
      scores[i] = scores[i] + static_cast<float>(static_cast<double>(shares[i]) * factor);
    }
  }

  /// Puts each token's noised logit over tau into shares_; returns the largest.
  [[nodiscard]] LETHE_EXACT float draw(std::size_t layer, std::size_t group, std::int64_t query,
                                       std::span<const float> mass) {
    LETHE_EXACT_BODY
    const std::uint64_t seeded = config_.seed ^ static_cast<std::uint64_t>(query);
    const std::uint64_t stream = detail::mix(detail::mix(detail::mix(seeded) ^ layer) ^ group);
    const float cold = coldness(query);
    float most = none;
    for (std::size_t i = 0; i < mass.size(); ++i) {
      const bool paid = is_finite(mass[i]) && mass[i] >= 0x1p-100f;
      shares_[i] = paid ? noised(mass[i], detail::mix(stream ^ i)) * cold : none;
      most = most < shares_[i] ? shares_[i] : most;
    }
    return most;
  }

  /// log p + zeta: zeta is -log of an exponential, -log u.
  [[nodiscard]] LETHE_EXACT static float noised(float mass, std::uint64_t word) {
    LETHE_EXACT_BODY
    // Odd multiples of 2^-24: neither 0 nor 1 is among them.
    const float uniform =
        static_cast<float>(2 * static_cast<std::int32_t>(word >> 41) + 1) * 0x1p-24f;
    const double exponential = -static_cast<double>(exact_log(uniform));
    return exact_log(static_cast<float>(static_cast<double>(mass) / exponential));
  }

  static void spoil(std::span<const float> mass, std::span<float> scores) {
    for (std::size_t i = 0; i < mass.size(); ++i) {
      const std::uint32_t nan = is_finite(mass[i]) ? 0u : 0x7FC00000u;
      scores[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(scores[i]) | nan);
    }
  }

  Config config_;
  bool same_temperatures_ = true;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  StepRows rows_;
  std::vector<float> scores_;
  /// One query's.
  std::vector<float> shares_;
};
static_assert(TokenScorer<GumbelMass>);

}  // namespace lethe

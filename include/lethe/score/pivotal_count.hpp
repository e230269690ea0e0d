/// How seldom recent queries passed a token over. Scissorhands.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lethe/compact.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/score.hpp"
#include "lethe/score/step_rows.hpp"

namespace lethe {

/// Settings of PivotalCount.
struct PivotalCountConfig {
  /// Queries that count; the published 400.
  std::size_t window = 400;
  /// As Recurrence's.
  std::size_t open_queries = 1;

  bool operator==(const PivotalCountConfig&) const = default;
};

/// Scissorhands (arXiv 2305.17118): a token is pivotal to a query that pays it no less than 1/t, t
/// being the tokens that the query sees. The score is the window less the queries in it to which
/// the token was not pivotal, so that it is a count of pivotal queries where the token has been
/// there all through the window; queries before a token count for it, as published. Every query is
/// a step, also those of a prompt. A group's mass is compared with its mean over the tokens, which
/// is 1/t for each of its heads. Mass that is not finite makes the token's score NaN. Memory: a bit
/// a query, and 4 x open_queries bytes, a slot and group: a count that slides cannot forget with
/// less.
class PivotalCount {
 public:
  using Config = PivotalCountConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "pivotal count";

  /// Throws std::invalid_argument when window or open_queries is 0, or memory would exceed 2^48
  /// bytes.
  PivotalCount(const Config& config, const ScoreShape& shape)
      : window_(checked(config.window, shape)),
        words_(config.window / word_bits + 1),
        shape_(shape),
        rows_(config.open_queries, shape),
        newest_(shape.layers * shape.groups, 0),
        passed_over_(newest_.size() * words_ * shape.slots, 0),
        counts_(shape.slots, 0) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, queries_ + query + 1, first_slot, mass, fold_into(layer, group));
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// From 0 to window; those beyond 2^24 are rounded. O(n x window / 32), and O(n) for each open
  /// query.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::size_t index = layer * shape_.groups + group;
    rows_.finish(layer, group, queries_, fold_into(layer, group));
    move_window(index, queries_);
    count(index, positions.size());
    const std::span<const std::uint32_t> marks = row_of(index, window_ / word_bits);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const float score = static_cast<float>(window_ - counts_[i]);
      const std::uint32_t nan = (marks[i] & mask_of(window_)) != 0 ? 0x7FC00000u : 0u;
      scratch[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(score) | nan);
    }
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    rows_.keep(plan, group);
    for (std::size_t word = 0; word < words_; ++word) {
      const std::span<std::uint32_t> row = row_of(plan.layer * shape_.groups + group, word);
      compact(row, plan);
      const auto gone = row.subspan(plan.kept.size(), plan.tokens - plan.kept.size());
      std::fill(gone.begin(), gone.end(), 0u);
    }
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    rows_.forget(layer, group, slot);
    for (std::size_t word = 0; word < words_; ++word) {
      row_of(layer * shape_.groups + group, word)[slot] = 0;
    }
  }

  void reset() {
    rows_.reset();
    std::fill(newest_.begin(), newest_.end(), 0);
    std::fill(passed_over_.begin(), passed_over_.end(), 0u);
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    [[maybe_unused]] const bool same =
        detail::archive_setting(archive, static_cast<std::uint64_t>(self.window_));
    if constexpr (!std::is_const_v<Self>) self.same_window_ = same;
    archive(self.queries_);
    StepRows::archive(archive, self.rows_);
    archive(self.newest_);
    archive(self.passed_over_);
  }

  [[nodiscard]] bool valid() const {
    const bool countable = queries_ >= 0 && queries_ < (std::int64_t{1} << 62);
    return same_window_ && countable && rows_.valid(queries_) &&
           std::all_of(newest_.begin(), newest_.end(),
                       [this](std::int64_t query) { return query >= 0 && query <= queries_; });
  }

 private:
  struct Fold {
    PivotalCount& owner;
    std::size_t index;

    void operator()(std::int64_t number, std::span<const float> mass) const {
      owner.mark(index, number, mass);
    }
  };

  static constexpr std::size_t word_bits = 32;

  [[nodiscard]] static std::size_t checked(std::size_t window, const ScoreShape& shape) {
    const std::size_t rows = std::max<std::size_t>(1, shape.layers * shape.groups * shape.slots);
    detail::require(window >= 1 && window <= (std::size_t{1} << 48) / rows, "window", window,
                    "choose at least 1 query, and window x layers x groups x slots within 2^48");
    return window;
  }

  [[nodiscard]] static std::uint32_t mask_of(std::size_t bit) {
    return std::uint32_t{1} << bit % word_bits;
  }

  /// One word of each slot.
  [[nodiscard]] std::span<std::uint32_t> row_of(std::size_t index, std::size_t word) {
    return std::span(passed_over_).subspan((index * words_ + word) * shape_.slots, shape_.slots);
  }

  [[nodiscard]] Fold fold_into(std::size_t layer, std::size_t group) {
    return {*this, layer * shape_.groups + group};
  }

  /// The bit that stands for a query; its place comes round again after a window.
  [[nodiscard]] std::size_t bit_of(std::int64_t query) const {
    return static_cast<std::size_t>(static_cast<std::uint64_t>(query) % window_);
  }

  /// Clears the bits of queries that leave the window when `query` enters it.
  void move_window(std::size_t index, std::int64_t query) {
    const auto window = static_cast<std::int64_t>(window_);
    for (std::int64_t q = std::max(newest_[index], query - window) + 1; q <= query; ++q) {
      const std::uint32_t others = ~mask_of(bit_of(q));
      for (std::uint32_t& word : row_of(index, bit_of(q) / word_bits)) word &= others;
    }
    newest_[index] = std::max(newest_[index], query);
  }

  /// A product of a float and a count is exact in double, so equal tokens are never passed over.
  LETHE_EXACT void mark(std::size_t index, std::int64_t query, std::span<const float> mass) {
    LETHE_EXACT_BODY
    move_window(index, query);
    if (query + static_cast<std::int64_t>(window_) <= newest_[index]) return;
    const double sum = detail::sum(mass);
    const auto tokens = static_cast<double>(mass.size());
    const std::span<std::uint32_t> row = row_of(index, bit_of(query) / word_bits);
    const std::uint32_t bit = mask_of(bit_of(query));
    for (std::size_t i = 0; i < mass.size(); ++i) {
      row[i] |= static_cast<double>(mass[i]) * tokens < sum ? bit : 0u;
    }
    spoil(row_of(index, window_ / word_bits), mass);
  }

  /// The bit behind the window's stands for mass that was not finite.
  void spoil(std::span<std::uint32_t> row, std::span<const float> mass) const {
    for (std::size_t i = 0; i < mass.size(); ++i) {
      row[i] |= is_finite(mass[i]) ? 0u : mask_of(window_);
    }
  }

  void count(std::size_t index, std::size_t tokens) {
    std::fill_n(counts_.begin(), tokens, 0u);
    for (std::size_t word = 0; word < words_; ++word) {
      const std::uint32_t used = word + 1 < words_ ? ~0u : mask_of(window_) - 1u;
      const std::span<const std::uint32_t> row = row_of(index, word);
      for (std::size_t i = 0; i < tokens; ++i) {
        counts_[i] += static_cast<std::uint32_t>(std::popcount(row[i] & used));
      }
    }
  }

  std::size_t window_;
  bool same_window_ = true;
  std::size_t words_;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  StepRows rows_;
  /// The last query that has a bit, of each layer and group.
  std::vector<std::int64_t> newest_;
  /// A bit a query, 32 of a slot's in a word; the words of a layer's slots lie side by side.
  std::vector<std::uint32_t> passed_over_;
  std::vector<std::uint32_t> counts_;
};
static_assert(TokenScorer<PivotalCount>);

}  // namespace lethe

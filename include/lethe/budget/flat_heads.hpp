/// The heads of a layer compete for its tokens, so that each keeps as many as it has good ones.
/// AdaKV, and the head budgets of LAVa.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of FlatHeads.
template <class Inner>
struct FlatHeadsConfig {
  /// Of what a head keeps on average.
  typename Inner::Config budget{};
  /// Share of its even part that a head's own best tokens fill before heads compete; AdaKV's alpha,
  /// 0.2 in NVIDIA's kvpress, which its author reviewed.
  float safeguard = 0.2f;
  /// Share of a head's count that is the even part, the rest what it won; LAVa's 0.5, without a
  /// safeguard. AdaKV has none.
  float even_share = 0.0f;

  bool operator==(const FlatHeadsConfig&) const = default;
};

/// Gives a layer what Inner says for its mean head, and shares that over the heads: the best tokens
/// of all heads together stay (AdaKV, arXiv 2407.11550), protected tokens and each head's
/// safeguarded ones among them; LAVa (arXiv 2509.09754) then moves the counts towards even parts.
/// An even part is the total over the heads, less the head's protected tokens. Of equal scores, and
/// of safeguarded tokens where they are too many, the older token's head gets it, then the lower
/// head. Counts add up to the total exactly.
template <BudgetAllocator Inner>
class FlatHeads : public Inner {
 public:
  using Config = FlatHeadsConfig<Inner>;

  /// Throws std::invalid_argument unless both shares are from 0 to 1, or as Inner does.
  explicit FlatHeads(const Config& config)
      : Inner(config.budget),
        safeguard_(checked("safeguard", config.safeguard)),
        even_share_(checked("even_share", config.even_share)) {}

  /// scratch: twice as many entries as there are keys, and one more. O(heads^2 + keys), and
  /// O(heads x keys) where ceilings bind.
  void share(std::span<HeadShare> heads, std::size_t total,
             std::span<std::uint32_t> scratch) const {
    std::size_t open = total;
    for (HeadShare& head : heads) {
      open -= std::min(open, head.protected_tokens);
      head.ceiling = std::max(head.protected_tokens,
                              std::min(head.ceiling, head.protected_tokens + head.keys.size()));
      const std::size_t mean = total / heads.size();
      safeguard(head, mean - std::min(mean, head.protected_tokens), scratch);
    }
    compete(heads, open, scratch);
    if (even_share_ > 0) blend(heads, open);
    for (HeadShare& head : heads) head.tokens += head.protected_tokens;
  }

 private:
  [[nodiscard]] static double checked(const char* field, float share) {
    detail::require(share >= 0.0f && share <= 1.0f, field, share, "choose a share from 0 to 1");
    return static_cast<double>(share);
  }

  /// Tokens that a head may keep beside its protected ones.
  [[nodiscard]] static std::size_t room_of(const HeadShare& head) {
    return head.ceiling - head.protected_tokens;
  }

  /// Puts a head's best tokens above every other.
  LETHE_EXACT void safeguard(HeadShare& head, std::size_t even,
                             std::span<std::uint32_t> scratch) const {
    LETHE_EXACT_BODY
    // A float holds 0.7 as a little less: 70% of 10 tokens must be 7.
    const double share = safeguard_ * (1 + 1e-7) * static_cast<double>(even);
    const std::size_t count = std::min(static_cast<std::size_t>(share), room_of(head));
    if (count == 0) return;
    Cut cut = find_cut(head.keys, count, scratch);
    for (std::uint32_t& key : head.keys) {
      const bool tie = key == cut.key && cut.ties != 0;
      if (tie) --cut.ties;
      if (tie || key > cut.key) key = protected_key;
    }
  }

  /// Sets each head's tokens to how many of its keys are among the best `open` of all, heads that
  /// reach their ceilings leaving the rest to the others.
  static void compete(std::span<HeadShare> heads, std::size_t open,
                      std::span<std::uint32_t> scratch) {
    for (HeadShare& head : heads) head.tokens = 0;
    for (bool capped = true; capped;) {
      count_best(heads, open, scratch);
      capped = false;
      for (HeadShare& head : heads) {
        if (head.keys.empty() || head.tokens <= room_of(head)) continue;
        // Done with: its keys leave the competition, its tokens the total.
        head.tokens = room_of(head);
        head.keys = {};
        open -= head.tokens;
        capped = true;
      }
    }
  }

  static void count_best(std::span<HeadShare> heads, std::size_t open,
                         std::span<std::uint32_t> scratch) {
    std::size_t count = 0;
    for (HeadShare& head : heads) {
      if (head.keys.empty()) continue;
      head.tokens = 0;
      std::copy(head.keys.begin(), head.keys.end(), scratch.subspan(count).begin());
      count += head.keys.size();
    }
    open = std::min(open, count);
    if (open == 0) return;
    const Cut cut = find_cut(scratch.first(count), open, scratch.subspan(count));
    for (HeadShare& head : heads) {
      head.tokens += static_cast<std::size_t>(std::count_if(
          head.keys.begin(), head.keys.end(), [&](std::uint32_t key) { return key > cut.key; }));
    }
    add_ties(heads, cut, scratch);
  }

  /// Counts the oldest of the tokens whose key is the cut's; of one position, those of lower heads.
  static void add_ties(std::span<HeadShare> heads, Cut cut, std::span<Position> scratch) {
    std::size_t found = 0;
    for_each_tie(heads, cut, [&](HeadShare&, Position position) { scratch[found++] = position; });
    Position* const nth = scratch.data() + cut.ties - 1;
    std::nth_element(scratch.data(), nth, scratch.data() + found);
    const Position last = *nth;
    for_each_tie(heads, cut, [&](HeadShare& head, Position position) {
      if (position < last) ++head.tokens, --cut.ties;
    });
    for_each_tie(heads, cut, [&](HeadShare& head, Position position) {
      if (position == last && cut.ties != 0) ++head.tokens, --cut.ties;
    });
  }

  template <class Visit>
  static void for_each_tie(std::span<HeadShare> heads, const Cut& cut, Visit&& visit) {
    for (HeadShare& head : heads) {
      for (std::size_t i = 0; i < head.keys.size(); ++i) {
        if (head.keys[i] == cut.key) visit(head, head.positions[i]);
      }
    }
  }

  /// Moves the counts towards even ones, cut to whole tokens; the rest by largest remainder, of
  /// equal ones the lower head's.
  // Not share_total: it would scale all claims to fill what a ceiling leaves, where the remainder
  // alone decides here.
  LETHE_EXACT void blend(std::span<HeadShare> heads, std::size_t open) const {
    LETHE_EXACT_BODY
    const double even =
        even_share_ * (static_cast<double>(open) / static_cast<double>(heads.size()));
    for (HeadShare& head : heads) {
      head.claim = LETHE_PRODUCT(1 - even_share_, static_cast<double>(head.tokens)) + even;
      head.tokens = std::min(static_cast<std::size_t>(head.claim), room_of(head));
      open -= std::min(open, head.tokens);
    }
    for (; open != 0; --open) {
      HeadShare* const next = next_in_line(heads);
      if (next == nullptr) return;
      ++next->tokens;
    }
  }

  [[nodiscard]] LETHE_EXACT static HeadShare* next_in_line(std::span<HeadShare> heads) {
    LETHE_EXACT_BODY
    HeadShare* best = nullptr;
    float largest = 0;
    for (HeadShare& head : heads) {
      // A float, so that claims which differ by their rounding alone are equal.
      const auto remainder = static_cast<float>(head.claim - static_cast<double>(head.tokens));
      const bool fits = head.tokens < room_of(head);
      if (!fits || (best != nullptr && remainder <= largest)) continue;
      largest = remainder;
      best = &head;
    }
    return best;
  }

  double safeguard_;
  double even_share_;
};
static_assert(HeadBudgetAllocator<FlatHeads<UniformBudget>>);

}  // namespace lethe

/// Runs a pruner and the naive one side by side over a random trace and compares them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "naive/pruner.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"
#include "naive/trace_setup.hpp"

namespace naive {

template <class Pruner, unsigned Features>
class Trace {
 public:
  using Cache = TokenCache<Features>;
  static constexpr bool sized = (Features & with_bytes) != 0;

  Trace(const TraceSetup& setup, Pruner pruner)
      : setup_(setup),
        pruner_(std::move(pruner)),
        cache_(setup.config.layers, cache_heads(setup.config)),
        sets_(setup.config.layers, std::vector<KeptSet>(kept_sets())),
        since_(setup.config.layers, 0),
        random_(setup.seed * 31 + 7) {
    cache_.states = setup.states;
    if (!setup.bytes.empty()) cache_.bytes = setup.bytes;
    cache_.block = setup.block;
    cache_.classes = setup.classes;
  }

  void run() {
    for (step_ = 0; step_ < setup_.steps; ++step_) {
      const std::size_t tokens = draw_tokens();
      disturb(tokens);
      check_scores();
      look(tokens);
      const std::size_t dropped = pruner_.make_room(
          cache_, tokens, [&](const lethe::RoundStatistics& row) { rows_.push_back(row); });
      check_round(tokens, dropped);
      append(tokens);
      attend(tokens);
      pruner_.commit();
      check_positions();
    }
  }

  std::size_t rounds = 0;
  std::size_t guarded = 0;
  std::size_t totals = 0;
  std::size_t overwritten = 0;
  std::size_t postponed = 0;

 private:
  [[nodiscard]] static std::size_t cache_heads(const lethe::PrunerConfig& config) {
    return config.scope == lethe::Scope::head ? config.groups : 2;
  }
  [[nodiscard]] std::size_t kept_sets() const {
    return setup_.config.scope == lethe::Scope::head ? setup_.config.groups : 1;
  }
  [[nodiscard]] std::size_t layers() const { return setup_.config.layers; }
  [[nodiscard]] bool sequence() const { return setup_.config.scope == lethe::Scope::sequence; }

  void expect(bool holds, const char* what, std::size_t layer = 0) const {
    if (!holds) complain(what, step_, layer);
  }

  [[nodiscard]] std::size_t draw_tokens() {
    std::size_t most = setup_.chunk;
    for (std::size_t l = 0; l < layers(); ++l) most = std::min(most, setup_.bound(l, sized) / 2);
    return random_.between(1, std::max<std::size_t>(1, most));
  }

  /// Pins a prompt, makes layers busy that need not move now.
  void disturb(std::size_t tokens) {
    if (setup_.pins && random_.chance(4)) {
      pinned_ = random_.below(setup_.config.capacity / 4);
      pruner_.pin(pinned_);
    }
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l) || (Features & with_state) == 0) continue;
      const bool may = pruner_.size(l) + tokens <= pruner_.bound(l) && !has_total();
      cache_.states[l] =
          may && random_.chance(10) ? lethe::LayerState::busy : lethe::LayerState::prunable;
    }
  }

  [[nodiscard]] bool has_total() const {
    return setup_.config.total_capacity != 0 || setup_.config.total_bytes != 0;
  }

  void check_scores() {
    if (setup_.drawn_scores) return;
    for (std::size_t l = 0; l < layers(); ++l) {
      for (std::size_t set = 0; setup_.tracked(l) && set < kept_sets(); ++set)
        compare_scores(l, set);
    }
  }

  /// The pruner's scores may be on another scale.
  void compare_scores(std::size_t layer, std::size_t set) {
    const std::span<const float> scores = pruner_.scores(layer, set);
    const std::size_t groups = kept_sets() == 1 ? setup_.config.groups : 1;
    const std::vector<double> wanted = sets_[layer][set].scores(setup_.score, groups);
    expect(scores.size() == wanted.size(), "one score a token", layer);
    const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
    const double all = std::accumulate(wanted.begin(), wanted.end(), 0.0);
    expect(sum > 0 || !(all > 0), "scores are zero together", layer);
    if (!(all > 1e-30)) return;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const double share = static_cast<double>(scores[i]) / sum;
      expect(std::abs(share - wanted[i] / all) <= 1e-5 * (wanted[i] / all) + 1e-7, "score", layer);
    }
  }

  void look(std::size_t tokens) {
    views_.assign(layers(), View{});
    rows_.clear();
    for (std::size_t l = 0; l < layers(); ++l) {
      if (setup_.tracked(l)) views_[l] = look_at(l, tokens);
    }
    if (sequence()) look_at_all(tokens);
  }

  [[nodiscard]] View look_at(std::size_t layer, std::size_t tokens) {
    View view;
    view.bound = setup_.bound(layer, sized);
    view.threshold = pruner_.threshold(layer);
    view.due =
        setup_.round.due(pruner_.size(layer), tokens, view.bound, view.threshold, since_[layer]);
    for (std::size_t set = 0; set < kept_sets(); ++set) {
      Selection selection;
      for (const float score : pruner_.scores(layer, set))
        selection.scores.push_back(double(score));
      for (const Token& token : sets_[layer][set].tokens) {
        selection.positions.push_back(token.position);
      }
      selection.prefix_end = prefix_end(layer, set);
      view.verdicts.push_back(examine(setup_.round, selection, tokens, view.bound));
      selection.recent = view.verdicts.back().recent;
      view.sets.push_back(selection);
    }
    if (kept_sets() != 1) view.protect_alike(setup_.round);
    return view;
  }

  [[nodiscard]] std::uint32_t prefix_end(std::size_t layer, std::size_t set) const {
    std::uint32_t end = static_cast<std::uint32_t>(std::max(setup_.first_tokens, pinned_));
    const std::size_t shared = (Features & with_shared_prefix) != 0 ? cache_.shared[layer] : 0;
    for (std::size_t i = 0; i < shared && i < sets_[layer][set].tokens.size(); ++i) {
      end = std::max(end, sets_[layer][set].tokens[i].position + 1);
    }
    return end;
  }

  /// One kept set for all layers: each layer's scores are normalised, then summed.
  void look_at_all(std::size_t tokens) {
    Selection all;
    bool due = false;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      const Selection& one = views_[l].sets[0];
      due = due || views_[l].due;
      all.positions = one.positions;
      all.prefix_end = std::max(all.prefix_end, one.prefix_end);
      all.scores.resize(one.scores.size(), 0.0);
      const double sum = std::accumulate(one.scores.begin(), one.scores.end(), 0.0);
      for (std::size_t i = 0; i < one.scores.size(); ++i) {
        const float share = static_cast<float>(one.scores[i] * (sum > 0 ? 1.0 / sum : 0.0));
        all.scores[i] = double(static_cast<float>(all.scores[i]) + share);
      }
    }
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      views_[l].due = due;
      views_[l].verdicts = {examine(setup_.round, all, tokens, views_[l].bound)};
      all.recent = views_[l].verdicts[0].recent;
      views_[l].sets = {all};
    }
  }

  [[nodiscard]] bool over_total(std::size_t tokens) const {
    std::size_t count = 0;
    std::size_t bytes = 0;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      count += sets_[l][0].tokens.size() + tokens;
      bytes += (sets_[l][0].tokens.size() + tokens) * (sized ? setup_.bytes[l] : 1);
    }
    return (setup_.config.total_capacity != 0 && count > setup_.config.total_capacity) ||
           (setup_.config.total_bytes != 0 && bytes > setup_.config.total_bytes);
  }

  void check_round(std::size_t tokens, std::size_t dropped) {
    const bool total_due = over_total(tokens);
    std::size_t all_dropped = 0;
    std::size_t moved = 0;
    std::size_t movers = 0;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      const std::size_t before = sets_[l][0].tokens.size();
      check_layer(l, tokens, total_due);
      all_dropped += before - held(l);
      if (held(l) != before && before + tokens <= views_[l].bound) {
        moved += (held(l) - views_[l].sets[0].prefix_tokens()) * setup_.bytes[l];
        ++movers;
      }
      expect(held(l) + tokens <= pruner_.bound(l), "make_room makes room", l);
      expect(pruner_.bound(l) == views_[l].bound, "the bound is the configured one", l);
    }
    expect(all_dropped == dropped, "make_room returns what it dropped");
    if (setup_.config.max_move_bytes != 0 && !total_due && !sequence()) {
      expect(moved <= setup_.config.max_move_bytes || movers == 1, "moves within max_move_bytes");
    }
    check_totals(tokens, total_due);
  }

  [[nodiscard]] std::size_t held(std::size_t layer) const {
    return cache_.size(layer) - (cache_.vacant(layer) != Cache::none ? 1u : 0u);
  }

  [[nodiscard]] const lethe::RoundStatistics* row_of(std::size_t layer) const {
    for (const auto& row : rows_) {
      if (row.layer == layer) return &row;
    }
    return nullptr;
  }

  void check_layer(std::size_t layer, std::size_t tokens, bool total_due) {
    const View& view = views_[layer];
    const lethe::RoundStatistics* row = row_of(layer);
    const std::size_t before = sets_[layer][0].tokens.size();
    expect((row != nullptr) == (view.due || total_due), "examined when due", layer);
    if (row == nullptr) {
      expect(held(layer) == before, "nothing happens out of turn", layer);
      return;
    }
    ++rounds;
    check_row(layer, *row, before);
    if (!total_due && !waits(*row)) check_count(layer, *row, tokens);
    if (waits(*row)) expect(held(layer) == before, "a layer that waits keeps all", layer);
    for (std::size_t set = 0; set < kept_sets(); ++set) keep(layer, set);
    if (!waits(*row)) since_[layer] = 0;
    const bool free = row->outcome == lethe::Outcome::pruned && held(layer) > row->tokens_protected;
    expect((Features & with_classes) == 0 || !free || permitted(layer),
           "counts are permitted ones");
    guarded += row->outcome == lethe::Outcome::guarded ? 1u : 0u;
    postponed += row->outcome == lethe::Outcome::postponed ? 1u : 0u;
  }

  [[nodiscard]] bool permitted(std::size_t layer) const {
    return setup_.round.permitted(held(layer), held(layer)) == held(layer);
  }

  [[nodiscard]] static bool waits(const lethe::RoundStatistics& row) {
    return row.outcome == lethe::Outcome::busy || row.outcome == lethe::Outcome::postponed;
  }

  void check_row(std::size_t layer, const lethe::RoundStatistics& row, std::size_t before) const {
    expect(row.tokens_before == before, "tokens_before", layer);
    expect(row.tokens_after == held(layer), "tokens_after", layer);
    expect(row.tokens_seen == seen_, "tokens_seen", layer);
    expect(row.threshold == pruner_.threshold(layer), "threshold", layer);
    expect(row.lost_mass >= 0 && row.lost_mass <= 1, "lost_mass is a share", layer);
    expect(row.sparsity >= 0 && row.sparsity <= 1, "sparsity is a share", layer);
    const bool pruned =
        row.outcome == lethe::Outcome::pruned || row.outcome == lethe::Outcome::guarded;
    const bool dropped = held(layer) < before;
    expect(dropped ? pruned : row.outcome != lethe::Outcome::pruned, "outcome", layer);
    const bool busy = cache_.states[layer] == lethe::LayerState::busy;
    expect(sequence() || (row.outcome == lethe::Outcome::busy) == busy, "busy", layer);
    const bool doubled =
        row.outcome == lethe::Outcome::spread_out && before >= views_[layer].threshold;
    const std::size_t threshold = doubled
                                      ? std::min(2 * views_[layer].threshold, views_[layer].bound)
                                      : views_[layer].threshold;
    expect(row.threshold == threshold, "the trigger doubles when spread out", layer);
  }

  /// How many tokens a layer keeps, where no total interferes.
  void check_count(std::size_t layer, const lethe::RoundStatistics& row, std::size_t tokens) {
    const View& view = views_[layer];
    const Verdict* most = &view.verdicts[0];
    for (const Verdict& verdict : view.verdicts) {
      if (verdict.tokens > most->tokens) most = &verdict;
    }
    const std::size_t before = sets_[layer][0].tokens.size();
    if (most->tokens < before && row.outcome == lethe::Outcome::guarded) {
      return check_guard(view, held(layer), most->tokens, std::min(before, view.bound - tokens));
    }
    CAPTURE(held(layer), most->tokens, most->protected_tokens, row.tokens_protected, before);
    expect(held(layer) == most->tokens, "the kept count is the naive one", layer);
    expect((row.outcome == lethe::Outcome::spread_out) == most->spread_out, "spread out", layer);
    expect(row.tokens_protected == most->protected_tokens || kept_sets() != 1, "tokens_protected",
           layer);
    if (most->tokens >= before) return;
    const double lost = view.lost_share(held(layer));
    CAPTURE(lost, row.lost_mass);
    const std::size_t hard = std::min(before, view.bound - tokens);
    const bool most_kept = held(layer) >= setup_.round.permitted(hard, hard);
    expect(lost <= double(setup_.config.max_lost_mass) + 1e-6 || setup_.drawn_scores || most_kept,
           "max_lost_mass holds", layer);
    expect(setup_.drawn_scores || std::abs(lost - row.lost_mass) < 1e-6 || kept_sets() != 1,
           "lost_mass", layer);
  }

  void check_guard(const View& view, std::size_t count, std::size_t own, std::size_t hard) const {
    const double most = double(setup_.config.max_lost_mass);
    const auto permitted = [&](std::size_t n) {
      return std::max(n, setup_.round.permitted(n, hard));
    };
    const std::size_t limit = std::max(own, setup_.round.permitted(hard, hard));
    expect(count > own, "a guarded round keeps more");
    expect(count <= limit, "a guarded round stays within the bound");
    expect(count == limit || view.lost_share(count) <= most + 1e-6, "the guard holds");
    std::size_t fewer = count - 1;
    while (fewer > own && permitted(fewer) == count) --fewer;
    expect(view.lost_share(fewer) > most - 1e-6, "the guard keeps no more than it must");
  }

  /// The kept set is the naive one's, and the model follows it.
  void keep(std::size_t layer, std::size_t set) {
    std::vector<Token>& tokens = sets_[layer][set].tokens;
    const std::vector<std::size_t> best = views_[layer].sets[set].positions.empty()
                                              ? std::vector<std::size_t>{}
                                              : best_of(layer, set);
    if (cache_.vacant(layer) != Cache::none) {
      ++overwritten;
      expect(std::find(best.begin(), best.end(), cache_.vacant(layer)) == best.end(),
             "the overwritten token is the worst", layer);
      return;
    }
    std::vector<Token> kept;
    for (const std::size_t slot : best) kept.push_back(tokens[slot]);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      expect(pruner_.positions(layer, set)[i] == kept[i].position, "the best tokens stay", layer);
    }
    tokens = kept;
  }

  /// Recents give way to a total.
  [[nodiscard]] std::vector<std::size_t> best_of(std::size_t layer, std::size_t set) {
    Selection selection = views_[layer].sets[set];
    const std::size_t safe = row_of(layer)->tokens_protected;
    selection.recent = std::min(selection.recent, safe - selection.prefix_tokens());
    return selection.best(held(layer));
  }

  void check_totals(std::size_t tokens, bool total_due) {
    std::size_t count = 0;
    std::size_t bytes = 0;
    std::size_t wanted = 0;
    std::size_t tracked = 0;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      ++tracked;
      count += held(l) + tokens;
      bytes += (held(l) + tokens) * (sized ? setup_.bytes[l] : 1);
      for (const Verdict& verdict : views_[l].verdicts) wanted += verdict.tokens;
    }
    if (setup_.config.total_bytes != 0) {
      expect(bytes <= setup_.config.total_bytes, "the total in bytes holds");
    }
    if (setup_.config.total_capacity == 0) return;
    expect(count <= setup_.config.total_capacity, "the total holds");
    if (total_due) check_total_sum(count - tracked * tokens, wanted, tracked * tokens);
  }

  /// The layers' own wishes, or what the total leaves after the step and its slack: no less.
  void check_total_sum(std::size_t kept, std::size_t wanted, std::size_t step) {
    ++totals;
    const std::size_t total = setup_.config.total_capacity;
    const bool rounded = (Features & (with_classes | with_overwrite)) != 0 || sequence() ||
                         setup_.config.total_bytes != 0 || kept_sets() != 1 ||
                         setup_.config.max_lost_mass < 1.0f;
    if (rounded) return;
    std::size_t floors = 0;
    for (const View& view : views_) {
      for (const Selection& set : view.sets) floors += set.prefix_tokens();
    }
    const std::size_t room = total - std::min(total, step + setup_.round.slack(total));
    const std::size_t exact = wanted + step <= total ? wanted : std::max(room, floors);
    CAPTURE(kept, exact);
    expect(kept == exact, "the total is shared out to the last token");
  }

  void append(std::size_t tokens) {
    std::vector<std::uint32_t> ids(tokens);
    std::iota(ids.begin(), ids.end(), static_cast<std::uint32_t>(seen_));
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      const std::size_t vacant = cache_.vacant(l);
      for (KeptSet& set : sets_[l]) {
        if (vacant != Cache::none) set.tokens[vacant] = {};
        std::size_t next = vacant != Cache::none ? 1 : 0;
        if (next == 1) set.tokens[vacant].position = ids[0];
        for (; next < ids.size(); ++next) set.tokens.push_back({ids[next], {}, {}});
      }
      cache_.append(l, ids);
      since_[l] += tokens;
    }
    seen_ += tokens;
  }

  void attend(std::size_t tokens) {
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l) && random_.chance(50)) continue;
      const std::size_t columns = setup_.tracked(l) ? cache_.size(l) : tokens;
      attend_layer(l, tokens, columns);
    }
  }

  void attend_layer(std::size_t layer, std::size_t tokens, std::size_t columns) {
    const std::size_t groups = setup_.config.groups;
    std::vector<float> rows(groups * tokens * columns);
    for (float& value : rows) value = draw_mass(random_);
    std::vector<std::vector<std::vector<double>>> paid(tokens);
    for (std::size_t q = 0; q < tokens; ++q) {
      const std::size_t limit = columns - tokens + q + 1;
      for (std::size_t g = 0; g < groups; ++g) {
        float* row = rows.data() + (g * tokens + q) * columns;
        paid[q].emplace_back(row, row + limit);
        // Beyond the causal limit nothing may be read.
        std::fill(row + limit, row + columns, std::numeric_limits<float>::quiet_NaN());
      }
    }
    pruner_.observe(
        layer, lethe::Mass<float>{
                   .data = rows.data(), .groups = groups, .queries = tokens, .columns = columns});
    if (setup_.tracked(layer)) pay(layer, paid);
  }

  void pay(std::size_t layer, const std::vector<std::vector<std::vector<double>>>& paid) {
    for (const auto& mass : paid) {
      for (std::size_t set = 0; set < kept_sets(); ++set) {
        sets_[layer][set].pay(setup_.score, kept_sets() == 1 ? mass : decltype(mass){mass[set]});
      }
    }
  }

  void check_positions() const {
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      expect(cache_.size(l) == pruner_.size(l), "sizes agree", l);
      expect(pruner_.size(l) <= pruner_.bound(l), "the bound holds", l);
      for (std::size_t head = 0; head < cache_heads(setup_.config); ++head) check_rows(l, head);
    }
    expect(pruner_.tokens_seen() == seen_, "tokens_seen counts the tokens");
  }

  void check_rows(std::size_t layer, std::size_t head) const {
    const auto positions = pruner_.positions(layer, kept_sets() == 1 ? 0 : head);
    const std::vector<Row>& rows = cache_.rows(layer, head);
    expect(rows.size() == positions.size(), "one row a token", layer);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      expect(rows[i] == Row{positions[i], positions[i]}, "rows travel with positions", layer);
      if (cache_.overwrites == 0 && i != 0) {
        expect(positions[i - 1] < positions[i], "positions ascend", layer);
      }
    }
    check_protected(layer, head);
  }

  void check_protected(std::size_t layer, std::size_t head) const {
    const auto positions = pruner_.positions(layer, kept_sets() == 1 ? 0 : head);
    const std::size_t end = std::min(setup_.first_tokens, seen_);
    for (std::size_t p = 0; p < end; ++p) {
      const auto found = std::find(positions.begin(), positions.end(), p);
      expect(found != positions.end(), "first tokens stay", layer);
    }
  }

  TraceSetup setup_;
  Pruner pruner_;
  Cache cache_;
  std::vector<std::vector<KeptSet>> sets_;
  std::vector<std::size_t> since_;
  Random random_;
  std::vector<View> views_;
  std::vector<lethe::RoundStatistics> rows_;
  std::size_t seen_ = 0;
  std::size_t step_ = 0;
  std::size_t pinned_ = 0;
};

}  // namespace naive

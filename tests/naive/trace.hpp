/// Runs a pruner and the naive one side by side over a random trace and compares them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "naive/pruner.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"
#include "naive/totals.hpp"
#include "naive/trace_setup.hpp"
#include "naive/trace_world.hpp"

namespace naive {

template <class Pruner, unsigned Features>
class Trace : TraceWorld<Pruner, Features> {
  using World = TraceWorld<Pruner, Features>;
  using typename World::Cache;
  using World::cache_, World::pinned_, World::pruner_, World::random_, World::seen_, World::sets_,
      World::setup_, World::since_, World::sized;
  using World::held, World::kept_sets, World::layers, World::sequence;

 public:
  Trace(const TraceSetup& setup, Pruner pruner) : World(setup, std::move(pruner)) {}

  void run() {
    for (step_ = 0; step_ < setup_.steps; ++step_) {
      const std::size_t tokens = this->draw_tokens();
      this->disturb(tokens);
      check_scores();
      look(tokens);
      if (Totals(setup_, views_, tokens).refused()) {
        check_refusal(tokens);
        this->calm();
        look(tokens);
      }
      Totals totals(setup_, views_, tokens);
      const std::size_t dropped = pruner_.make_room(
          cache_, tokens, [&](const lethe::RoundStatistics& row) { rows_.push_back(row); });
      check_round(totals, tokens, dropped);
      this->take_step(tokens, this->draw_accepted(tokens));
      check_positions();
    }
  }

  Tally tally;

 private:
  void expect(bool holds, const char* what, std::size_t layer = 0) const {
    if (!holds) complain(what, step_, layer);
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
    bool due = false;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (setup_.tracked(l)) views_[l] = look_at(l, tokens);
      due = due || views_[l].due;
    }
    if (sequence()) look_at_all(tokens);
    for (std::size_t l = 0; l < layers(); ++l) {
      if (setup_.tracked(l) && (sequence() || setup_.round.shared_total != 0)) views_[l].due = due;
    }
  }

  [[nodiscard]] View look_at(std::size_t layer, std::size_t tokens) {
    View view;
    view.bound = setup_.bound(layer, sized);
    view.before = sets_[layer][0].tokens.size();
    view.threshold = pruner_.threshold(layer);
    view.busy = cache_.states[layer] == lethe::LayerState::busy;
    view.due =
        setup_.round.due(pruner_.size(layer), tokens, view.bound, view.threshold, since_[layer]);
    for (std::size_t set = 0; set < kept_sets(); ++set) {
      Selection selection;
      selection.layer = layer;
      for (const float score : pruner_.scores(layer, set))
        selection.scores.push_back(double(score));
      for (const Token& token : sets_[layer][set].tokens) {
        selection.positions.push_back(token.position);
      }
      selection.prefix_end = prefix_end(layer, set);
      view.verdicts.push_back(examine(setup_.round, selection, tokens, view.bound));
      if (setup_.round.weight) {
        const double weight = setup_.round.weight(selection);
        view.weight = set == 0 ? weight : std::max(view.weight, weight);
      }
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
    bool busy = false;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      const Selection& one = views_[l].sets[0];
      busy = busy || views_[l].busy;
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
      views_[l].busy = busy;
      views_[l].verdicts = {examine(setup_.round, all, tokens, views_[l].bound)};
      all.recent = views_[l].verdicts[0].recent;
      views_[l].sets = {all};
    }
  }

  /// Too little can go: nothing moves.
  void check_refusal(std::size_t tokens) {
    ++tally.refused;
    REQUIRE_THROWS_AS(pruner_.make_room(cache_, tokens), std::length_error);
    for (std::size_t l = 0; l < layers(); ++l) {
      if (setup_.tracked(l)) expect(held(l) == views_[l].before, "a refusal moves nothing", l);
    }
  }

  void check_round(Totals& totals, std::size_t tokens, std::size_t dropped) {
    next_ = totals.take_turns(next_, [&](std::size_t l) { return held(l); });
    std::size_t all_dropped = 0;
    std::size_t kept = 0;
    std::size_t wanted = 0;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      check_layer(l, totals, tokens);
      all_dropped += views_[l].before - held(l);
      kept += held(l);
      wanted += totals[l].waits ? views_[l].before : totals[l].kept;
      expect(held(l) + tokens <= pruner_.bound(l), "make_room makes room", l);
      expect(pruner_.bound(l) == views_[l].bound, "the bound is the configured one", l);
    }
    expect(all_dropped == dropped, "make_room returns what it dropped");
    check_caps(tokens);
    if (setup_.config.max_lost_mass < 1.0f || setup_.config.total_bytes != 0) return;
    expect(kept == wanted || rounds_up(), "the total is shared out to the last token");
  }

  [[nodiscard]] bool rounds_up() const { return sequence() || (Features & with_classes) != 0; }

  void check_caps(std::size_t tokens) const {
    std::size_t count = 0;
    std::size_t bytes = 0;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      count += held(l) + tokens;
      bytes += (held(l) + tokens) * setup_.bytes[l];
    }
    const lethe::PrunerConfig& c = setup_.config;
    expect(c.total_capacity == 0 || count <= c.total_capacity, "the total holds");
    expect(c.total_bytes == 0 || bytes <= c.total_bytes, "the total in bytes holds");
  }

  [[nodiscard]] const lethe::RoundStatistics* row_of(std::size_t layer) const {
    for (const auto& row : rows_) {
      if (row.layer == layer) return &row;
    }
    return nullptr;
  }

  void check_layer(std::size_t layer, const Totals& totals, std::size_t tokens) {
    View& view = views_[layer];
    const lethe::RoundStatistics* row = row_of(layer);
    expect((row != nullptr) == (view.due || totals.due()), "examined when due", layer);
    if (row == nullptr) {
      expect(held(layer) == view.before, "nothing happens out of turn", layer);
      return;
    }
    ++tally.rounds;
    tally.shared += setup_.round.shared_total != 0 || totals.due() ? 1u : 0u;
    tally.unsure += totals.sure() ? 0u : 1u;
    protect(view, totals, *row);
    check_row(layer, *row, view.before);
    expect((row->outcome == lethe::Outcome::postponed) == totals[layer].waits || !totals.sure(),
           "layers wait in turn", layer);
    if (!waits(*row)) check_count(layer, *row, totals, tokens);
    if (waits(*row)) expect(held(layer) == view.before, "a layer that waits keeps all", layer);
    for (std::size_t set = 0; set < kept_sets(); ++set) keep(layer, set);
    if (!waits(*row)) since_[layer] = 0;
    const bool free = row->outcome == lethe::Outcome::pruned && held(layer) > row->tokens_protected;
    expect((Features & with_classes) == 0 || !free || permitted(layer),
           "counts are permitted ones");
    tally.guarded += row->outcome == lethe::Outcome::guarded ? 1u : 0u;
    tally.postponed += row->outcome == lethe::Outcome::postponed ? 1u : 0u;
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
    expect((row.outcome == lethe::Outcome::busy) == views_[layer].busy, "busy", layer);
    const bool doubled =
        row.outcome == lethe::Outcome::spread_out && before >= views_[layer].threshold;
    const std::size_t threshold = doubled
                                      ? std::min(2 * views_[layer].threshold, views_[layer].bound)
                                      : views_[layer].threshold;
    expect(row.threshold == threshold, "the trigger doubles when spread out", layer);
  }

  /// How many tokens a layer keeps.
  void check_count(std::size_t layer, const lethe::RoundStatistics& row, const Totals& totals,
                   std::size_t tokens) {
    const View& view = views_[layer];
    const Holding& wanted = totals[layer];
    if (!totals.sure()) return;
    if (wanted.kept < view.before && row.outcome == lethe::Outcome::guarded) {
      return check_guard(view, held(layer), wanted.kept, wanted.hard);
    }
    CAPTURE(held(layer), wanted.kept, wanted.safe, row.tokens_protected, view.before);
    expect(held(layer) == wanted.kept, "the kept count is the naive one", layer);
    expect((row.outcome == lethe::Outcome::spread_out) == wanted.spread_out, "spread out", layer);
    expect(row.tokens_protected == wanted.safe || kept_sets() != 1, "tokens_protected", layer);
    if (wanted.kept >= view.before) return;
    const double lost = view.lost_share(held(layer));
    CAPTURE(lost, row.lost_mass, wanted.hard, tokens);
    const bool most_kept = held(layer) >= setup_.round.permitted(wanted.hard, wanted.hard);
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
                                              : views_[layer].sets[set].best(held(layer));
    if (cache_.vacant(layer) != Cache::none) {
      ++tally.overwritten;
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

  /// Recents give way to a total; what a guard adds is for scores.
  void protect(View& view, const Totals& totals, const lethe::RoundStatistics& row) {
    if (waits(row) || (totals.sure() && !totals[row.layer].cut)) return;
    std::size_t kept = totals.sure() ? totals[row.layer].kept : held(row.layer);
    while (!totals.sure() && kept != 0 &&
           view.protected_by(setup_.round, kept) > row.tokens_protected) {
      --kept;
    }
    view.protect(setup_.round, kept);
  }

  void check_positions() const {
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      expect(cache_.size(l) == pruner_.size(l), "sizes agree", l);
      expect(pruner_.size(l) <= pruner_.bound(l), "the bound holds", l);
      for (std::size_t head = 0; head < World::cache_heads(setup_.config); ++head)
        check_rows(l, head);
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

  std::vector<View> views_;
  std::vector<lethe::RoundStatistics> rows_;
  std::size_t step_ = 0;
  std::size_t next_ = 0;
};

}  // namespace naive

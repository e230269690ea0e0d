/// A round under limits over all layers: how many tokens each layer keeps, and which layers wait.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "naive/shares.hpp"
#include "naive/trace_setup.hpp"

namespace naive {

/// One layer in a round.
struct Holding {
  bool tracked = false;
  /// Examined, and not busy.
  bool movable = false;
  bool forced = false;
  bool spread_out = false;
  std::size_t before = 0;
  /// Tokens it is to keep: its own wish first, then what the totals leave it.
  std::size_t kept = 0;
  /// Most that may stay, and most that max_lost_mass may keep.
  std::size_t limit = 0;
  std::size_t hard = 0;
  std::size_t prefix = 0;
  std::size_t safe = 0;
  std::size_t bytes = 1;
  /// A total changed what it keeps.
  bool cut = false;
  bool waits = false;

  [[nodiscard]] std::size_t cost(bool in_bytes) const { return in_bytes ? bytes : 1; }
  [[nodiscard]] Portion portion(double weight, std::size_t ceiling, bool in_bytes) const {
    if (!movable) return {weight, before, before, cost(in_bytes)};
    return {weight, safe, std::max(ceiling, safe), cost(in_bytes)};
  }
};

/// What the layers of a round decide together; `tokens` are to fit then.
class Totals {
 public:
  Totals(const TraceSetup& setup, const std::vector<View>& views, std::size_t tokens)
      : setup_(setup), views_(views), tokens_(tokens), layers_(views.size()) {
    for (std::size_t l = 0; l < views.size(); ++l) {
      layers_[l].tracked = setup.tracked(l);
      layers_[l].before = views[l].before;
      layers_[l].bytes = setup.bytes.empty() ? 1 : setup.bytes[l];
    }
    due_ = over(layers_now(), true);
    for (std::size_t l = 0; l < views.size(); ++l) examine(l);
    if (due_ || examined()) share_out();
  }

  /// Whether a limit over all layers calls for the round.
  [[nodiscard]] bool due() const { return due_; }
  [[nodiscard]] const Holding& operator[](std::size_t layer) const { return layers_[layer]; }
  /// Whether no rounding of weights could give other counts.
  [[nodiscard]] bool sure() const { return sure_; }

  /// Whether the step cannot fit under the caps over all layers.
  [[nodiscard]] bool refused() const {
    std::vector<std::size_t> counts;
    for (const Holding& layer : layers_)
      counts.push_back(layer.movable ? layer.kept : layer.before);
    return over_caps(counts, false);
  }

  /// Layers are planned from `next` on. Those whose rows do not fit into max_move_bytes wait,
  /// unless a bound or a total needs their room. held(layer): what a layer that is planned keeps.
  /// Returns the layer to begin with in the next round.
  template <class Held>
  std::size_t take_turns(std::size_t next, Held&& held) {
    std::vector<std::size_t> counts = layers_now();
    std::size_t moved = 0;
    std::size_t last = next;
    const auto plan = [&](std::size_t l) {
      layers_[l].waits = false;
      counts[l] = held(l);
      last = (l + 1) % layers_.size();
    };
    for (const std::size_t l : turns(next)) {
      if (!layers_[l].movable || layers_[l].kept >= layers_[l].before) continue;
      layers_[l].waits = must_wait(l, moved);
      if (layers_[l].waits) continue;
      moved += rows(l);
      plan(l);
    }
    for (const std::size_t l : turns(next)) {
      if (layers_[l].waits && over(counts, false)) plan(l);
    }
    for (const std::size_t l : turns(next)) {
      if (layers_[l].waits) return l;
    }
    return last;
  }

 private:
  [[nodiscard]] std::vector<std::size_t> layers_now() const {
    std::vector<std::size_t> counts;
    for (const Holding& layer : layers_) counts.push_back(layer.before);
    return counts;
  }

  [[nodiscard]] std::vector<std::size_t> turns(std::size_t next) const {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < layers_.size(); ++i) order.push_back((next + i) % layers_.size());
    return order;
  }

  /// What layers of so many tokens hold with the step.
  [[nodiscard]] std::size_t held(const std::vector<std::size_t>& counts, bool in_bytes) const {
    std::size_t sum = 0;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (layers_[l].tracked) sum += (counts[l] + tokens_) * layers_[l].cost(in_bytes);
    }
    return sum;
  }

  /// early: rounds come half the slack before the limit where moves are spread.
  [[nodiscard]] bool over_caps(const std::vector<std::size_t>& counts, bool early) const {
    const lethe::PrunerConfig& c = setup_.config;
    const auto passes = [&](std::size_t total, bool in_bytes) {
      return total != 0 && held(counts, in_bytes) + (early ? margin(total) : 0) > total;
    };
    return passes(c.total_capacity, false) || passes(c.total_bytes, true);
  }
  /// The total of a budget may be passed by the slack.
  [[nodiscard]] bool over(const std::vector<std::size_t>& counts, bool early) const {
    const std::size_t total = setup_.round.shared_total;
    const std::size_t most = total + setup_.round.slack(total);
    const bool outgrown = total != 0 && held(counts, false) + (early ? margin(total) : 0) > most;
    return outgrown || over_caps(counts, early);
  }
  [[nodiscard]] std::size_t margin(std::size_t total) const {
    return setup_.round.spreads_moves ? setup_.round.slack(total) / 2 : 0;
  }

  [[nodiscard]] bool examined() const {
    return std::any_of(views_.begin(), views_.end(), [](const View& view) { return view.due; });
  }

  void examine(std::size_t l) {
    const View& view = views_[l];
    Holding& layer = layers_[l];
    layer.kept = layer.before;
    layer.movable = layer.tracked && !view.busy && (due_ || view.due);
    if (!layer.movable) return;
    const Verdict* neediest = &view.verdicts[0];
    for (const Verdict& verdict : view.verdicts) {
      if (verdict.tokens > neediest->tokens) neediest = &verdict;
    }
    for (const Verdict& verdict : view.verdicts) {
      layer.safe = std::max(layer.safe, verdict.protected_tokens);
      layer.prefix = std::max(layer.prefix, verdict.prefix);
    }
    layer.forced = neediest->forced;
    layer.spread_out = neediest->spread_out;
    layer.kept = neediest->tokens;
    layer.limit = neediest->limit;
    layer.hard = neediest->hard;
  }

  void share_out() {
    const lethe::PrunerConfig& c = setup_.config;
    if (setup_.round.shared_total != 0) {
      std::vector<Portion> portions;
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        portions.push_back(
            layers_[l].portion(sequence() ? 1 : views_[l].weight, layers_[l].limit, false));
      }
      give(portions, setup_.round.shared_total);
    }
    if (c.total_capacity != 0) fit(c.total_capacity, false);
    if (c.total_bytes != 0) fit(c.total_bytes, true);
  }

  /// Layers keep less of what they would, in proportion, where the step would pass a cap; the slack
  /// stays free then.
  void fit(std::size_t total, bool in_bytes) {
    std::vector<Portion> portions;
    std::vector<std::size_t> counts;
    std::size_t step = 0;
    for (const Holding& layer : layers_) {
      portions.push_back(layer.portion(double(layer.kept), layer.kept, in_bytes));
      counts.push_back(layer.kept);
      step += layer.tracked ? tokens_ * layer.cost(in_bytes) : 0;
    }
    if (held(counts, in_bytes) + margin(total) > total) {
      give(portions, total - std::min(total, step + setup_.round.slack(total)));
    }
    if (setup_.guards()) limit_guard(portions, total - std::min(total, step));
  }

  /// The guard against lost mass may use what the cap leaves.
  void limit_guard(std::vector<Portion> portions, std::size_t total) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (!layers_[l].movable) continue;
      portions[l].floor = layers_[l].kept;
      portions[l].ceiling = std::max(layers_[l].hard, layers_[l].kept);
    }
    const std::vector<std::size_t> tokens = shares_of(portions, total);
    for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].hard = tokens[l];
  }

  /// Recents give way where a total cannot hold what every layer protects.
  void give(std::vector<Portion> portions, std::size_t total) {
    std::size_t floors = 0;
    for (const Portion& portion : portions) floors += portion.floor * portion.cost;
    for (std::size_t l = 0; l < layers_.size() && floors > total; ++l) {
      if (layers_[l].movable) portions[l].floor = layers_[l].prefix;
    }
    const std::vector<std::size_t> tokens = shares_of(portions, total);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (layers_[l].movable && tokens[l] != layers_[l].kept) cut(l, tokens[l]);
    }
  }

  void cut(std::size_t l, std::size_t most) {
    Holding& layer = layers_[l];
    layer.kept = std::min(layer.before, std::max(setup_.round.permitted(most, most), layer.prefix));
    layer.spread_out = false;
    layer.cut = true;
    if (layer.kept >= layer.safe && setup_.round.recent_divisor == 1) return;
    layer.safe = views_[l].protected_by(setup_.round, layer.kept);
  }

  /// Layers that keep one set get what the least of them got.
  [[nodiscard]] std::vector<std::size_t> shares_of(const std::vector<Portion>& portions,
                                                   std::size_t total) {
    Shares shares = share_by_formula(portions, total, setup_.round.weight_error);
    sure_ = sure_ && shares.sure;
    if (!sequence()) return shares.tokens;
    std::size_t fewest = setup_.config.capacity;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (layers_[l].movable) fewest = std::min(fewest, shares.tokens[l]);
    }
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (layers_[l].movable) shares.tokens[l] = fewest;
    }
    return shares.tokens;
  }

  [[nodiscard]] bool sequence() const { return setup_.config.scope == lethe::Scope::sequence; }

  /// Bytes that a layer's plan moves at most.
  [[nodiscard]] std::size_t rows(std::size_t l) const {
    const Holding& layer = layers_[l];
    const std::size_t most = setup_.guards() ? std::max(layer.hard, layer.kept) : layer.kept;
    return (most - layer.prefix) * layer.bytes;
  }

  [[nodiscard]] bool must_wait(std::size_t l, std::size_t moved) const {
    const std::size_t most = setup_.config.max_move_bytes;
    if (most == 0 || layers_[l].before + tokens_ > views_[l].bound) return false;
    const bool first = moved == 0 && (layers_[l].forced || due_);
    return !first && moved + rows(l) > most;
  }

  const TraceSetup& setup_;
  const std::vector<View>& views_;
  std::size_t tokens_;
  std::vector<Holding> layers_;
  bool due_ = false;
  bool sure_ = true;
};

}  // namespace naive

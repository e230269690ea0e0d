// Prints a digest of every plan that several policies make from pseudo-random attention. Compiled
// with several compilers and flags, it must always print the same.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "digest.hpp"
#include "lethe/lethe.hpp"
#include "lethe/policies/heads.hpp"

namespace {

/// Counts, and folds every plan into the digest.
struct DigestingCache {
  /// Of each head of each layer.
  std::vector<std::vector<std::size_t>> sizes;

  [[nodiscard]] std::size_t layers() const { return sizes.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const {
    return sizes[layer][head];
  }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    return *std::max_element(sizes[layer].begin(), sizes[layer].end());
  }
  [[nodiscard]] std::size_t heads(std::size_t layer) const { return sizes[layer].size(); }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = 0.125f * static_cast<float>((5 * layer + 3 * head + 7 * first + i) % 13);
  }
  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const { return 16 + 8 * layer; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      fold(plan.layer);
      fold(plan.head);
      fold(plan.tokens);
      for (const lethe::Slot slot : plan.kept) fold(slot);
      for (std::size_t head = 0; head < heads(plan.layer); ++head) {
        if (plan.head == lethe::all_heads || plan.head == head)
          sizes[plan.layer][head] = plan.kept.size();
      }
    }
  }
};

enum class Kind { probabilities, half, logits, logits_alone, softcap, mass };

struct Rows {
  std::vector<float> values;
  std::vector<lethe::Half> halves;
  std::vector<float> lse;
};

constexpr std::size_t heads = 6;

Rows draw(Source& source, Kind kind, std::size_t count) {
  Rows rows;
  for (std::size_t i = 0; i < count; ++i) {
    const bool logits = kind == Kind::logits || kind == Kind::logits_alone || kind == Kind::softcap;
    rows.values.push_back(logits ? source.logit() : source.probability());
    rows.halves.push_back({static_cast<std::uint16_t>(source.next() % 0x3C00u)});
  }
  for (std::size_t i = 0; i < heads * 8; ++i) rows.lse.push_back(15.0f + source.logit() * 0.0625f);
  return rows;
}

template <class Pruner>
void observe(Pruner& pruner, Source& source, Kind kind, std::size_t layer, std::size_t queries,
             std::size_t n) {
  const Rows rows = draw(source, kind, heads * queries * n);
  const float* data = rows.values.data();
  lethe::Logits<float> logits{
      .data = data, .heads = heads, .queries = queries, .columns = n, .scale = 0.71f};
  if (kind == Kind::probabilities) {
    pruner.observe(layer, {.data = data, .heads = heads, .queries = queries, .columns = n});
  } else if (kind == Kind::half) {
    pruner.observe(
        layer, lethe::Probabilities<lethe::Half>{
                   .data = rows.halves.data(), .heads = heads, .queries = queries, .columns = n});
  } else if (kind == Kind::mass) {
    pruner.observe(
        layer,
        lethe::Mass<float>{
            .data = data, .groups = pruner.config().groups, .queries = queries, .columns = n});
  } else {
    if (kind != Kind::logits_alone) logits.lse = rows.lse.data();
    if (kind == Kind::softcap) logits.softcap = 20.0f;
    if (kind == Kind::softcap) logits.base = lethe::LogBase::two;
    pruner.observe(layer, logits);
  }
}

/// Plans follow from scores, so their bits must agree too; a digest of plans alone might miss it.
template <class Pruner>
void fold_scores(Pruner& pruner) {
  for (std::size_t layer = 0; layer < pruner.config().layers; ++layer) {
    for (const float score : pruner.scores(layer)) fold(std::bit_cast<std::uint32_t>(score));
  }
}

template <class Scorer, class Allocator>
void decode(lethe::Pruner<Scorer, Allocator> pruner, Kind kind, std::uint64_t seed) {
  const lethe::PrunerConfig config = pruner.config();
  Source source(seed);
  DigestingCache cache{{config.layers, std::vector<std::size_t>(config.groups, 0)}};
  for (std::size_t step = 0; step < 220; ++step) {
    const std::size_t queries = step % 7 == 0 ? 5 : 1;
    pruner.make_room(cache, queries, [](const lethe::RoundStatistics& row) {
      fold(static_cast<std::uint64_t>(row.outcome) << 32 | row.breakpoint);
    });
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      observe(pruner, source, kind, layer, queries, cache.size(layer) + queries);
      for (std::size_t& size : cache.sizes[layer]) size += queries;
    }
    pruner.commit();
    if (step % 16 == 0) fold_scores(pruner);
  }
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    for (const lethe::Position position : pruner.positions(layer)) fold(position);
  }
}

using HoyerPruner = lethe::Pruner<lethe::Rasr, lethe::HoyerBudget>;

template <class Scorer, class Allocator>
void decode_all(const char* name, const lethe::Pruner<Scorer, Allocator>& policy) {
  for (const Kind kind : {Kind::probabilities, Kind::half, Kind::logits, Kind::logits_alone,
                          Kind::softcap, Kind::mass}) {
    decode(policy, kind, static_cast<std::uint64_t>(kind) * 1000 + 1);
    std::printf("%s %d %016llx\n", name, static_cast<int>(kind),
                static_cast<unsigned long long>(digest));
  }
}

}  // namespace

int main() {
  lethe::PrunerConfig config{.layers = 2, .capacity = 90, .groups = 3, .round_interval = 8};
  decode_all("lethe", lethe::policies::Lethe(
                          config, {.decay = 0.9f, .sparsity_ratio = 100, .first_threshold = 32}));
  decode_all("h2o", lethe::policies::H2O(config));
  decode_all("tova", lethe::policies::TOVA(config));
  decode_all("snapkv", lethe::policies::SnapKV(
                           config, {.window = 8, .pool = 5, .pooling = lethe::Pooling::mean}));
  decode_all("random", lethe::policies::RandomAttention(config));
  decode_all("hoyer", HoyerPruner(config, {.retention = {.first_tokens = 4}}, {.decay = 0.97f},
                                  {.total = 130}));
  config.max_lost_mass = 0.05f;
  config.scope = lethe::Scope::sequence;
  decode_all("sequence", lethe::policies::Lethe(config));
  config.scope = lethe::Scope::head;
  config.total_bytes = 3000;
  decode_all("heads", lethe::policies::Lethe(config));
  config.max_lost_mass = 1.0f;
  config.total_bytes = 0;
  decode_all("adakv", lethe::policies::AdaKV(config, {.window = 8, .pool = 5}));
  decode_all(
      "lava by head",
      lethe::policies::LAVaByHead(
          config,
          {.heads = {.kv_heads = 3, .key_dimension = 4}, .total = 130, .window = 8, .pool = 5}));
  std::printf("%016llx\n", static_cast<unsigned long long>(digest));
}

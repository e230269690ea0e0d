// Feeds bytes to Pruner::restore: they are refused with std::invalid_argument, or the pruner goes
// on as one that keeps its promises. Half of the inputs get a good header, so that the checksum
// does not hide what lies behind it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <lethe/lethe.hpp>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t layers = 2;
constexpr std::size_t heads = 2;
constexpr std::size_t dimension = 4;
constexpr std::size_t capacity = 24;

/// A cache that only counts; keys are whatever their place says.
struct Cache {
  std::vector<std::size_t> sizes;

  std::size_t layers() const { return sizes.size(); }
  std::size_t size(std::size_t layer) const { return sizes[layer]; }
  std::size_t heads(std::size_t) const { return ::heads; }
  void read_keys(std::size_t, std::size_t head, std::size_t slot, std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<float>((slot * dimension + i + head) % 7) * 0.25f;
    }
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      if (!std::is_sorted(plan.kept.begin(), plan.kept.end())) std::abort();
      if (!plan.kept.empty() && plan.kept.back() >= plan.tokens) std::abort();
    }
    for (const lethe::EvictionPlan& plan : plans) sizes[plan.layer] = plan.kept.size();
  }
};

lethe::PrunerConfig settings(lethe::Scope scope, bool deferred) {
  lethe::PrunerConfig config{.layers = layers, .capacity = capacity};
  config.scope = scope;
  config.groups = scope == lethe::Scope::head ? heads : 1;
  config.round_interval = 4;
  if (deferred) {
    config.deferred = {
        .queries = 3, .heads = heads, .kv_heads = heads, .head_dimension = dimension};
  } else {
    config.draft_tokens = 4;
  }
  return config;
}

template <class Pruner>
void observe(Pruner& pruner, std::size_t layer, std::size_t columns, bool deferred) {
  static const std::vector<float> numbers(heads * dimension, 0.5f);
  if (deferred) {
    pruner.observe(layer, lethe::Queries<float>{.data = numbers.data(),
                                                .lse = numbers.data(),
                                                .heads = heads,
                                                .head_dimension = dimension});
  } else {
    const std::vector<float> row(heads * columns, 1.0f / static_cast<float>(columns));
    pruner.observe(
        layer, lethe::Probabilities<float>{.data = row.data(), .heads = heads, .columns = columns});
  }
}

/// Decodes on from the restored state; only the library's own refusals may come.
template <class Pruner>
void decode(Pruner& pruner, bool deferred) {
  Cache cache;
  for (std::size_t layer = 0; layer < layers; ++layer) cache.sizes.push_back(pruner.size(layer));
  try {
    for (int step = 0; step < 40; ++step) {
      pruner.make_room(cache, 1);
      for (std::size_t layer = 0; layer < layers; ++layer) {
        if (cache.sizes[layer] + 1 > pruner.bound(layer)) std::abort();
        observe(pruner, layer, ++cache.sizes[layer], deferred);
      }
      pruner.commit();
    }
  } catch (const std::invalid_argument&) {
  } catch (const std::length_error&) {
  }
}

/// A state worth changing: some steps in, past a round.
template <class Pruner>
std::vector<std::byte> genuine(Pruner pruner, bool deferred) {
  decode(pruner, deferred);
  return pruner.save();
}

/// Contents of a good state with the input's bytes over them, under a header that fits.
std::vector<std::byte> resealed(std::vector<std::byte> blob, std::span<const std::byte> edits) {
  constexpr std::size_t envelope = sizeof(lethe::detail::StateHeader);
  for (; edits.size() >= 3; edits = edits.subspan(3)) {
    const std::size_t at =
        std::to_integer<std::size_t>(edits[0]) * 256 + std::to_integer<std::size_t>(edits[1]);
    blob[envelope + at % (blob.size() - envelope)] = edits[2];
  }
  lethe::detail::StateHeader header;
  std::memcpy(&header, blob.data(), envelope);
  header.checksum = lethe::detail::checksum(std::span<const std::byte>(blob).subspan(envelope));
  std::memcpy(blob.data(), &header, envelope);
  return blob;
}

template <class Pruner>
void check(Pruner pruner, bool deferred, bool reseal, std::span<const std::byte> input) {
  std::vector<std::byte> blob(input.begin(), input.end());
  if (reseal) {
    static std::vector<std::pair<bool, std::vector<std::byte>>> states;
    auto found = std::find_if(states.begin(), states.end(),
                              [&](const auto& s) { return s.first == deferred; });
    if (found == states.end())
      found = states.insert(states.end(), {deferred, genuine(pruner, deferred)});
    blob = resealed(found->second, input);
  }
  const std::vector<std::byte> before = pruner.save();
  try {
    pruner.restore(blob);
  } catch (const std::invalid_argument&) {
    if (pruner.save() != before) std::abort();
    return;
  }
  if (pruner.save() != blob) std::abort();
  decode(pruner, deferred);
}

void check_policy(unsigned policy, bool deferred, bool reseal, std::span<const std::byte> input) {
  namespace policies = lethe::policies;
  const lethe::PrunerConfig shared = settings(lethe::Scope::layer, deferred);
  const auto run = [&](auto pruner) { check(std::move(pruner), deferred, reseal, input); };
  if (policy == 0) run(policies::Lethe(shared, {.first_threshold = 8}));
  if (policy == 1) run(policies::H2O(shared));
  if (policy == 2) run(policies::TOVA(shared));
  if (policy == 3) run(policies::SnapKV(shared, {.window = 4}));
  if (policy == 4) run(policies::StreamingLLM(shared));
  if (policy == 5) {
    const lethe::PrunerConfig heads_apart = settings(lethe::Scope::head, deferred);
    run(policies::RandomAttention(heads_apart, {.recent_tokens = 4}));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size)).subspan(1);
  check_policy(data[0] >> 2 & 7, (data[0] & 2) != 0, (data[0] & 1) != 0, input);
  return 0;
}

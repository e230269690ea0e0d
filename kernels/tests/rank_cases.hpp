/// Tensor-parallel ranks that hold different heads, seen as one state by gpu_test::Decode.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "decode_cases.hpp"
#include "host_state.hpp"
#include "lethe/gpu/score_rows.cuh"

namespace gpu_test {

inline constexpr std::size_t ranks = 2;

/// The attention of one rank's heads, packed; `heads` numbers those of `seen`.
template <class Element>
Attention<Element> of_heads(const Attention<Element>& seen, const std::vector<std::size_t>& heads) {
  Attention<Element> made{.data = {}, .lse = {}, .rows = seen.rows, .queries = seen.queries};
  const std::size_t columns = seen.queries * decode_capacity;
  for (std::size_t row = 0; row < seen.rows; ++row) {
    for (const std::size_t head : heads) {
      const std::size_t at = row * decode_heads + head;
      const auto data = seen.data.begin() + static_cast<std::ptrdiff_t>(at * columns);
      made.data.insert(made.data.end(), data, data + static_cast<std::ptrdiff_t>(columns));
      const auto lse = seen.lse.begin() + static_cast<std::ptrdiff_t>(at * seen.queries);
      made.lse.insert(made.lse.end(), lse, lse + static_cast<std::ptrdiff_t>(seen.queries));
    }
  }
  return made;
}

/// Ranks, each a runner of its own. A policy says what a rank's state is like, which heads it
/// holds, and on what the ranks agree.
template <class Runner, class Agreement>
class Ranks {
 public:
  using Batch = std::vector<std::int32_t>;
  using Settings = lethe::gpu::PlanSettings;

  Ranks(const lethe::gpu::StateShape& shape, std::uint64_t seed) : merged_(shape) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      runners_.push_back(std::make_unique<Runner>(Agreement::shape(shape), seed + 17 * rank));
    }
  }

  void start(const Batch& batch, std::uint32_t threshold) {
    for (auto& runner : runners_) runner->start(batch, threshold);
  }
  void make_room(const Batch& batch, const Settings& settings) {
    Agreement::make_room(runners_, batch, settings);
  }
  void append(const Batch& batch, std::uint32_t tokens) {
    for (auto& runner : runners_) runner->append(batch, tokens);
  }

  template <class Element, class Observation>
  void observe(const Batch& batch, std::uint32_t layer,
               const std::vector<lethe::gpu::QueryWeight>& weights, const Attention<Element>& seen,
               const lethe::gpu::BatchObservation<Observation>& given) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const std::vector<std::size_t> heads = Agreement::heads(merged_.state.shape, rank);
      const Attention<Element> own = of_heads(seen, heads);
      lethe::gpu::BatchObservation<Observation> part{of_row(own, 0, given.first)};
      part.first.heads = heads.size();
      runners_[rank]->observe(batch, layer, weights, own, part);
    }
  }

  /// The ranks' states as one.
  [[nodiscard]] const HostState& read() {
    for (std::size_t rank = 0; rank < ranks; ++rank) merge(runners_[rank]->read(), rank);
    return merged_;
  }

 private:
  void merge(const HostState& own, std::size_t rank) {
    const lethe::gpu::State& from = own.state;
    const lethe::gpu::State& to = merged_.state;
    const std::size_t numbers = std::size_t{to.shape.layers} * to.shape.slots;
    for (std::size_t number = 0; number < numbers; ++number) {
      const bool same = from.lengths[number] == to.lengths[number] &&
                        from.cadences[number].threshold == to.cadences[number].threshold &&
                        from.cadences[number].since_round == to.cadences[number].since_round;
      if (rank != 0 && !same) throw std::runtime_error("ranks differ in length or trigger");
      to.lengths[number] = from.lengths[number];
      to.cadences[number] = from.cadences[number];
      Agreement::merge(from, to, number, rank);
    }
  }

  HostState merged_;
  std::vector<std::unique_ptr<Runner>> runners_;
};

/// Ranks plan from the same scores: theirs, summed. Each KV head's query heads are shared out.
struct SummedScores {
  static lethe::gpu::StateShape shape(const lethe::gpu::StateShape& whole) { return whole; }

  static std::vector<std::size_t> heads(const lethe::gpu::StateShape& whole, std::size_t rank) {
    std::vector<std::size_t> heads;
    const std::size_t of_group = decode_heads / whole.groups;
    for (std::size_t head = 0; head < decode_heads; ++head) {
      if (head % of_group / (of_group / ranks) == rank) heads.push_back(head);
    }
    return heads;
  }

  template <class Runners>
  static void make_room(Runners& runners, const std::vector<std::int32_t>& batch,
                        const lethe::gpu::PlanSettings& settings) {
    std::vector<float> sum = runners[0]->gather(batch);
    for (std::size_t rank = 1; rank < ranks; ++rank) {
      const std::vector<float> own = runners[rank]->gather(batch);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += own[i];
    }
    for (auto& runner : runners) runner->make_room(batch, settings, sum);
  }

  static void merge(const lethe::gpu::State& from, const lethe::gpu::State& to, std::size_t number,
                    std::size_t rank) {
    for (std::uint32_t set = 0; set < to.shape.sets(); ++set) {
      const lethe::Position* positions = from.position_row(number, set);
      lethe::Position* all = to.position_row(number, set);
      const bool same = std::equal(positions, positions + to.lengths[number], all);
      if (rank != 0 && !same) throw std::runtime_error("ranks differ in what they keep");
      std::copy_n(positions, to.lengths[number], all);
    }
    for (std::uint32_t group = 0; group < to.shape.groups; ++group) {
      for (std::uint32_t i = 0; i < to.lengths[number]; ++i) {
        float& sum = to.score_row(number, group)[i];
        sum = (rank == 0 ? 0.0f : sum) + from.score_row(number, group)[i];
      }
    }
  }
};

/// Each rank keeps sets of its own, as many tokens in each as the neediest of all ranks needs: a
/// rank's heads of a layer share one (RankScope::layer), or each keeps its own.
template <lethe::Scope RankScope>
struct AgreedCounts {
  static lethe::gpu::StateShape shape(lethe::gpu::StateShape whole) {
    whole.groups /= ranks;
    whole.scope = RankScope;
    return whole;
  }

  static std::vector<std::size_t> heads(const lethe::gpu::StateShape&, std::size_t rank) {
    std::vector<std::size_t> heads;
    for (std::size_t i = 0; i < decode_heads / ranks; ++i) {
      heads.push_back(rank * (decode_heads / ranks) + i);
    }
    return heads;
  }

  template <class Runners>
  static void make_room(Runners& runners, const std::vector<std::int32_t>& batch,
                        const lethe::gpu::PlanSettings& settings) {
    std::vector<std::uint32_t> most = runners[0]->count(batch, settings, 0);
    for (std::size_t rank = 1; rank < ranks; ++rank) {
      const auto first = static_cast<std::uint32_t>(rank * decode_heads);
      const std::vector<std::uint32_t> own = runners[rank]->count(batch, settings, first);
      for (std::size_t i = 0; i < most.size(); ++i) most[i] = std::max(most[i], own[i]);
    }
    for (auto& runner : runners) runner->keep(batch, settings, most);
  }

  static void merge(const lethe::gpu::State& from, const lethe::gpu::State& to, std::size_t number,
                    std::size_t rank) {
    const std::uint32_t each = from.shape.groups;
    for (std::uint32_t group = 0; group < each; ++group) {
      const std::uint32_t set = static_cast<std::uint32_t>(rank) * each + group;
      std::copy_n(from.score_row(number, group), to.lengths[number], to.score_row(number, set));
      std::copy_n(from.position_row(number, group), to.lengths[number],
                  to.position_row(number, set));
    }
  }
};

}  // namespace gpu_test

#include "world.hpp"

#include <cmath>

#include "launches.hpp"
#include "lethe/gpu/round_compaction.hpp"
#include "plain_kernels.hpp"
#include "samples.hpp"

namespace gpu_bench {
namespace {

constexpr float weight = 1.25f;
constexpr float log_sum = 9.0f;

template <class Placed, class Place>
std::size_t size_of(Place place, const lethe::gpu::StateShape& shape) {
  std::size_t bytes = 0;
  Placed placed{};
  require(place(shape, nullptr, bytes, placed));
  return bytes;
}

std::size_t state_bytes(const lethe::gpu::StateShape& shape) {
  return size_of<lethe::gpu::State>(lethe::gpu::place_state, shape);
}
std::size_t plan_bytes(const lethe::gpu::StateShape& shape) {
  return size_of<lethe::gpu::PlanBuffers>(lethe::gpu::place_plans, shape);
}

std::vector<std::int32_t> all_slots(std::uint32_t slots) {
  std::vector<std::int32_t> rows(slots);
  for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = static_cast<std::int32_t>(row);
  return rows;
}

template <class Item>
void upload(Item* target, const std::vector<Item>& items) {
  require(cudaMemcpy(target, items.data(), items.size() * sizeof(Item), cudaMemcpyHostToDevice),
          "cudaMemcpy");
}

/// Scores that fall off as mass does, 0 where there is no token yet.
std::vector<float> random_scores(const lethe::gpu::StateShape& shape, std::uint32_t tokens) {
  Samples samples(5);
  std::vector<float> scores(std::size_t{shape.layers} * shape.slots * shape.capacity);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float share = samples.uniform();
    if (i % shape.capacity < tokens) scores[i] = share * share * share * share;
  }
  return scores;
}

std::vector<lethe::Position> ascending(const lethe::gpu::StateShape& shape) {
  std::vector<lethe::Position> positions(std::size_t{shape.layers} * shape.slots * shape.capacity);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    positions[i] = static_cast<lethe::Position>(i % shape.capacity);
  }
  return positions;
}

}  // namespace

World::World(const Bench& bench)
    : bench_(&bench),
      scores_(random_scores(shape(), bench.sizes().tokens)),
      positions_(ascending(shape())),
      memory_(state_bytes(shape())),
      saved_(state_bytes(shape())),
      plan_memory_(plan_bytes(shape())),
      rows_(all_slots(shape().slots)) {
  std::size_t bytes = memory_.bytes();
  require(lethe::gpu::place_state(shape(), memory_.get(), bytes, state_));
  bytes = plan_memory_.bytes();
  require(lethe::gpu::place_plans(shape(), plan_memory_.get(), bytes, plans_));
  const std::size_t numbers = std::size_t{shape().layers} * shape().slots;
  const std::uint32_t tokens = bench.sizes().tokens;
  upload(state_.scores, scores_);
  upload(state_.positions, positions_);
  upload(state_.lengths, std::vector<std::uint32_t>(numbers, tokens));
  upload(state_.cadences, std::vector<lethe::gpu::Cadence>(numbers, cadence()));
  upload(state_.pinned, std::vector<lethe::Position>(shape().slots, 0));
  upload(state_.next_positions, std::vector<lethe::Position>(shape().slots, tokens));
  saved_.write(memory_.read());
}

lethe::gpu::StateShape World::shape() const {
  const Case& sizes = bench_->sizes();
  return {sizes.layers, sizes.batch, sizes.tokens + steps_a_round};
}

lethe::gpu::Cadence World::cadence() const {
  return {.threshold = bench_->sizes().kept, .since_round = steps_a_round};
}

lethe::gpu::Round World::round(lethe::gpu::BudgetRule rule) const {
  lethe::gpu::Round round{.state = state_, .batch = batch(), .plans = plans_};
  round.settings = {.capacity = state_.shape.capacity, .step_tokens = 1, .round_interval = 1};
  round.settings.policy = {.retention = {.first_tokens = 4, .recent_ratio = 0.1f},
                           .first_threshold = bench_->sizes().kept};
  round.settings.rule = rule;
  round.settings.uniform.budget = bench_->sizes().kept;
  // A quarter of such scores lies above 1 / 3.16 of the highest.
  round.settings.breakpoint.sparsity_ratio = 3.16f;
  return round;
}

lethe::gpu::Compaction World::compaction() const {
  return lethe::gpu::compaction_of(state_, plans_, batch());
}

void World::restore() const {
  require(cudaMemcpyAsync(memory_.get(), saved_.get(), memory_.bytes(), cudaMemcpyDeviceToDevice,
                          bench_->stream()),
          "cudaMemcpyAsync");
}

std::vector<std::uint32_t> World::numbers_at(const std::uint32_t* memory) const {
  std::vector<std::uint32_t> numbers(std::size_t{state_.shape.layers} * state_.shape.slots);
  require(cudaMemcpy(numbers.data(), memory, numbers.size() * sizeof(numbers[0]),
                     cudaMemcpyDeviceToHost),
          "cudaMemcpy");
  return numbers;
}

std::vector<std::uint32_t> World::counts() const { return numbers_at(plans_.counts); }
std::vector<std::uint32_t> World::first_moves() const { return numbers_at(plans_.first_moves); }
std::vector<std::uint32_t> World::lengths() const { return numbers_at(state_.lengths); }

std::vector<lethe::Slot> World::kept(std::size_t number) const {
  std::vector<lethe::Slot> slots(counts()[number]);
  require(slots.size() <= state_.shape.capacity, "a plan keeps more than there is");
  require(cudaMemcpy(slots.data(), plans_.kept + number * state_.shape.capacity,
                     slots.size() * sizeof(slots[0]), cudaMemcpyDeviceToHost),
          "cudaMemcpy");
  return slots;
}

Attention::Attention(const Bench& bench, Kind kind)
    : bench_(&bench),
      kind_(kind),
      data_(bench.sizes().layers * (bench.sizes().logit_bytes() / 4)),
      lse_(std::vector<float>(std::size_t{bench.sizes().batch} * bench.sizes().query_heads,
                              log_sum)),
      weights_(std::vector<lethe::gpu::QueryWeight>(bench.sizes().batch,
                                                    {.weight = weight, .factor = 1.0f})) {
  const bool logits = kind == Kind::logits;
  const float most = logits ? 4.0f : 2.0f / static_cast<float>(bench.sizes().tokens);
  require(
      fill_uniform(data_.get(), data_.bytes() / 4, logits ? -9.0f : 0.0f, most, 2, bench.stream()),
      "uniform_kernel");
  bench.finish();
}

void Attention::observe(const World& world) const {
  const Case& sizes = bench_->sizes();
  for (std::uint32_t layer = 0; layer < sizes.layers; ++layer) {
    const lethe::gpu::ObservedLayer layer_seen{world.state(), world.batch(), layer, weights_.get()};
    const float* data = data_.get() + layer * layer_items();
    if (kind_ == Kind::logits) {
      lethe::Logits<float> seen{};
      seen.data = data;
      seen.lse = lse_.get();
      seen.heads = sizes.query_heads;
      seen.columns = sizes.tokens;
      require(
          launches::observe<lethe::Logits<float>>(layer_seen, {.first = seen}, bench_->stream()));
    } else {
      const lethe::Probabilities<float> seen{
          .data = data, .heads = sizes.query_heads, .columns = sizes.tokens};
      require(launches::observe<lethe::Probabilities<float>>(layer_seen, {.first = seen},
                                                             bench_->stream()));
    }
  }
}

std::uint64_t Attention::bytes() const {
  const Case& sizes = bench_->sizes();
  return data_.bytes() + std::uint64_t{2} * sizes.layers * sizes.batch * sizes.tokens * 4;
}

double Attention::expected(double score, std::uint32_t layer, std::uint32_t row,
                           std::uint32_t token) const {
  const Case& sizes = bench_->sizes();
  const float* first = data_.get() + layer * layer_items() +
                       std::size_t{row} * sizes.query_heads * sizes.tokens + token;
  double mass = 0;
  for (std::uint32_t head = 0; head < sizes.query_heads; ++head) {
    float item = 0;
    require(cudaMemcpy(&item, first + std::size_t{head} * sizes.tokens, sizeof item,
                       cudaMemcpyDeviceToHost),
            "cudaMemcpy");
    mass += kind_ == Kind::logits ? std::exp(static_cast<double>(item) - log_sum)
                                  : static_cast<double>(item);
  }
  return score + mass * weight;
}

}  // namespace gpu_bench

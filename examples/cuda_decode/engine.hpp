/// One decode step of a batch, layer after layer, with lethe's calls in it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attention_kernels.cuh"
#include "device.hpp"
#include "device_model.hpp"
#include "error.hpp"
#include "fill_kernels.cuh"
#include "head_kernels.cuh"
#include "lethe/gpu/rasr_weights.hpp"
#include "lethe/gpu/round_compaction.hpp"
#include "row_kernels.cuh"
#include "stepper.hpp"

namespace cuda_decode {

/// Blocks that share a head's tokens: enough of them to keep every processor at four blocks.
[[nodiscard]] inline std::uint32_t splits_of(std::uint32_t capacity, std::uint32_t blocks,
                                             std::uint32_t processors) {
  const std::uint32_t wanted = (4 * processors + blocks - 1) / blocks;
  const std::uint32_t most = std::min(most_splits, (capacity + 63) / 64);
  return std::clamp<std::uint32_t>(wanted, 1, most);
}

template <Device D, class Numbers>
class Engine final : public Stepper {
 public:
  using Weight = typename Numbers::Weight;
  using Cached = typename Numbers::Cached;
  using Model = DeviceModel<D, Weight>;

  /// Takes all the memory that its steps need.
  Engine(D& device, const Model& model, const StepperSettings& settings)
      : device_(device),
        pieces_(device),
        model_(model),
        config_(model.config()),
        settings_(settings),
        shape_{config_.heads, config_.kv_heads, config_.head_dim, config_.rope_channels,
               config_.rope_pairs == decoder::RopePairs::halves} {
    check();
    if (settings_.drawn == 0) settings_.drawn = config_.vocabulary;
    place_lethe();
    place_activations();
    place_attention();
    if (settings_.pruning) weights_.assign(settings_.rows, RasrWeights(settings_.pruning->score));
    held_.assign(settings_.rows, 0);
    room_.assign(settings_.rows, 0);
  }

  void start(std::span<const std::uint32_t> slots) override {
    check_rows(slots.size());
    std::vector<RowToken> rows;
    for (const std::uint32_t slot : slots) {
      check_slot(slot);
      if (settings_.pruning) weights_[slot].reset();
      held_[slot] = 0;
      room_[slot] = 0;
      rows.push_back({static_cast<std::int32_t>(slot), 0});
    }
    take(rows, {});
    device_.start(state_, batch_, threshold());
  }

  // [step]
  void step(std::span<const RowToken> rows) override {
    admit(rows);
    take(rows, weights_of(rows));
    if (settings_.pruning && lacks_room(rows)) make_room(rows);
    device_.append(state_, batch_);
    embed();
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
      attend(layer);
      if (settings_.pruning) observe(layer);
      add_attention(layer);
      feed_forward(layer);
    }
    draw();
    commit(rows);
  }
  // [step]

  [[nodiscard]] std::vector<std::int32_t> likeliest() override {
    std::vector<std::int32_t> tokens(batch_.rows);
    device_.download(tokens.data(), drawn_, tokens.size() * sizeof(tokens[0]));
    return tokens;
  }
  [[nodiscard]] std::vector<float> logits(std::uint32_t row) override {
    if (row >= batch_.rows)
      throw decoder::Error("row " + std::to_string(row) + ": the last step had " +
                           std::to_string(batch_.rows) + ", counted from 0");
    std::vector<float> logits(config_.vocabulary);
    device_.download(logits.data(), logits_ + std::size_t{row} * config_.vocabulary,
                     logits.size() * sizeof(logits[0]));
    return logits;
  }
  [[nodiscard]] std::vector<std::uint32_t> lengths(std::uint32_t slot) override {
    check_slot(slot);
    std::vector<std::uint32_t> all(std::size_t{config_.layers} * settings_.rows);
    device_.download(all.data(), state_.lengths, all.size() * sizeof(all[0]));
    std::vector<std::uint32_t> lengths;
    for (std::size_t i = slot; i < all.size(); i += settings_.rows) lengths.push_back(all[i]);
    return lengths;
  }

  void place(std::uint32_t tokens, std::uint32_t context) override {
    if (tokens > std::min(settings_.capacity, context))
      throw decoder::Error(std::to_string(tokens) + " tokens of " + std::to_string(context) +
                           " read, in a cache of " + std::to_string(settings_.capacity) +
                           ": place fewer");
    const std::size_t count = cache_channels();
    const Fill<Cached> keys{.to = keys_, .count = count, .scale = 1.0f, .seed = 1};
    const Fill<Cached> values{.to = values_, .count = count, .scale = 1.0f, .seed = 1 + count};
    device_.launch(keys, {keys.blocks()});
    device_.launch(values, {values.blocks()});
    device_.launch(PlaceTokens{state_, tokens, context, threshold()},
                   {config_.layers, settings_.rows});
    const std::vector<std::int32_t> first(settings_.rows, 0);
    device_.upload(likeliest_, first.data(), first.size() * sizeof(first[0]));
    for (RasrWeights& weights : weights_) weights.reset();
    held_.assign(settings_.rows, tokens);
    room_.assign(settings_.rows, 0);
  }
  [[nodiscard]] double time(std::uint32_t steps) override {
    device_.start_clock();
    run(steps);
    return device_.stop_clock();
  }
  [[nodiscard]] PhaseSeconds time_phases(std::uint32_t steps) override {
    PhaseSeconds sum{};
    for (std::uint32_t i = 0; i < steps; ++i) {
      device_.start_phases();
      run(1);
      const PhaseSeconds more = device_.stop_phases();
      for (std::size_t phase = 0; phase < phase_count; ++phase) sum[phase] += more[phase];
    }
    return sum;
  }

 private:
  using RasrWeights = lethe::gpu::RasrWeights;
  using QueryWeight = lethe::gpu::QueryWeight;

  void check() const {
    const auto refuse_unless = [](bool good, const std::string& what) {
      if (!good) throw decoder::Error(what);
    };
    const std::string rows = std::to_string(settings_.rows);
    refuse_unless(settings_.rows >= 1 && settings_.rows <= most_rows,
                  "a batch of " + rows + " sequences: give 1 to " + std::to_string(most_rows));
    refuse_unless(settings_.capacity >= 2, "a capacity of fewer than 2 tokens: give more");
    const std::uint32_t channels = config_.head_dim;
    refuse_unless(channels % octet_channels == 0 && channels >= 2 * octet_channels &&
                      channels <= FinishHeads<Cached>::most_channels,
                  "heads of " + std::to_string(channels) +
                      " channels: use a model whose heads have a multiple of 8, 16 to 256");
  }

  [[nodiscard]] std::uint32_t threshold() const {
    if (!settings_.pruning) return 0;
    const std::size_t first = settings_.pruning->plan.policy.first_threshold;
    return static_cast<std::uint32_t>(std::min<std::size_t>(first, settings_.capacity));
  }
  [[nodiscard]] std::size_t cache_channels() const {
    return std::size_t{config_.layers} * settings_.rows * config_.kv_heads * settings_.capacity *
           config_.head_dim;
  }

  template <class T>
  [[nodiscard]] T* rows_of(std::size_t columns) {
    return pieces_.template take<T>(settings_.rows * columns);
  }

  void place_lethe() {
    const lethe::gpu::StateShape shape{.layers = config_.layers,
                                       .slots = settings_.rows,
                                       .capacity = settings_.capacity,
                                       .scores = settings_.pruning.has_value()};
    std::size_t bytes = 0;
    require(lethe::gpu::place_state(shape, nullptr, bytes, state_));
    auto* memory = pieces_.template take<std::byte>(bytes);
    require(lethe::gpu::place_state(shape, memory, bytes, state_));
    if (settings_.pruning) {
      require(lethe::gpu::place_plans(shape, nullptr, bytes, plans_));
      memory = pieces_.template take<std::byte>(bytes);
      require(lethe::gpu::place_plans(shape, memory, bytes, plans_));
    }
    slots_ = rows_of<std::int32_t>(1);
    query_weights_ = rows_of<QueryWeight>(1);
    batch_.slot_of_row = slots_;
  }

  static void require(const lethe::gpu::Status& status) {
    if (!status.ok())
      throw decoder::Error(std::string(status.call) + ": " + std::string(status.remedy));
  }

  void place_activations() {
    keys_ = pieces_.template take<Cached>(cache_channels());
    values_ = pieces_.template take<Cached>(cache_channels());
    const std::size_t heads = std::size_t{config_.heads} * config_.head_dim;
    tokens_ = rows_of<std::int32_t>(1);
    drawn_ = rows_of<std::int32_t>(1);
    likeliest_ = rows_of<std::int32_t>(1);
    residual_ = rows_of<float>(config_.width);
    input_ = rows_of<Weight>(std::max<std::size_t>({config_.width, config_.feed_forward, heads}));
    projected_ = rows_of<float>(std::max<std::size_t>(std::size_t{shape_.all()} * shape_.head_dim,
                                                      2 * std::size_t{config_.feed_forward}));
    queries_ = rows_of<float>(heads);
    cosines_ = rows_of<float>(config_.rope_channels / 2);
    sines_ = rows_of<float>(config_.rope_channels / 2);
    logits_ = rows_of<float>(config_.vocabulary);
  }

  void place_attention() {
    const std::uint32_t blocks = settings_.rows * config_.kv_heads;
    const std::uint32_t splits = splits_of(settings_.capacity, blocks, device_.processors());
    const std::size_t parts = std::size_t{config_.heads} * splits;
    attention_.splits = splits;
    attention_.split_tokens = (settings_.capacity + splits - 1) / splits;
    attention_.maxima = rows_of<float>(parts);
    attention_.sums = rows_of<float>(parts);
    attention_.outputs = rows_of<float>(parts * config_.head_dim);
    attention_.lse = rows_of<float>(config_.heads);
    if (settings_.pruning)
      attention_.logits = rows_of<float>(std::size_t{config_.heads} * settings_.capacity);
  }

  void admit(std::span<const RowToken> rows) const {
    check_rows(rows.size());
    for (const RowToken& row : rows) {
      if (row.slot >= 0) admit(row);
    }
  }

  void admit(const RowToken& row) const {
    const auto slot = static_cast<std::uint32_t>(row.slot);
    check_slot(slot);
    if (row.token >= static_cast<std::int32_t>(config_.vocabulary))
      throw decoder::Error("token " + std::to_string(row.token) +
                           " is outside the model's vocabulary of " +
                           std::to_string(config_.vocabulary));
    if (!settings_.pruning && held_[slot] >= settings_.capacity)
      throw decoder::Error("the cache holds " + std::to_string(settings_.capacity) +
                           " tokens a layer: end the sequence, or prune it");
  }

  void check_rows(std::size_t rows) const {
    if (rows > settings_.rows)
      throw decoder::Error(std::to_string(rows) +
                           " are more rows than the batch has: give at most " +
                           std::to_string(settings_.rows));
  }

  void check_slot(std::uint32_t slot) const {
    if (slot >= settings_.rows)
      throw decoder::Error("slot " + std::to_string(slot) + ": there are " +
                           std::to_string(settings_.rows) + ", counted from 0");
  }

  /// What each row's query weighs in the scores; asked once a step.
  [[nodiscard]] std::vector<QueryWeight> weights_of(std::span<const RowToken> rows) {
    std::vector<QueryWeight> weights;
    if (!settings_.pruning) return weights;
    for (const RowToken& row : rows) {
      weights.push_back(row.slot < 0 ? QueryWeight{}
                                     : weights_[static_cast<std::size_t>(row.slot)].of(0));
    }
    return weights;
  }

  void take(std::span<const RowToken> rows, const std::vector<QueryWeight>& weights) {
    device_.begin(Phase::rows);
    TakeRows kernel{.count = static_cast<std::uint32_t>(rows.size()),
                    .likeliest = likeliest_,
                    .slots = slots_,
                    .tokens = tokens_,
                    .weights = query_weights_};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      kernel.rows[i] = {rows[i].slot, rows[i].token, {}};
      if (!weights.empty()) kernel.rows[i].weight = weights[i];
    }
    batch_.rows = kernel.count;
    device_.launch(kernel, {});
  }

  [[nodiscard]] std::size_t& room_of(const RowToken& row) {
    return room_[static_cast<std::size_t>(row.slot)];
  }
  [[nodiscard]] bool lacks_room(std::span<const RowToken> rows) {
    return std::any_of(rows.begin(), rows.end(),
                       [this](const RowToken& row) { return row.slot >= 0 && room_of(row) == 0; });
  }

  // [make_room]
  void make_room(std::span<const RowToken> rows) {
    device_.begin(Phase::plan);
    device_.plan(
        {.state = state_, .batch = batch_, .settings = settings_.pruning->plan, .plans = plans_});
    device_.begin(Phase::compact);
    lethe::gpu::Compaction compaction = lethe::gpu::compaction_of(state_, plans_, batch_);
    compaction.strips[compaction.strip_count++] = strips(keys_);
    compaction.strips[compaction.strip_count++] = strips(values_);
    device_.compact(compaction);
    device_.begin(Phase::rows);
    for (const RowToken& row : rows) {
      if (row.slot >= 0) room_of(row) = settings_.pruning->plan.step_tokens;
    }
  }
  // [make_room]

  /// [layer][slot][kv head][capacity][channel]
  [[nodiscard]] lethe::gpu::StripArray strips(Cached* rows) const {
    const std::size_t row = config_.head_dim * sizeof(Cached);
    const std::size_t head = row * settings_.capacity;
    return {.base = reinterpret_cast<std::byte*>(rows),
            .row_bytes = static_cast<std::uint32_t>(row),
            .heads = config_.kv_heads,
            .token_stride = row,
            .head_stride = head,
            .slot_stride = head * config_.kv_heads,
            .layer_stride = head * config_.kv_heads * settings_.rows};
  }

  [[nodiscard]] LayerCache<Cached> cache(std::uint32_t layer) const {
    const std::size_t first = cache_channels() / config_.layers * layer;
    return {keys_ + first, values_ + first, settings_.capacity};
  }

  void embed() {
    device_.launch(Angles{state_.next_positions, slots_, model_.frequencies(), cosines_, sines_,
                          config_.rope_channels / 2},
                   {batch_.rows});
    device_.launch(Embed<Weight>{model_.embedding(), tokens_, residual_, config_.width},
                   {batch_.rows});
  }

  void norm(const float* weights) {
    device_.begin(Phase::rows);
    device_.launch(
        NormRows<Weight>{residual_, weights, input_, config_.width, config_.norm_epsilon},
        {batch_.rows});
  }

  void multiply(const Weight* weights, float* out, std::uint32_t outputs, std::uint32_t inputs) {
    device_.begin(Phase::products);
    device_.multiply(
        Product<Weight>{weights, input_, out, batch_.rows, outputs, inputs, out == residual_});
  }

  void attend(std::uint32_t layer) {
    norm(model_.layer(layer).attention_norm);
    multiply(model_.layer(layer).heads, projected_, shape_.all() * shape_.head_dim, config_.width);
    finish_heads(layer);
    device_.begin(Phase::attention);
    if (shape_.heads / shape_.kv_heads <= 4) {
      attend_in_slices<4>(layer);
    } else {
      attend_in_slices<8>(layer);
    }
    device_.launch(MergeSplits<Weight>{shape_, state_, layer, slots_, attention_, input_},
                   {config_.heads, batch_.rows});
  }

  template <unsigned Heads>
  void attend_in_slices(std::uint32_t layer) {
    const Attend<Cached, Heads> kernel{shape_,   state_,       layer,     slots_,
                                       queries_, cache(layer), attention_};
    device_.launch(kernel, kernel.grid(batch_.rows));
  }

  void finish_heads(std::uint32_t layer) {
    device_.begin(Phase::rows);
    const DeviceLayer<Weight>& weights = model_.layer(layer);
    device_.launch(FinishHeads<Cached>{.shape = shape_,
                                       .state = state_,
                                       .layer = layer,
                                       .slots = slots_,
                                       .projected = projected_,
                                       .bias = weights.bias,
                                       .query_norm = weights.query_norm,
                                       .key_norm = weights.key_norm,
                                       .epsilon = config_.norm_epsilon,
                                       .cosines = cosines_,
                                       .sines = sines_,
                                       .queries = queries_,
                                       .cache = cache(layer)},
                   {shape_.all(), batch_.rows});
  }

  void observe(std::uint32_t layer) {
    device_.begin(Phase::observe);
    const std::uint32_t tiles =
        (settings_.capacity + RecordMass::threads - 1) / RecordMass::threads;
    device_.launch(RecordMass{{state_, batch_, layer, query_weights_},
                              attention_.logits,
                              attention_.lse,
                              config_.heads},
                   {tiles, batch_.rows});
  }

  void add_attention(std::uint32_t layer) {
    multiply(model_.layer(layer).output, residual_, config_.width,
             config_.heads * config_.head_dim);
  }

  void feed_forward(std::uint32_t layer) {
    const DeviceLayer<Weight>& weights = model_.layer(layer);
    norm(weights.feed_forward_norm);
    multiply(weights.gates_ups, projected_, 2 * config_.feed_forward, config_.width);
    device_.begin(Phase::rows);
    const GateRows<Weight> gate{projected_, input_, config_.feed_forward};
    device_.launch(gate, gate.grid(batch_.rows));
    multiply(weights.down, residual_, config_.width, config_.feed_forward);
  }

  void draw() {
    norm(model_.output_norm());
    multiply(model_.output(), logits_, config_.vocabulary, config_.width);
    device_.begin(Phase::rows);
    device_.launch(
        Likeliest{logits_, slots_, drawn_, likeliest_, config_.vocabulary, settings_.drawn},
        {batch_.rows});
  }

  /// The step's queries count now, and its tokens.
  void commit(std::span<const RowToken> rows) {
    for (const RowToken& row : rows) {
      if (row.slot < 0) continue;
      const auto slot = static_cast<std::size_t>(row.slot);
      ++held_[slot];
      if (!settings_.pruning) continue;
      --room_[slot];
      weights_[slot].commit(1);
    }
  }

  void run(std::uint32_t steps) {
    std::vector<RowToken> rows(settings_.rows);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].slot = static_cast<std::int32_t>(i);
    for (std::uint32_t i = 0; i < steps; ++i) step(rows);
  }

  D& device_;
  Pieces<D> pieces_;
  const Model& model_;
  const decoder::ModelConfig& config_;
  StepperSettings settings_;
  HeadShape shape_;
  lethe::gpu::State state_{};
  lethe::gpu::PlanBuffers plans_{};
  lethe::gpu::Batch batch_{};
  AttentionBuffers attention_{};
  std::vector<RasrWeights> weights_;
  std::vector<std::uint32_t> held_;  ///< tokens of each slot that is not pruned
  std::vector<std::size_t> room_;    ///< tokens of each slot until it has to be in a round
  std::int32_t* slots_ = nullptr;
  QueryWeight* query_weights_ = nullptr;
  Cached* keys_ = nullptr;
  Cached* values_ = nullptr;
  std::int32_t* tokens_ = nullptr;
  std::int32_t* drawn_ = nullptr;
  std::int32_t* likeliest_ = nullptr;
  float* residual_ = nullptr;
  Weight* input_ = nullptr;
  float* projected_ = nullptr;
  float* queries_ = nullptr;
  float* cosines_ = nullptr;
  float* sines_ = nullptr;
  float* logits_ = nullptr;
};

}  // namespace cuda_decode

#include "decoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <lethe/numeric.hpp>

#include "attention.hpp"
#include "error.hpp"
#include "products.hpp"
#include "rope.hpp"
#include "stopwatch.hpp"
#include "thread_pool.hpp"

namespace decoder {
namespace {

// Rows that are worth waking another thread for, where a row is a microsecond of work.
constexpr std::size_t rows_per_task = 4;

// New tokens of one sequence, and the first of their rows in the batch's activations.
struct Slice {
  Sequence* sequence = nullptr;  // null where the cache is paged
  std::span<const std::int32_t> tokens;
  std::size_t first_row = 0;
  std::size_t position = 0;
  PagedCache* paged = nullptr;
  Pruner* pruner = nullptr;  // null where every token stays
};

Pruner* pruner_of(Sequence& sequence) noexcept {
  return sequence.pruner ? &sequence.pruner : nullptr;
}

// One pass without branches, since every token pays for it.
void check_logits(std::span<const float> logits) {
  std::uint32_t odd = 0;
  for (const float logit : logits) odd |= lethe::is_finite(logit) ? 0u : 1u;
  if (odd != 0) {
    throw Error("the logits are not all numbers; the model file is damaged or unsupported");
  }
}

void add(const std::vector<float>& bias, float* to) noexcept {
  for (std::size_t i = 0; i < bias.size(); ++i) to[i] += bias[i];
}

}  // namespace

struct Decoder::State {
  State(const Model& used, unsigned threads)
      : model(used), config(used.config()), pool(threads), attention(config, pool) {}

  std::span<const float> forward(std::span<const Slice> slices, LogitsOf wanted,
                                 const LayerHooks& hooks = {});
  void prepare(std::span<const Slice> slices);
  void make_room(const Slice& slice);
  void attend(std::size_t index, std::span<const Slice> slices, const LayerHooks& hooks);
  void attend_rows(std::size_t index, std::span<const Slice> slices);
  void observe(std::size_t layer, std::size_t slice, Pruner* pruner);
  void tell(std::size_t layer, const Slice& slice) const;
  void commit(const Slice& slice);
  void feed_forward(std::size_t index);
  std::span<const float> logits(std::span<const Slice> slices, LogitsOf wanted);
  void add_product(const Matrix& matrix);
  void finish_heads(const LayerWeights& layer, std::size_t row);
  void finish_head(const std::vector<float>& norm, std::size_t row, float* head) const;
  void store(std::size_t layer, const Slice& slice);
  void check(std::span<const std::int32_t> tokens) const;

  // The norm of `count` rows: row_of(i) is the i-th of them.
  template <class RowOf>
  void norm_into_input(const std::vector<float>& weight, std::size_t count, const RowOf& row_of) {
    input.resize(count, config.width);
    for_rows(count, [&](std::size_t i) {
      kernels::rms_norm(&residual[row_of(i) * config.width], weight.data(), config.width,
                        config.norm_epsilon, input.row(i));
      input.quantise(i);
    });
  }

  template <class Body>
  void for_rows(std::size_t count, const Body& body) {
    pool.parallel_for(count, rows_per_task, [&](std::size_t first, std::size_t last) {
      for (std::size_t row = first; row < last; ++row) body(row);
    });
  }

  const Model& model;
  const ModelConfig& config;
  ThreadPool pool;
  Attention attention;
  Rope rope;
  Timings timings;
  std::size_t rows = 0;
  std::size_t channels = 0;              // of a cache row
  std::vector<float> residual;           // [rows][width]
  std::vector<float> queries;            // [rows][heads][head_dim]: rotated in place
  std::vector<float> keys;               // [rows][kv_heads][head_dim]
  std::vector<float> values;             // [rows][kv_heads][head_dim]
  std::vector<float> attention_queries;  // [rows][heads][channels]: rotated, scaled, padded
  std::vector<float> attended;           // [rows][heads][head_dim]
  std::vector<float> gates;              // [rows][feed_forward]
  std::vector<float> ups;                // [rows][feed_forward]
  std::vector<float> added;              // [rows][width]
  std::vector<float> all_logits;
  std::vector<AttentionTask> tasks;
  std::vector<std::size_t> logit_rows;
  ProductInput input;
};

// One step: every new token of every slice goes through all layers.
std::span<const float> Decoder::State::forward(std::span<const Slice> slices, LogitsOf wanted,
                                               const LayerHooks& hooks) {
  prepare(slices);
  for (const Slice& slice : slices) make_room(slice);
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    attend(layer, slices, hooks);
    for (std::size_t i = 0; i < slices.size(); ++i) observe(layer, i, slices[i].pruner);
    for (const Slice& slice : slices) tell(layer, slice);
    feed_forward(layer);
  }
  for (const Slice& slice : slices) commit(slice);
  return logits(slices, wanted);
}

void Decoder::State::make_room(const Slice& slice) {
  if (slice.sequence == nullptr || slice.pruner == nullptr) return;
  Sequence& sequence = *slice.sequence;
  const TimeInto watch(timings.make_room);
  sequence.pruner.make_room(sequence.cache, slice.tokens.size(), sequence.on_round);
}

void Decoder::State::attend(std::size_t index, std::span<const Slice> slices,
                            const LayerHooks& hooks) {
  const LayerWeights& layer = model.layer(index);
  norm_into_input(layer.attention_norm, rows, std::identity());
  multiply(
      pool, input,
      {{&layer.query, queries.data()}, {&layer.key, keys.data()}, {&layer.value, values.data()}});
  for_rows(rows, [&](std::size_t row) { finish_heads(layer, row); });
  if (hooks.before) hooks.before(index);
  attend_rows(index, slices);
  if (hooks.after) hooks.after(index);
  const std::size_t width = std::size_t{config.heads} * config.head_dim;
  input.resize(rows, width);
  for_rows(rows, [&](std::size_t row) {
    std::copy_n(&attended[row * width], width, input.row(row));
    input.quantise(row);
  });
  add_product(layer.attention_output);
}

void Decoder::State::attend_rows(std::size_t index, std::span<const Slice> slices) {
  const TimeInto watch(timings.attention);
  for (const Slice& slice : slices) store(index, slice);
  attention.run(index, tasks, attention_queries.data(), attended.data());
}

void Decoder::State::observe(std::size_t layer, std::size_t slice, Pruner* pruner) {
  if (pruner == nullptr) return;
  const TimeInto watch(timings.observe);
  const std::size_t first = tasks[slice].first_row * config.heads * config.head_dim;
  pruner->observe(layer, attention.observed(slice), &queries[first], config.head_dim);
}

void Decoder::State::tell(std::size_t layer, const Slice& slice) const {
  if (slice.sequence == nullptr || !slice.sequence->on_layer) return;
  const std::size_t heads = slice.first_row * config.heads;
  const std::size_t kv_heads = slice.first_row * config.kv_heads;
  slice.sequence->on_layer({.layer = layer,
                            .tokens = slice.tokens.size(),
                            .queries = &queries[heads * config.head_dim],
                            .keys = &keys[kv_heads * config.head_dim],
                            .values = &values[kv_heads * config.head_dim],
                            .lse = &attention.lse()[heads]});
}

void Decoder::State::commit(const Slice& slice) {
  if (slice.sequence != nullptr) slice.sequence->position += slice.tokens.size();
  if (slice.pruner == nullptr) return;
  const TimeInto watch(timings.commit);
  slice.pruner->commit();
}

void Decoder::State::feed_forward(std::size_t index) {
  const LayerWeights& layer = model.layer(index);
  norm_into_input(layer.feed_forward_norm, rows, std::identity());
  multiply(pool, input, {{&layer.gate, gates.data()}, {&layer.up, ups.data()}});
  input.resize(rows, config.feed_forward);
  for_rows(rows, [&](std::size_t row) {
    const std::size_t first = row * config.feed_forward;
    kernels::silu_multiply(&gates[first], &ups[first], config.feed_forward);
    std::copy_n(&gates[first], config.feed_forward, input.row(row));
    input.quantise(row);
  });
  add_product(layer.down);
}

std::span<const float> Decoder::State::logits(std::span<const Slice> slices, LogitsOf wanted) {
  const TimeInto watch(timings.logits);
  logit_rows.clear();
  for (const Slice& slice : slices) {
    const std::size_t last = slice.first_row + slice.tokens.size() - 1;
    for (std::size_t row = wanted == LogitsOf::all ? slice.first_row : last; row <= last; ++row) {
      logit_rows.push_back(row);
    }
  }
  norm_into_input(model.output_norm(), logit_rows.size(),
                  [&](std::size_t i) { return logit_rows[i]; });
  all_logits.resize(logit_rows.size() * config.vocabulary);
  multiply(pool, input, {{&model.output(), all_logits.data()}});
  check_logits(all_logits);
  return all_logits;
}

void Decoder::State::add_product(const Matrix& matrix) {
  multiply(pool, input, {{&matrix, added.data()}});
  kernels::add_scaled(residual.data(), added.data(), rows * config.width, 1.0f);
}

// Bias, norm and rotation of one token's queries and keys.
void Decoder::State::finish_heads(const LayerWeights& layer, std::size_t row) {
  const std::size_t size = config.head_dim;
  add(layer.query_bias, &queries[row * config.heads * size]);
  add(layer.key_bias, &keys[row * config.kv_heads * size]);
  add(layer.value_bias, &values[row * config.kv_heads * size]);
  for (std::size_t head = row * config.kv_heads; head < (row + 1) * config.kv_heads; ++head) {
    finish_head(layer.key_norm, row, &keys[head * size]);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  for (std::size_t head = row * config.heads; head < (row + 1) * config.heads; ++head) {
    finish_head(layer.query_norm, row, &queries[head * size]);
    for (std::size_t i = 0; i < size; ++i) {
      attention_queries[head * channels + i] = queries[head * size + i] * scale;
    }
  }
}

void Decoder::State::finish_head(const std::vector<float>& norm, std::size_t row,
                                 float* head) const {
  if (!norm.empty()) {
    kernels::rms_norm(head, norm.data(), config.head_dim, config.norm_epsilon, head);
  }
  rope.rotate(row, config.rope_pairs, head);
}

// Appends the slice's keys and values to its cache.
void Decoder::State::store(std::size_t layer, const Slice& slice) {
  const std::size_t first = slice.first_row * config.kv_heads * config.head_dim;
  if (slice.paged != nullptr) {
    slice.paged->append(layer, slice.tokens.size(), &keys[first], &values[first]);
  } else {
    slice.sequence->cache.append(layer, slice.tokens.size(), &keys[first], &values[first]);
  }
}

// Embeddings, angles and scratch memory for a step.
void Decoder::State::prepare(std::span<const Slice> slices) {
  rows = slices.back().first_row + slices.back().tokens.size();
  const Slice& any = slices.front();
  channels = any.paged != nullptr ? any.paged->channels() : any.sequence->cache.channels();
  residual.resize(rows * config.width);
  added.resize(rows * config.width);
  queries.resize(rows * config.heads * config.head_dim);
  attended.resize(queries.size());
  attention_queries.resize(rows * config.heads * channels);
  keys.resize(rows * config.kv_heads * config.head_dim);
  values.resize(keys.size());
  gates.resize(rows * config.feed_forward);
  ups.resize(gates.size());
  tasks.clear();
  std::vector<std::size_t> positions;
  for (const Slice& slice : slices) {
    const Sequence* sequence = slice.sequence;
    tasks.push_back({sequence != nullptr ? &sequence->cache : nullptr, slice.tokens.size(),
                     slice.first_row, slice.pruner != nullptr, slice.paged});
    for (std::size_t i = 0; i < slice.tokens.size(); ++i) {
      model.embed(static_cast<std::size_t>(slice.tokens[i]),
                  &residual[(slice.first_row + i) * config.width]);
      positions.push_back(slice.position + i);
    }
  }
  rope.set_positions(model.rope_frequencies(), positions);
}

void Decoder::State::check(std::span<const std::int32_t> tokens) const {
  if (tokens.empty()) throw Error("nothing to decode: give at least one token");
  for (const std::int32_t token : tokens) {
    if (token < 0 || static_cast<std::uint32_t>(token) >= config.vocabulary) {
      throw Error("token " + std::to_string(token) + " is outside the model's vocabulary of " +
                  std::to_string(config.vocabulary));
    }
  }
}

Timings& Timings::operator+=(const Timings& more) noexcept {
  total += more.total;
  make_room += more.make_room;
  observe += more.observe;
  commit += more.commit;
  attention += more.attention;
  logits += more.logits;
  return *this;
}

Decoder::Decoder(const Model& model, unsigned threads)
    : state_(std::make_unique<State>(model, threads)) {}
Decoder::~Decoder() = default;

std::span<const float> Decoder::prefill(Sequence& sequence, std::span<const std::int32_t> tokens,
                                        LogitsOf logits) {
  state_->check(tokens);
  const TimeInto watch(state_->timings.total);
  const std::size_t vocabulary = state_->config.vocabulary;
  std::vector<float> all;
  std::span<const float> out;
  const std::size_t chunk = sequence.pruner.chunk_tokens();
  for (std::size_t first = 0; first < tokens.size(); first += chunk) {
    const std::size_t count = std::min(chunk, tokens.size() - first);
    const Slice slice{.sequence = &sequence,
                      .tokens = tokens.subspan(first, count),
                      .position = sequence.position,
                      .pruner = pruner_of(sequence)};
    out = state_->forward({&slice, 1}, logits);
    if (logits == LogitsOf::all && tokens.size() > chunk) {
      all.reserve(tokens.size() * vocabulary);
      all.insert(all.end(), out.begin(), out.end());
    }
  }
  if (all.empty()) return out;
  state_->all_logits = std::move(all);
  return state_->all_logits;
}

std::span<const float> Decoder::step(std::span<Sequence* const> batch,
                                     std::span<const std::int32_t> tokens) {
  state_->check(tokens);
  if (batch.size() != tokens.size()) throw Error("a step takes one token for each sequence");
  const TimeInto watch(state_->timings.total);
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    slices.push_back({.sequence = batch[i],
                      .tokens = tokens.subspan(i, 1),
                      .first_row = i,
                      .position = batch[i]->position,
                      .pruner = pruner_of(*batch[i])});
  }
  return state_->forward(slices, LogitsOf::all);
}

std::span<const float> Decoder::step(Sequence& sequence, std::int32_t token) {
  Sequence* const batch[] = {&sequence};
  return step(batch, {&token, 1});
}

std::span<const float> Decoder::step(std::span<const PagedPart> parts, const LayerHooks& hooks) {
  const TimeInto watch(state_->timings.total);
  std::vector<Slice> slices;
  std::size_t row = 0;
  for (const PagedPart& part : parts) {
    state_->check(part.tokens);
    const bool prunes = part.pruner != nullptr && *part.pruner;
    slices.push_back({.tokens = part.tokens,
                      .first_row = row,
                      .position = part.position,
                      .paged = part.cache,
                      .pruner = prunes ? part.pruner : nullptr});
    row += part.tokens.size();
  }
  return state_->forward(slices, LogitsOf::last, hooks);
}

unsigned Decoder::threads() const noexcept { return state_->pool.threads(); }
const Timings& Decoder::timings() const noexcept { return state_->timings; }
void Decoder::reset_timings() noexcept { state_->timings = {}; }

}  // namespace decoder

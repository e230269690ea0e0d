#include "replay.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "interrupt.hpp"
#include "progress.hpp"

namespace decoder {
namespace {

using nlohmann::json;

// Halves of keys and queries move a log-sum-exp by less; another scale or rotation by far more.
constexpr float lse_tolerance = 0.25f;
constexpr float lse_relative_tolerance = 0.02f;

Pruner pruner_of(const Recording& recording, const ReplayChoice& choice) {
  return make_pruner(choice.policy,
                     {.budget = choice.tokens,
                      .pinned = choice.is_pinned ? recording.prompt_tokens() : 0,
                      .rope_frequencies = recording.rope_frequencies(),
                      .scale = recording.scale()},
                     recording.model());
}

double distance(const float* a, const float* b, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double apart = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += apart * apart;
  }
  return std::sqrt(sum);
}

double length(const float* a, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  return std::sqrt(sum);
}

/// Mean over heads of the attention that a pruned cache has no longer.
double lost_mass(const float* whole, const float* pruned, std::size_t heads) {
  double lost = 0;
  for (std::size_t h = 0; h < heads; ++h) {
    lost += std::clamp(-std::expm1(static_cast<double>(pruned[h]) - static_cast<double>(whole[h])),
                       0.0, 1.0);
  }
  return lost / static_cast<double>(heads);
}

}  // namespace

ReplayedPolicy::ReplayedPolicy(const Recording& recording, const ReplayChoice& choice,
                               CacheType type)
    : choice_(choice),
      pruner_(pruner_of(recording, choice)),
      cache_(recording.model(), type, pruner_.most_in_head(recording.tokens())),
      losses_(recording.model().layers) {}

json ReplayedPolicy::results(std::size_t tokens) const {
  json kept = json::array(), mass = json::array(), output = json::array();
  LayerLoss all;
  const double count = static_cast<double>(tokens);
  for (const LayerLoss& layer : losses_) {
    kept.push_back(layer.kept / count);
    mass.push_back(layer.mass / count);
    output.push_back(layer.output / count);
    all.kept += layer.kept;
    all.mass += layer.mass;
    all.output += layer.output;
  }
  const double layers = count * static_cast<double>(losses_.size());
  return {{"policy", choice_.policy},
          {"label", policy_label(choice_.policy)},
          {"budget", choice_.budget},
          {"budget_tokens", choice_.policy == "none" ? cache_.capacity() : choice_.tokens},
          {"pinned", choice_.is_pinned},
          {"kept_share", all.kept / layers},
          {"lost_mass", all.mass / layers},
          {"output_error", all.output / layers},
          {"layers", {{"kept_share", kept}, {"lost_mass", mass}, {"output_error", output}}}};
}

Replay::Replay(const Recording& recording, std::span<const ReplayChoice> choices, CacheType type,
               unsigned threads)
    : recording_(recording),
      model_(recording.model()),
      pool_(threads),
      attention_(model_, pool_),
      whole_(model_, type, recording.tokens()) {
  for (const ReplayChoice& choice : choices)
    policies_.push_back(std::make_unique<ReplayedPolicy>(recording, choice, type));
}

void Replay::run() {
  Progress progress("Replaying", recording_.tokens());
  for (std::size_t first = 0; first < recording_.tokens() && !is_interrupted();) {
    const std::size_t tokens = chunk_at(first);
    step(first, tokens);
    first += tokens;
    progress.advance(tokens);
  }
}

/// A prompt goes in chunks that every policy can make room for, the rest token by token.
std::size_t Replay::chunk_at(std::size_t first) const {
  if (first >= recording_.prompt_tokens()) return 1;
  std::size_t tokens = std::min(Pruner::largest_chunk, recording_.prompt_tokens() - first);
  for (const auto& policy : policies_) tokens = std::min(tokens, policy->pruner().chunk_tokens());
  return tokens;
}

void Replay::step(std::size_t first, std::size_t tokens) {
  tasks_.assign(1, {.cache = &whole_, .tokens = tokens, .first_row = 0, .observed = false});
  for (const auto& policy : policies_) {
    policy->pruner().make_room(policy->cache(), tokens, {});
    tasks_.push_back({.cache = &policy->cache(),
                      .tokens = tokens,
                      .first_row = tasks_.size() * tokens,
                      .observed = static_cast<bool>(policy->pruner())});
  }
  attended_.resize(tasks_.size() * tokens * model_.heads * model_.head_dim);
  for (std::size_t layer = 0; layer < model_.layers; ++layer) {
    load(layer, first, tokens);
    whole_.append(layer, tokens, keys_.data(), values_.data());
    for (const auto& policy : policies_)
      policy->cache().append(layer, tokens, keys_.data(), values_.data());
    attention_.run(layer, tasks_, queries_.data(), attended_.data());
    check_whole(layer, first, tokens);
    if (recording_.layer(layer).lse != nullptr) check_lse(layer, first, tokens);
    observe(layer);
    if (first >= recording_.prompt_tokens()) judge(layer, first, tokens);
  }
  for (const auto& policy : policies_) policy->pruner().commit();
  if (first >= recording_.prompt_tokens()) judged_ += tokens;
}

/// Keys and values as recorded; queries scaled and padded, once for each task.
void Replay::load(std::size_t layer, std::size_t first, std::size_t tokens) {
  const std::size_t channels = whole_.channels(), head_dim = model_.head_dim;
  const std::size_t padded = tokens * model_.heads * channels;
  const RecordedLayer& recorded = recording_.layer(layer);
  queries_.assign(tasks_.size() * padded, 0.0f);
  recorded_queries_.resize(tokens * model_.heads * head_dim);
  keys_.resize(tokens * model_.kv_heads * head_dim);
  values_.resize(keys_.size());
  read_tokens(*recorded.queries, first, recorded_queries_);
  read_tokens(*recorded.keys, first, keys_);
  read_tokens(*recorded.values, first, values_);
  for (std::size_t i = 0; i < recorded_queries_.size(); ++i)
    queries_[i / head_dim * channels + i % head_dim] = recorded_queries_[i] * recording_.scale();
  for (std::size_t task = 1; task < tasks_.size(); ++task)
    std::copy_n(queries_.begin(), padded,
                queries_.begin() + static_cast<std::ptrdiff_t>(task * padded));
}

void Replay::observe(std::size_t layer) {
  for (std::size_t i = 0; i < policies_.size(); ++i)
    policies_[i]->pruner().observe(layer, attention_.observed(i + 1), recorded_queries_.data(),
                                   model_.head_dim);
}

/// Finite numbers can be too large for what is made of them.
void Replay::check_whole(std::size_t layer, std::size_t first, std::size_t tokens) const {
  const auto is_finite = [](float value) { return std::isfinite(value); };
  const std::size_t row = std::size_t{model_.heads} * model_.head_dim;
  const auto lse = attention_.lse().first(tokens * model_.heads);
  const auto outputs = std::span(attended_).first(tokens * row);
  if (std::all_of(lse.begin(), lse.end(), is_finite) &&
      std::all_of(outputs.begin(), outputs.end(), is_finite))
    return;
  throw recording_.error("layer " + std::to_string(layer) + ", from token " +
                         std::to_string(first) +
                         " on: attention is not finite; the numbers are too large");
}

void Replay::judge(std::size_t layer, std::size_t first, std::size_t tokens) {
  const std::size_t heads = model_.heads;
  const std::size_t row = heads * model_.head_dim;
  const double held = static_cast<double>(first + tokens);
  for (std::size_t i = 0; i < policies_.size(); ++i) {
    LayerLoss& loss = policies_[i]->losses()[layer];
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::size_t other = (i + 1) * tokens + t;
      const float* whole = &attended_[t * row];
      const double size = length(whole, row);
      const double apart = distance(whole, &attended_[other * row], row);
      loss.kept += static_cast<double>(policies_[i]->cache().mean_size(layer)) / held;
      loss.mass += lost_mass(&attention_.lse()[t * heads], &attention_.lse()[other * heads], heads);
      loss.output += size > 0 ? apart / size : 0;
    }
  }
}

void Replay::check_lse(std::size_t layer, std::size_t first, std::size_t tokens) const {
  std::vector<float> recorded(tokens * model_.heads);
  read_tokens(*recording_.layer(layer).lse, first, recorded);
  for (std::size_t i = 0; i < recorded.size(); ++i) {
    const float found = attention_.lse()[i];
    const float most = lse_tolerance + lse_relative_tolerance * std::abs(found);
    if (std::abs(found - recorded[i]) <= most) continue;
    throw recording_.error(
        "layer " + std::to_string(layer) + ", token " + std::to_string(first + i / model_.heads) +
        ", head " + std::to_string(i % model_.heads) + ": the recorded log-sum-exp is " +
        std::to_string(recorded[i]) + ", queries and keys give " + std::to_string(found) +
        ": record both rotated, the queries not yet scaled, without a mask but "
        "the causal one");
  }
}

json Replay::results() const {
  json all = json::array();
  for (const auto& policy : policies_) all.push_back(policy->results(judged_));
  return all;
}

}  // namespace decoder

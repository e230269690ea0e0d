#include "teacher.hpp"

#include <algorithm>

#include "interrupt.hpp"
#include "progress.hpp"

namespace decoder {
namespace {

constexpr std::size_t wanted_stretches = 48;

nlohmann::json totals(const FidelityTotals& part) {
  return {{"tokens", part.tokens()},
          {"mean_divergence", part.mean_divergence()},
          {"largest_divergence", part.largest_divergence()},
          {"agreement", part.agreement()},
          {"full_perplexity", part.full_perplexity()},
          {"pruned_perplexity", part.pruned_perplexity()},
          {"perplexity_ratio", part.perplexity_ratio()}};
}

}  // namespace

Follower::Follower(const Workbench& bench, const PolicyChoice& choice, std::size_t tokens)
    : sequence(make_sequence(bench, choice)),
      recorder(bench.model.config().layers, tokens),
      stride_(std::max<std::size_t>(1, tokens / wanted_stretches)) {}

void Follower::add(const TokenFidelity& token, bool is_long_gap, std::size_t index,
                   std::size_t seen) {
  overall_.add(token);
  stretch_.add(token);
  if (is_long_gap) long_gap_.add(token);
  if (!token.agrees && !first_difference_) first_difference_ = index;
  if (stretch_.tokens() == stride_) close_stretch(seen);
}

void Follower::close_stretch(std::size_t seen) {
  seen_.push_back(seen);
  divergence_.push_back(stretch_.mean_divergence());
  disagreement_.push_back(1 - stretch_.agreement());
  stretch_ = {};
}

nlohmann::json Follower::results() const {
  nlohmann::json json{
      {"overall", totals(overall_)},
      {"long_gap", totals(long_gap_)},
      {"mean_bytes", recorder.mean_bytes()},
      {"mean_kept", recorder.mean_kept()},
      {"over_time",
       {{"tokens", seen_}, {"mean_divergence", divergence_}, {"disagreement", disagreement_}}}};
  if (first_difference_) json["first_difference"] = *first_difference_;
  return json;
}

TeacherForcing::TeacherForcing(const Workbench& bench, const std::vector<PolicyChoice>& choices,
                               std::size_t capacity)
    : whole_(std::make_unique<Follower>(bench, PolicyChoice{.policy = "none", .capacity = capacity},
                                        capacity)),
      vocabulary_(bench.model.config().vocabulary) {
  for (const PolicyChoice& choice : choices)
    followers_.push_back(std::make_unique<Follower>(bench, choice, capacity));
  logits_.resize((1 + followers_.size()) * vocabulary_);
}

void TeacherForcing::run(Workbench& bench, std::span<const std::int32_t> prompt,
                         std::span<const std::int32_t> text) {
  LongGapDetector gaps;
  for (const std::int32_t token : prompt) gaps.push(token);
  read_prompt(bench, prompt);
  Progress progress("Comparing", text.size());
  for (std::size_t i = 0; i < text.size() && !is_interrupted(); ++i) {
    compare(text[i], gaps.push(text[i]), i, prompt.size() + i);
    if (i + 1 < text.size()) step(bench, text[i]);
    progress.advance();
  }
}

void TeacherForcing::read_prompt(Workbench& bench, std::span<const std::int32_t> prompt) {
  Progress progress("Reading", prompt.size() * (1 + followers_.size()));
  const auto read = [&](Follower& follower, std::size_t row) {
    const auto logits = read_tokens(bench, follower.sequence, prompt, progress);
    std::copy(logits.begin(), logits.end(),
              logits_.begin() + static_cast<std::ptrdiff_t>(row * vocabulary_));
  };
  read(*whole_, 0);
  for (std::size_t i = 0; i < followers_.size(); ++i) read(*followers_[i], i + 1);
  sample();
}

void TeacherForcing::sample() {
  whole_->recorder.sample(whole_->sequence.cache, whole_->sequence.position);
  for (const auto& follower : followers_)
    follower->recorder.sample(follower->sequence.cache, follower->sequence.position);
}

void TeacherForcing::compare(std::int32_t target, bool is_long_gap, std::size_t index,
                             std::size_t seen) {
  const std::span<const float> all(logits_);
  for (std::size_t i = 0; i < followers_.size(); ++i)
    followers_[i]->add(compare_logits(all.first(vocabulary_),
                                      all.subspan((i + 1) * vocabulary_, vocabulary_), target),
                       is_long_gap, index, seen);
}

void TeacherForcing::step(Workbench& bench, std::int32_t token) {
  std::vector<Sequence*> batch{&whole_->sequence};
  for (const auto& follower : followers_) batch.push_back(&follower->sequence);
  const std::vector<std::int32_t> tokens(batch.size(), token);
  const auto logits = bench.decoder.step(batch, tokens);
  std::copy(logits.begin(), logits.end(), logits_.begin());
  sample();
}

}  // namespace decoder

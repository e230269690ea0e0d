#include "run.hpp"

#include <algorithm>
#include <limits>

#include "interrupt.hpp"
#include "loops.hpp"
#include "machine.hpp"
#include "stopwatch.hpp"

namespace decoder {

nlohmann::json loop_results(std::span<const std::int32_t> text) {
  const LoopReport loops = find_loops(text);
  return {{"verdict", name(loops.verdict)},         {"tokens", loops.tokens},
          {"looped_tokens", loops.looped_tokens},   {"loop_rate", loops.loop_rate},
          {"longest_tokens", loops.longest.tokens}, {"longest_period", loops.longest.period},
          {"ends_in_loop", loops.ends_in_loop},     {"repeated_ngrams", loops.repeated_ngrams}};
}

Run::Run(const Workbench& bench, const PolicyChoice& choice, const SamplingOptions& sampling,
         const Conversation* talk)
    : choice_(choice),
      sequence_(make_sequence(bench, choice)),
      sampler_(
          {.temperature = sampling.temperature, .top_p = sampling.top_p, .seed = sampling.seed}),
      recorder_(bench.model.config().layers, choice.capacity),
      talk_(talk) {
  sequence_.on_round = [this](const lethe::RoundStatistics& round) { recorder_.add(round); };
}

void Run::prefill(Workbench& bench, std::span<const std::int32_t> prompt) {
  const std::size_t before = resident_set_bytes();
  Progress progress("Reading", prompt.size());
  keep_logits(bench, read_tokens(bench, sequence_, prompt, progress));
  note_memory(before);
  recorder_.sample(sequence_.cache, sequence_.position);
  prefill_plan_ = recorder_.plan_seconds();
  prefill_apply_ = recorder_.apply_seconds();
}

void Run::decode(Workbench& bench, std::size_t tokens, std::span<const std::int32_t> given) {
  const std::size_t before = resident_set_bytes();
  const std::size_t first = text_.size();
  bench.decoder.reset_timings();
  const Stopwatch watch;
  for (std::size_t i = 0; i < tokens && !is_interrupted(); ++i) {
    const std::size_t at = text_.size();
    const std::int32_t token = at < given.size() ? given[at] : next(bench);
    take(bench, token);
  }
  const double spent = watch.seconds();
  seconds_ += spent;
  timings_ += bench.decoder.timings();
  note_memory(before);
  if (text_.size() == first) return;
  speed_seen_.push_back(sequence_.position);
  speed_.push_back(static_cast<double>(text_.size() - first) / spent);
}

bool Run::decode_one(Workbench& bench) {
  const Stopwatch watch;
  const std::int32_t token = sampler_(logits_);
  if (bench.tokenizer.is_end(token)) return false;
  bench.decoder.reset_timings();
  take(bench, token);
  seconds_ += watch.seconds();
  timings_ += bench.decoder.timings();
  return true;
}

void Run::take(Workbench& bench, std::int32_t token) {
  keep_logits(bench, bench.decoder.step(sequence_, token));
  text_.push_back(token);
  recorder_.sample(sequence_.cache, sequence_.position);
}

// Some models embed more rows than there are tokens; those must not be drawn.
void Run::keep_logits(const Workbench& bench, std::span<const float> logits) {
  logits_.assign(logits.begin(), logits.end());
  const auto tokens = static_cast<std::ptrdiff_t>(bench.tokenizer.size());
  std::fill(logits_.begin() + tokens, logits_.end(), -std::numeric_limits<float>::infinity());
}

std::int32_t Run::next(const Workbench& bench) {
  if (talk_ == nullptr || talk_->turns.empty()) return draw(bench);
  if (to_read_.empty()) return answer(bench);
  const std::int32_t token = to_read_.front();
  to_read_ = to_read_.subspan(1);
  return token;
}

std::int32_t Run::answer(const Workbench& bench) {
  const bool is_cut = answered_ >= talk_->longest_answer && !bench.ends.empty();
  const std::int32_t token =
      is_cut ? bench.tokenizer.eos().value_or(bench.ends.front()) : sampler_(logits_);
  ++answered_;
  if (!is_cut && !bench.tokenizer.is_end(token)) return token;
  to_read_ = talk_->turns[turn_++ % talk_->turns.size()];
  answered_ = 0;
  return token;
}

std::int32_t Run::draw(const Workbench& bench) {
  for (const std::int32_t end : bench.ends)
    logits_[static_cast<std::size_t>(end)] = -std::numeric_limits<float>::infinity();
  return sampler_(logits_);
}

void Run::note_memory(std::size_t before) {
  const std::size_t after = resident_set_bytes();
  growth_ += static_cast<double>(after) - static_cast<double>(before);
  peak_growth_ = std::max(peak_growth_, growth_);
  peak_resident_set_ = std::max(peak_resident_set_, after);
}

double Run::tokens_per_second() const {
  return seconds_ > 0 ? static_cast<double>(text_.size()) / seconds_ : 0;
}

nlohmann::json Run::phases() const {
  const double plan = recorder_.plan_seconds() - prefill_plan_;
  const double apply = recorder_.apply_seconds() - prefill_apply_;
  const double pruner = timings_.pruner();
  return {{"tokens", text_.size()},
          {"observe_seconds", timings_.observe},
          {"plan_seconds", plan},
          {"apply_seconds", apply},
          {"other_seconds", std::max(0.0, pruner - timings_.observe - plan - apply)},
          {"step_seconds", timings_.total},
          {"share", timings_.total > 0 ? pruner / timings_.total : 0}};
}

nlohmann::json Run::results() const {
  nlohmann::json json{
      {"policy", choice_.policy},
      {"label", policy_label(choice_.policy)},
      {"speed",
       {{"tokens", text_.size()},
        {"seconds", seconds_},
        {"tokens_per_second", tokens_per_second()},
        {"over_time", {{"tokens", speed_seen_}, {"tokens_per_second", speed_}}}}},
      {"memory",
       {{"mean_bytes", recorder_.mean_bytes()},
        {"peak_bytes", recorder_.peak_bytes()},
        {"resident_set_growth", peak_growth_},
        {"resident_set_peak", peak_resident_set_},
        {"over_time", recorder_.bytes_over_time()}}},
      {"kept", {{"mean_tokens", recorder_.mean_kept()}, {"over_time", recorder_.kept_over_time()}}},
      {"rounds", recorder_.rounds()}};
  if (choice_.policy == "none") return json;
  json["budget"] = choice_.budget;
  json["phases"] = phases();
  json["sparsity"] = {{"over_time", recorder_.sparsity_over_time()}};
  return json;
}

}  // namespace decoder

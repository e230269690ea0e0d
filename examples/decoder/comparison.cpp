#include "comparison.hpp"

#include <algorithm>
#include <utility>

#include "embedded_model.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "report_text.hpp"
#include "text_source.hpp"

namespace decoder {
namespace {

using nlohmann::json;

constexpr std::size_t turn_tokens =
    32;  // tokens: short against noise, long against switching caches

constexpr std::size_t shown_bytes = 6000;

std::size_t first_difference(const std::vector<std::int32_t>& a,
                             const std::vector<std::int32_t>& b) {
  const std::size_t shared = std::min(a.size(), b.size());
  const auto stop = a.begin() + static_cast<std::ptrdiff_t>(shared);
  return static_cast<std::size_t>(std::mismatch(a.begin(), stop, b.begin()).first - a.begin());
}

std::vector<std::string> order(const std::vector<std::string>& wanted) {
  std::vector<std::string> policies{"none"};
  for (const std::string& policy : wanted) {
    policy_label(policy);
    if (std::find(policies.begin(), policies.end(), policy) == policies.end())
      policies.push_back(policy);
  }
  if (policies.size() == 1)
    throw Error("--policy none: name at least one policy to compare with the whole cache");
  return policies;
}

}  // namespace

Comparison::Comparison(Workbench& bench, const CompareOptions& options)
    : bench_(bench), options_(options), policies_(order(options.policies)) {
  if (options.text_file.empty()) {
    talk_ = make_conversation(bench, options.prompt, options.is_raw);
    tell(talk_.note);
    prompt_ = talk_.prompt;
    tokens_ = bench.is_embedded ? std::min(options.tokens, embedded_tokens) : options.tokens;
  } else {
    take_file();
  }
  check_context(bench, prompt_.size(), tokens_);
  for (const std::string& policy : policies_)
    runs_.push_back(std::make_unique<Run>(bench_, choose(policy), options_.sampling, &talk_));
}

void Comparison::take_file() {
  TextSource source = read_text(bench_, options_.text_file, options_.tokens);
  prompt_ = std::move(source.prompt);
  given_ = std::move(source.text);
  tokens_ = given_.size();
}

PolicyChoice Comparison::choose(const std::string& policy) const {
  const std::size_t total = prompt_.size() + tokens_;
  return {.policy = policy,
          .budget = parse_budget(options_.budget.budget, total),
          .pinned = options_.budget.is_pinned ? prompt_.size() : 0,
          .capacity = total,
          .seed = options_.sampling.seed};
}

void Comparison::warm_up() {
  // Threads, scratch memory and the weights' pages are there before anything is measured.
  Run run(bench_, choose("none"), options_.sampling);
  run.prefill(bench_, prompt_);
  run.decode(bench_, std::min<std::size_t>(8, tokens_), {});
}

void Comparison::decode() {
  warm_up();
  for (const auto& run : runs_) run->prefill(bench_, prompt_);
  Progress progress("Decoding", tokens_ * runs_.size());
  for (std::size_t done = 0; done < tokens_ && !is_interrupted(); done += turn_tokens) {
    const std::size_t tokens = std::min(turn_tokens, tokens_ - done);
    for (const auto& run : runs_) {
      run->decode(bench_, tokens, given_);
      progress.advance(tokens);
    }
  }
}

void Comparison::follow() {
  std::vector<PolicyChoice> choices;
  for (std::size_t i = 1; i < policies_.size(); ++i) choices.push_back(choose(policies_[i]));
  teacher_ = std::make_unique<TeacherForcing>(bench_, choices, prompt_.size() + tokens_);
  teacher_->run(bench_, prompt_, given_.empty() ? runs_.front()->text() : given_);
}

std::string Comparison::source() const {
  if (!given_.empty()) return "the file " + options_.text_file;
  const SamplingOptions& sampling = options_.sampling;
  const std::string what =
      talk_.turns.empty() ? "a text that the model writes" : "a talk in which the model answers";
  return what + " with its whole cache, drawn at temperature " +
         report::plain(static_cast<double>(sampling.temperature)) + " and top-p " +
         report::plain(static_cast<double>(sampling.top_p)) + " with seed " +
         std::to_string(sampling.seed);
}

json Comparison::written(std::size_t index) const {
  if (!given_.empty()) return nullptr;
  const auto& text = runs_[index]->text();
  const auto& whole = runs_.front()->text();
  json json{{"excerpt", excerpt(bench_.tokenizer.decode(text), shown_bytes)},
            {"loops", loop_results(text)}};
  const std::size_t at = first_difference(text, whole);
  if (at < std::min(text.size(), whole.size())) json["first_difference"] = at;
  return json;
}

json Comparison::run_results(std::size_t index) const {
  const Run& run = *runs_[index];
  const Run& whole = *runs_.front();
  json json = run.results();
  const double speed = whole.tokens_per_second();
  if (speed > 0) json["speed"]["ratio"] = run.tokens_per_second() / speed;
  if (whole.mean_bytes() > 0) json["memory"]["ratio"] = run.mean_bytes() / whole.mean_bytes();
  json["generated"] = written(index);
  if (!teacher_) return json;
  if (index == 0) {
    json["fidelity"] = {{"mean_bytes", teacher_->whole_bytes()}};
  } else {
    json["fidelity"] = teacher_->followers()[index - 1]->results();
  }
  return json;
}

json Comparison::settings() const {
  const PolicyChoice choice = choose("lethe");
  return {{"prompt", talk_.first},
          {"text_file", options_.text_file},
          {"follow_up_turns", talk_.turns.size()},
          {"longest_answer", talk_.longest_answer},
          {"tokens", tokens_},
          {"budget",
           options_.budget.budget + " (" + std::to_string(choice.budget) + " tokens a layer)"},
          {"pinned_prompt_tokens", choice.pinned},
          {"temperature", options_.sampling.temperature},
          {"top_p", options_.sampling.top_p},
          {"seed", options_.sampling.seed},
          {"date", date_now()}};
}

json Comparison::weaknesses() const {
  json weak = json::array(
      {"One text of one model: on others the order of the policies may differ, and small "
       "differences between them are chance.",
       "Teacher forcing looks one token ahead at every place; a text written freely drifts "
       "further, because each run reads its own words.",
       "Speeds are this machine's. Runs take turns of 32 tokens, so that its noise meets all "
       "alike."});
  if (given_.empty()) {
    weak.push_back(
        "The text was written with the whole cache, which therefore predicts it well; texts "
        "by people have higher perplexities.");
  }
  if (!talk_.turns.empty()) {
    weak.push_back(
        "After each answer, cut at " + std::to_string(talk_.longest_answer) +
        " tokens, the next turn of a fixed talk is read; its tokens are part of the text "
        "and of all figures.");
  }
  if (!talk_.note.empty()) weak.push_back(talk_.note);
  return weak;
}

json Comparison::results() const {
  json runs = json::array();
  for (std::size_t i = 0; i < runs_.size(); ++i) runs.push_back(run_results(i));
  const auto& text = runs_.front()->text();
  return {{"kind", "compare"},
          {"version", 1},
          {"interrupted", is_interrupted()},
          {"model", bench_.describe()},
          {"machine", describe_machine(bench_.decoder.threads())},
          {"settings", settings()},
          {"text",
           {{"source", source()},
            {"prompt_tokens", prompt_.size()},
            {"tokens", text.size()},
            {"excerpt", excerpt(bench_.tokenizer.decode(text), shown_bytes)},
            {"loops", loop_results(text)}}},
          {"weak", weaknesses()},
          {"runs", std::move(runs)}};
}

}  // namespace decoder

#include <algorithm>
#include <cstdio>
#include <random>

#include "commands.hpp"
#include "interrupt.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "report_text.hpp"
#include "stopwatch.hpp"
#include "workbench.hpp"

namespace decoder {
namespace {

using nlohmann::json;

constexpr std::size_t turn = 8;  // steps: runs take turns, so that noise meets all alike

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// A text read under one policy, from which batches go on.
class Start {
 public:
  Start(const Workbench& bench, const PolicyChoice& choice)
      : policy_(choice.policy), sequence_(make_sequence(bench, choice)) {}

  void prefill(Workbench& bench, std::span<const std::int32_t> tokens, Progress& progress) {
    const Stopwatch watch;
    read_tokens(bench, sequence_, tokens, progress);
    speed_ = static_cast<double>(tokens.size()) / watch.seconds();
  }

  const std::string& policy() const { return policy_; }
  const Sequence& sequence() const { return sequence_; }
  double tokens_per_second() const { return speed_; }

 private:
  std::string policy_;
  Sequence sequence_;
  double speed_ = 0;
};

/// Sequences of one policy that are decoded in lockstep.
class Batch {
 public:
  Batch(const Start& start, std::size_t size) : start_(start) {
    sequences_.reserve(size);
    while (sequences_.size() < size) sequences_.push_back(fork(start.sequence()));
    for (Sequence& sequence : sequences_) pointers_.push_back(&sequence);
  }

  void decode(Workbench& bench, std::span<const std::int32_t> tokens) {
    bench.decoder.reset_timings();
    const Stopwatch watch;
    for (const std::int32_t token : tokens) {
      const std::vector<std::int32_t> same(sequences_.size(), token);
      bench.decoder.step(pointers_, same);
    }
    const double spent = watch.seconds();
    speeds_.push_back(static_cast<double>(tokens.size() * sequences_.size()) / spent);
    timings_ += bench.decoder.timings();
    for (const Sequence& sequence : sequences_) bytes_ += sequence.cache.resident_bytes();
  }

  double speed() const { return median(speeds_); }

  json results() const {
    return {{"policy", start_.policy()},
            {"label", policy_label(start_.policy())},
            {"prefill_tokens_per_second", start_.tokens_per_second()},
            {"tokens_per_second", speed()},
            {"cache_bytes", static_cast<double>(bytes_) /
                                static_cast<double>(std::max<std::size_t>(1, speeds_.size()))},
            {"pruner_share", timings_.total > 0 ? timings_.pruner() / timings_.total : 0}};
  }

 private:
  const Start& start_;
  std::vector<Sequence> sequences_;
  std::vector<Sequence*> pointers_;
  std::vector<double> speeds_;
  std::size_t bytes_ = 0;
  Timings timings_;
};

/// Tokens drawn evenly: any text would do for speed, and this one needs no file.
std::vector<std::int32_t> random_tokens(const Workbench& bench, std::size_t count) {
  std::mt19937 random(1);
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens)
    token = static_cast<std::int32_t>(random() % bench.model.config().vocabulary);
  return tokens;
}

class Bench {
 public:
  Bench(Workbench& bench, const BenchOptions& options) : bench_(bench), options_(options) {}

  /// Throws for a budget that a policy cannot work with at some context.
  void check() const {
    for (const std::size_t context : options_.contexts)
      for (const std::string& policy : options_.policies)
        make_sequence(bench_, choose(policy, context));
  }

  void measure(std::size_t context) {
    const auto tokens = random_tokens(bench_, context + options_.tokens);
    const std::span<const std::int32_t> all(tokens);
    auto starts = make(context);
    {
      Progress progress("Prefill of " + std::to_string(context), context * starts.size());
      for (Start& start : starts) start.prefill(bench_, all.first(context), progress);
    }
    for (const std::size_t size : options_.batches) {
      if (is_interrupted()) return;
      auto batches = go_on(starts, size);
      decode(batches, all.subspan(context));
      if (!is_interrupted()) note(batches, context, size);
    }
  }

  json results() const {
    return {
        {"kind", "bench"},
        {"interrupted", is_interrupted()},
        {"model", bench_.describe()},
        {"machine", describe_machine(bench_.decoder.threads())},
        {"settings",
         {{"budget", options_.budget.budget}, {"tokens", options_.tokens}, {"date", date_now()}}},
        {"points", points_}};
  }

 private:
  PolicyChoice choose(const std::string& policy, std::size_t context) const {
    const std::size_t total = context + options_.tokens;
    return {
        .policy = policy, .budget = parse_budget(options_.budget.budget, total), .capacity = total};
  }

  std::vector<Start> make(std::size_t context) const {
    std::vector<Start> starts;
    for (const std::string& policy : options_.policies)
      starts.emplace_back(bench_, choose(policy, context));
    return starts;
  }

  static std::vector<Batch> go_on(const std::vector<Start>& starts, std::size_t size) {
    std::vector<Batch> batches;
    batches.reserve(starts.size());
    for (const Start& start : starts) batches.emplace_back(start, size);
    return batches;
  }

  void decode(std::vector<Batch>& batches, std::span<const std::int32_t> tokens) {
    Progress progress("Decoding", tokens.size() * batches.size());
    while (!tokens.empty() && !is_interrupted()) {
      const std::size_t steps = std::min(turn, tokens.size());
      for (Batch& each : batches) {
        each.decode(bench_, tokens.first(steps));
        progress.advance(steps);
      }
      tokens = tokens.subspan(steps);
    }
  }

  void note(const std::vector<Batch>& batches, std::size_t context, std::size_t batch) {
    for (const Batch& each : batches) {
      json point = each.results();
      point["context"] = context;
      point["batch"] = batch;
      point["ratio"] = each.speed() / batches.front().speed();
      point["beyond_context"] = context + options_.tokens > bench_.model.config().context;
      points_.push_back(std::move(point));
    }
  }

  Workbench& bench_;
  const BenchOptions& options_;
  json points_ = json::array();
};

void print_speeds(const json& results) {
  std::vector<std::vector<std::string>> rows{{"policy", "context", "batch", "prefill tokens/s",
                                              "decode tokens/s", "to the first", "cache",
                                              "pruner"}};
  const json& points = results.at("points");
  for (const json& point : points)
    rows.push_back(
        {point.at("label"), point.at("context").dump(), point.at("batch").dump(),
         report::figure(point.at("prefill_tokens_per_second")),
         report::figure(point.at("tokens_per_second")), report::fixed(point.at("ratio"), 2) + "x",
         report::bytes(point.at("cache_bytes")), report::percent(point.at("pruner_share"))});
  std::printf("%s, %s threads, medians over turns of %zu steps\n\n%s",
              results.at("model").at("name").get<std::string>().c_str(),
              results.at("machine").at("threads").dump().c_str(), turn, text_table(rows).c_str());
  const bool is_beyond = std::any_of(points.begin(), points.end(), [](const json& point) {
    return point.at("beyond_context").get<bool>();
  });
  if (is_beyond)
    std::printf("\nBeyond the model's context of %s tokens only times and bytes have a meaning.\n",
                results.at("model").at("context").dump().c_str());
}

}  // namespace

int bench(const BenchOptions& options) {
  for (const std::string& policy : options.policies) policy_label(policy);
  check_writable(options.output.json);
  Workbench workbench(options.model);
  Bench all(workbench, options);
  all.check();
  for (const std::size_t context : options.contexts)
    if (!is_interrupted()) all.measure(context);
  const json results = all.results();
  print_speeds(results);
  write_json(options.output.json, results);
  return exit_status();
}

}  // namespace decoder

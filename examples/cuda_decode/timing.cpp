#include "timing.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "cpu_comparison.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "launch.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "report_text.hpp"

namespace cuda_decode {
namespace {

using nlohmann::json;
namespace report = decoder::report;

constexpr std::uint32_t warm_up = 3;
constexpr std::uint32_t most_phase_steps = 16;
// What cuBLAS and the driver take beside what is asked for.
constexpr double usable = 0.97;

std::string in_bytes(std::size_t count) { return report::bytes(static_cast<double>(count)); }

/// One batch at one context, in one way.
struct Case {
  std::uint32_t batch = 0;
  std::uint32_t context = 0;
  std::uint32_t first = 0;  ///< tokens held when the clock starts
  std::uint32_t steps = 0;
  std::optional<Pruning> pruning{};
};

class Timing {
 public:
  Timing(Backend& backend, const ModelSource& source, const TimingSettings& settings)
      : backend_(backend), source_(source), settings_(settings) {
    bytes_per_second_ = backend_.bytes_per_second();
    const std::size_t wanted = backend_.bytes(source);
    const std::size_t free = backend_.free_bytes();
    if (static_cast<double>(wanted) > usable * static_cast<double>(free))
      throw decoder::Error("the weights take " + in_bytes(wanted) + ", and the device has " +
                           in_bytes(free) + " free: take a smaller model");
    model_ = load();
  }

  json run() {
    decoder::Progress progress("Timing", settings_.batches.size() * settings_.contexts.size() * 2);
    json rows = json::array();
    for (const std::uint32_t batch : settings_.batches) {
      for (const std::uint32_t context : settings_.contexts) {
        if (decoder::is_interrupted()) break;
        json whole = measure(whole_case(batch, context));
        progress.advance();
        json pruned = measure(pruned_case(batch, context));
        progress.advance();
        rows.push_back(row(batch, context, std::move(whole), std::move(pruned)));
      }
    }
    return results(std::move(rows));
  }

 private:
  std::unique_ptr<LoadedModel> load() {
    decoder::Progress progress("Weights", source_.matrices());
    ModelSource source = source_;
    source.on_matrix = [&progress] { progress.advance(); };
    return backend_.load(source);
  }

  [[nodiscard]] std::uint32_t slack() const {
    return static_cast<std::uint32_t>(
        lethe::slack_tokens(lethe::PrunerConfig{}.slack_ratio, settings_.bound));
  }

  [[nodiscard]] Case whole_case(std::uint32_t batch, std::uint32_t context) const {
    return {.batch = batch, .context = context, .first = context, .steps = settings_.steps};
  }
  /// The round falls in the middle of what is timed, so that the tokens held are on average those
  /// between two rounds.
  [[nodiscard]] Case pruned_case(std::uint32_t batch, std::uint32_t context) const {
    Case wanted{.batch = batch,
                .context = context,
                .first = std::min(context, settings_.bound - slack() / 2),
                .steps = slack(),
                .pruning = lethe_pruning(settings_.bound)};
    wanted.pruning->plan.step_tokens = settings_.room;
    return wanted;
  }

  [[nodiscard]] StepperSettings sizes(const Case& wanted) const {
    StepperSettings sizes{.rows = wanted.batch, .capacity = settings_.bound};
    sizes.pruning = wanted.pruning;
    if (!sizes.pruning)
      sizes.capacity = wanted.context + 2 * (warm_up + wanted.steps + most_phase_steps);
    return sizes;
  }

  json measure(const Case& wanted) {
    const StepperSettings sizes = this->sizes(wanted);
    const std::size_t bytes = model_->bytes(sizes);
    const std::size_t free = backend_.free_bytes();
    const json refused{{"memory_bytes", bytes}, {"fits", false}, {"free_bytes", free}};
    if (static_cast<double>(bytes) > usable * static_cast<double>(free)) return refused;
    try {
      const std::unique_ptr<Stepper> stepper = model_->make(sizes);
      json found{{"memory_bytes", bytes}, {"fits", true}};
      time(*stepper, wanted, found);
      return found;
    } catch (const OutOfMemory&) {
      // Free memory may lie in pieces, or be another program's by then.
      return refused;
    }
  }

  void time(Stepper& stepper, const Case& wanted, json& found) const {
    stepper.place(wanted.first, wanted.context);
    static_cast<void>(stepper.time(warm_up));
    stepper.place(wanted.first, wanted.context);
    const double seconds = stepper.time(wanted.steps) / wanted.steps;
    const double held = (held_by(stepper, wanted.batch) + wanted.first) / 2;
    const double cache = held * wanted.batch * token_bytes();
    found["seconds"] = seconds;
    found["tokens_per_second"] = wanted.batch / seconds;
    found["held_tokens"] = held;
    found["cache_bytes"] = cache;
    found["allowed_seconds"] = (step_bytes() + cache) / bytes_per_second_;
    stepper.place(wanted.first, wanted.context);
    const std::uint32_t steps =
        wanted.pruning ? wanted.steps : std::min(wanted.steps, most_phase_steps);
    const PhaseSeconds phases = stepper.time_phases(steps);
    for (std::size_t i = 0; i < phase_count; ++i)
      found["phases"][name(static_cast<Phase>(i))] = phases[i] / steps;
  }

  /// Tokens of a layer, over all layers and sequences.
  static double held_by(Stepper& stepper, std::uint32_t batch) {
    double sum = 0;
    std::size_t count = 0;
    for (std::uint32_t slot = 0; slot < batch; ++slot) {
      const std::vector<std::uint32_t> lengths = stepper.lengths(slot);
      sum += std::accumulate(lengths.begin(), lengths.end(), 0.0);
      count += lengths.size();
    }
    return sum / static_cast<double>(count);
  }

  [[nodiscard]] double step_bytes() const {
    return source_.step_weights() * static_cast<double>(backend_.weight_bytes());
  }
  /// Of one token in all layers.
  [[nodiscard]] double token_bytes() const {
    const decoder::ModelConfig& config = source_.config;
    const auto channels = 2.0 * config.layers * config.kv_heads * config.head_dim;
    return channels * static_cast<double>(backend_.cached_bytes());
  }

  static json row(std::uint32_t batch, std::uint32_t context, json whole, json pruned) {
    json row{{"batch", batch}, {"context", context}};
    if (whole.at("fits") && pruned.at("fits")) {
      row["ratio"] = whole.at("seconds").get<double>() / pruned.at("seconds").get<double>();
      row["allowed_ratio"] =
          whole.at("allowed_seconds").get<double>() / pruned.at("allowed_seconds").get<double>();
    }
    row["whole"] = std::move(whole);
    row["lethe"] = std::move(pruned);
    return row;
  }

  [[nodiscard]] json results(json rows) const {
    return {{"kind", "cuda_decode time"},
            {"date", decoder::date_now()},
            {"interrupted", decoder::is_interrupted()},
            {"device", backend_.description()},
            {"model", source_.config.name},
            {"weights", "random"},
            {"weight_bytes", step_bytes()},
            {"token_bytes", token_bytes()},
            {"bytes_per_second", bytes_per_second_},
            {"bound", settings_.bound},
            {"room", settings_.room},
            {"steps", {{"whole", settings_.steps}, {"lethe", slack()}}},
            {"rows", std::move(rows)}};
  }

  Backend& backend_;
  const ModelSource& source_;
  TimingSettings settings_;
  double bytes_per_second_ = 0;
  std::unique_ptr<LoadedModel> model_;
};

void check(const TimingSettings& settings) {
  if (settings.bound < 64) throw decoder::Error("--bound: give at least 64 tokens");
  if (settings.room < 1 || settings.room > settings.bound / 8)
    throw decoder::Error("--room: give 1 to an eighth of the bound, which is what a round frees");
  for (const std::uint32_t context : settings.contexts)
    if (context < 16) throw decoder::Error("--context: give at least 16 tokens");
}

std::string milliseconds(const json& seconds) {
  return report::figure(seconds.get<double>() * 1000);
}

std::vector<std::string> speed_row(const json& row) {
  const auto speed = [](const json& way) {
    return way.at("fits") ? report::figure(way.at("tokens_per_second"))
                          : "needs " + in_bytes(way.at("memory_bytes").get<std::size_t>());
  };
  const auto cache = [](const json& way) {
    return way.at("fits") ? report::bytes(way.at("cache_bytes")) : std::string("-");
  };
  const auto ratio = [&](const char* key) {
    return row.contains(key) ? report::fixed(row.at(key), 2) + "x" : std::string("-");
  };
  const auto reached = [](const json& way) {
    if (!way.at("fits")) return std::string("-");
    return report::percent(way.at("allowed_seconds").get<double>() /
                           way.at("seconds").get<double>());
  };
  const json& whole = row.at("whole");
  const json& pruned = row.at("lethe");
  return {row.at("batch").dump(), row.at("context").dump(), speed(whole), speed(pruned),
          ratio("ratio"),         ratio("allowed_ratio"),   cache(whole), cache(pruned),
          reached(whole),         reached(pruned)};
}

std::vector<std::string> phase_row(const json& row, const char* way) {
  std::vector<std::string> cells{row.at("batch").dump(), row.at("context").dump(), way};
  const json& found = row.at(way);
  cells.push_back(milliseconds(found.at("seconds")));
  for (std::size_t i = 0; i < phase_count; ++i)
    cells.push_back(milliseconds(found.at("phases").at(name(static_cast<Phase>(i)))));
  return cells;
}

}  // namespace

json time_steps(Backend& backend, const ModelSource& source, const TimingSettings& settings) {
  check(settings);
  return Timing(backend, source, settings).run();
}

std::string timing_tables(const json& results) {
  std::vector<std::vector<std::string>> speeds{
      {"batch", "context", "whole tokens/s", "Lethe tokens/s", "ratio", "bytes allow",
       "whole cache", "Lethe cache", "whole reaches", "Lethe reaches"}};
  std::vector<std::vector<std::string>> phases{{"batch", "context", "cache", "step ms"}};
  for (std::size_t i = 0; i < phase_count; ++i) phases[0].emplace_back(name(static_cast<Phase>(i)));
  for (const json& row : results.at("rows")) {
    speeds.push_back(speed_row(row));
    for (const char* way : {"whole", "lethe"})
      if (row.at(way).at("fits")) phases.push_back(phase_row(row, way));
  }
  return decoder::text_table(speeds) + "\n" + decoder::text_table(phases);
}

}  // namespace cuda_decode

#include "calibration.hpp"

#include <algorithm>
#include <iterator>
#include <lethe/layerkv/cost_model.hpp>
#include <lethe/layerkv/thread_copier.hpp>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;

using Link = RealLink<layerkv::ThreadCopier>;

/// Seconds of calibration over which the machine's speed is looked at: a few steps of each size.
constexpr double stretch = 3;

layerkv::BlockTablesConfig tables_config(const CalibrationSettings& settings) {
  const std::size_t longest = std::max(settings.tokens, settings.context + 1);
  const std::size_t blocks = longest / settings.block_tokens + 1;
  return {.layers = 1,
          .block_tokens = settings.block_tokens,
          .device_blocks = blocks * settings.sequences,
          .requests = settings.sequences,
          .request_blocks = blocks};
}

/// 1, 2, 4 and so on, then the most.
std::vector<std::size_t> doubling(std::size_t first, std::size_t most) {
  std::vector<std::size_t> points;
  for (std::size_t point = first; point < most; point *= 2) points.push_back(point);
  points.push_back(most);
  return points;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Long and short ones mixed, so that a part of the cycle is a fair share of it.
std::vector<StepSample> kinds_of_steps(const CalibrationSettings& settings) {
  std::vector<StepSample> kinds;
  for (const std::size_t tokens : doubling(16, settings.tokens))
    kinds.push_back({tokens, 1, 0, {}, 0});
  for (const std::size_t sequences : doubling(1, settings.sequences))
    for (const std::size_t share : {8U, 2U, 1U})
      kinds.push_back(
          {sequences, sequences, std::max<std::size_t>(1, settings.context / share), {}, 0});
  std::shuffle(kinds.begin(), kinds.end(), std::minstd_rand());
  return kinds;
}

using Values = std::map<std::size_t, std::vector<double>>;

Curve curve_of(const Values& values) {
  std::vector<double> points;
  std::vector<double> means;
  for (const auto& [point, seconds] : values) {
    points.push_back(static_cast<double>(point));
    means.push_back(mean(seconds));
  }
  return {std::move(points), std::move(means)};
}

/// The points of one axis: two at least, as a grid asks for.
std::vector<double> axis_of(const std::map<std::size_t, Values>& rows, bool is_inner) {
  std::vector<double> axis;
  if (is_inner)
    for (const auto& cell : rows.begin()->second) axis.push_back(static_cast<double>(cell.first));
  else
    for (const auto& row : rows) axis.push_back(static_cast<double>(row.first));
  if (axis.size() == 1) axis.push_back(axis.front() + 1);
  return axis;
}

Grid<2> grid_of(const std::map<std::size_t, Values>& rows) {
  Grid<2> grid({axis_of(rows, false), axis_of(rows, true)});
  for (std::size_t i = 0; i < grid.axis(0).size(); ++i)
    for (std::size_t j = 0; j < grid.axis(1).size(); ++j) {
      const auto row =
          std::next(rows.begin(), static_cast<std::ptrdiff_t>(std::min(i, rows.size() - 1)));
      const Values& cells = row->second;
      const auto cell =
          std::next(cells.begin(), static_cast<std::ptrdiff_t>(std::min(j, cells.size() - 1)));
      grid.at({i, j}) = mean(cell->second);
    }
  return grid;
}

StepTimes::Tables tables_of(std::span<const StepSample> samples, std::size_t layers) {
  Values rest, logits, prefill;
  std::map<std::size_t, Values> decode;
  prefill[0] = {0.0};
  for (const StepSample& sample : samples) {
    const StepSeconds& spent = sample.seconds;
    const double attention = spent.attention / static_cast<double>(layers);
    rest[sample.tokens].push_back(spent.compute() - spent.attention - spent.logits);
    logits[sample.sequences].push_back(spent.logits);
    if (sample.context == 0)
      prefill[sample.tokens].push_back(attention);
    else
      decode[sample.sequences][sample.context].push_back(attention);
  }
  StepTimes::Tables tables;
  tables.layers = layers;
  tables.tokens = curve_of(rest);
  tables.sequences = curve_of(logits);
  tables.prefill = curve_of(prefill);
  tables.decode = grid_of(decode);
  return tables;
}

/// A cost fitted to measurements; of times that do not grow with the work, as a busy machine's when
/// steps are short, the mean of so much work alone.
template <class Cost>
Cost fit_or_mean(std::span<const layerkv::Measured<typename Cost::Work>> rows,
                 std::size_t Cost::Work::*count, double Cost::*each) {
  try {
    return layerkv::fit<Cost>(rows).cost;
  } catch (const std::invalid_argument&) {
    double seconds = 0;
    double work = 0;
    for (const auto& row : rows) {
      seconds += row.seconds;
      work += static_cast<double>(row.work.*count);
    }
    Cost mean;
    mean.*each = seconds / work;
    return mean;
  }
}

/// What the mean of its kind says that a step takes.
double expected(const StepSample& sample, const StepTimes& times) {
  StepWork work;
  const PrefillPart part{static_cast<double>(sample.tokens), 0};
  if (sample.context == 0) {
    work.prefills = {&part, 1};
  } else {
    work.decodes = static_cast<double>(sample.sequences);
    work.decode_context = static_cast<double>(sample.sequences * sample.context);
  }
  return times.seconds(work);
}

/// What samples took against what the means say, over stretches of the run.
Curve slowdown_of(std::span<const StepSample> samples, const StepTimes& times) {
  std::vector<double> points;
  std::vector<double> values;
  double measured = 0, mean = 0, middle = 0;
  for (const StepSample& sample : samples) {
    measured += sample.seconds.compute();
    mean += expected(sample, times);
    middle += sample.at * sample.seconds.compute();
    if (measured < stretch && &sample != &samples.back()) continue;
    const double point = middle / measured;
    if (!points.empty() && point <= points.back()) continue;
    points.push_back(point);
    values.push_back(measured / mean);
    measured = mean = middle = 0;
  }
  // Beyond the last stretch things stay as they were.
  points.push_back(points.back() + 1);
  values.push_back(values.back());
  return {std::move(points), std::move(values)};
}

}  // namespace

struct Calibrator::State {
  State(decoder::Workbench& bench, const CalibrationSettings& settings)
      : empty(bench.model.config(), bench.cache_type, settings.block_tokens),
        tables(tables_config(settings)),
        memory({empty.block_bytes(), settings.block_tokens, empty.layers(), true}, tables.config()),
        copier({.threads = 1}),
        link({.step_blocks = 1, .migrations = 1}, memory, copier, clock),
        runner(bench.decoder, empty, bench.tokenizer.size(), memory, link),
        kinds(kinds_of_steps(settings)),
        tokens(settings.tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(i * 7919 % bench.tokenizer.size());
    const std::size_t room = tables.config().request_blocks * settings.block_tokens;
    for (std::size_t i = 0; i < settings.sequences; ++i)
      static_cast<void>(tables.append(tables.open().value(), room));
  }

  decoder::PagedCache empty;
  layerkv::BlockTables tables;
  BlockMemory memory;
  RunClock clock;
  layerkv::ThreadCopier copier;
  Link link;
  StepRunner<Link> runner;
  std::vector<StepSample> kinds;  ///< what they took left empty
  std::vector<std::int32_t> tokens;
  std::size_t next = 0;
  std::vector<StepSample> samples;
  double spent = 0;
};

Calibrator::Calibrator(decoder::Workbench& bench, const CalibrationSettings& settings)
    : state_(std::make_unique<State>(bench, settings)) {}
Calibrator::~Calibrator() = default;

void Calibrator::measure_next(double at) {
  State& own = *state_;
  StepSample sample = own.kinds[own.next++ % own.kinds.size()];
  const std::size_t each = sample.tokens / sample.sequences;
  std::vector<StepPart> parts;
  for (std::size_t i = 0; i < sample.sequences; ++i)
    parts.push_back({static_cast<layerkv::RequestId>(i),
                     std::span(own.tokens).subspan(i % (own.tokens.size() - each + 1), each),
                     sample.context});
  own.runner.run(own.tables, parts);
  sample.seconds = own.runner.seconds();
  sample.at = at;
  own.spent += sample.seconds.whole;
  own.samples.push_back(sample);
}

void Calibrator::complete(double at) {
  while (state_->samples.size() < state_->kinds.size()) measure_next(at);
}

double Calibrator::spent() const { return state_->spent; }

std::vector<StepSample> Calibrator::take() {
  state_->spent = 0;
  return std::exchange(state_->samples, {});
}

StepTimes step_times(std::span<const StepSample> samples, std::size_t layers, bool follows) {
  StepTimes::Tables tables = tables_of(samples, layers);
  if (follows) tables.slowdown = slowdown_of(samples, StepTimes(tables));
  return StepTimes(std::move(tables));
}

lethe::layerkv::Costs step_costs(std::span<const StepSample> samples, double link_bytes) {
  std::vector<layerkv::Measured<layerkv::PrefillWork>> prefills;
  std::vector<layerkv::Measured<layerkv::DecodeWork>> decodes;
  for (const StepSample& sample : samples)
    if (sample.context == 0)
      prefills.push_back({{sample.tokens, 0}, sample.seconds.compute()});
    else
      decodes.push_back(
          {{sample.sequences, sample.sequences * sample.context}, sample.seconds.compute()});
  layerkv::CopyCost copy{.per_copy = 0, .per_fragment = 0, .per_byte = 0};
  if (link_bytes > 0) copy.per_byte = 1 / link_bytes;
  return {fit_or_mean<layerkv::PrefillCost>(prefills, &layerkv::PrefillWork::tokens,
                                            &layerkv::PrefillCost::per_token),
          fit_or_mean<layerkv::DecodeCost>(decodes, &layerkv::DecodeWork::sequences,
                                           &layerkv::DecodeCost::per_sequence),
          copy};
}

}  // namespace serving

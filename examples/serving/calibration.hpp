#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/costs.hpp>
#include <memory>
#include <span>
#include <vector>

#include "step_runner.hpp"
#include "step_times.hpp"
#include "workbench.hpp"

namespace serving {

/// Steps that a calibration measures: prompts of up to `tokens` tokens, each alone; and batches of
/// up to `sequences` that decode behind contexts of up to `context` tokens.
struct CalibrationSettings {
  std::size_t tokens = 512;
  std::size_t sequences = 16;
  std::size_t context = 512;
  std::size_t block_tokens = 16;
};

/// One step of a calibration and what it took. Of a prompt `sequences` is 1 and `context` 0.
struct StepSample {
  std::size_t tokens = 0;
  std::size_t sequences = 0;
  std::size_t context = 0;
  StepSeconds seconds;
  double at = 0;  ///< seconds of the run that had passed
};

/// Measures steps of its own, all on the device: none is part of a run.
class Calibrator {
 public:
  Calibrator(decoder::Workbench& bench, const CalibrationSettings& settings);
  ~Calibrator();

  /// Measures the next of the kinds of steps, in a cycle. at: seconds of the run that have passed.
  void measure_next(double at);
  /// Goes on until each kind was measured since the samples were taken last.
  void complete(double at);
  /// Seconds that were spent since then.
  double spent() const;
  /// What was measured since the last call.
  std::vector<StepSample> take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Step times of which the samples are measurements; means where a step was measured often, since a
/// run's time is a sum. Each kind of step is among the samples.
///
/// @param follows  whether steps take longer at times of the run when the samples did
StepTimes step_times(std::span<const StepSample> samples, std::size_t layers, bool follows);

/// The library's cost model of the same samples, for the scheduler's decisions: a copy costs its
/// bytes alone. Where short steps drown in noise, what a token or a sequence takes on the mean.
lethe::layerkv::Costs step_costs(std::span<const StepSample> samples, double link_bytes);

}  // namespace serving

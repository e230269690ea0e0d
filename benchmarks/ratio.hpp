/// Measures one piece of work against a floor, both in short turns, so that noise hits both.
#pragma once

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

namespace bench {

/// The middle value; the argument is reordered.
[[nodiscard]] inline double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Nanoseconds that this thread has run: what others take from the processor does not count.
[[nodiscard]] inline double now() {
  std::timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

/// Nanoseconds of one of `count` calls.
template <class Work>
[[nodiscard]] double time_of(std::size_t count, Work& work) {
  const double begin = now();
  for (std::size_t i = 0; i < count; ++i) {
    work();
    benchmark::ClobberMemory();
  }
  return (now() - begin) / static_cast<double>(count);
}

/// Calls that last about 100 us: short beside the scheduler's slices, long beside the clock's tick.
template <class Work>
[[nodiscard]] std::size_t batch_of(Work& work) {
  std::size_t count = 1;
  while (count < (std::size_t{1} << 20) && time_of(count, work) * static_cast<double>(count) < 1e5)
    count *= 2;
  return count;
}

/// Runs `floor` and `subject` in turn and reports the medians of both and of their ratio; allowance
/// is the nanoseconds a call of the subject may cost on top, and is taken off before the ratio.
template <class Floor, class Subject>
void compare(benchmark::State& state, Floor floor, Subject subject, double allowance = 0) {
  std::vector<double> floors;
  std::vector<double> subjects;
  std::vector<double> ratios;
  const std::size_t floor_batch = batch_of(floor);
  const std::size_t subject_batch = batch_of(subject);
  for ([[maybe_unused]] auto turn : state) {
    floors.push_back(time_of(floor_batch, floor));
    subjects.push_back(time_of(subject_batch, subject));
    ratios.push_back((subjects.back() - allowance) / floors.back());
    state.SetIterationTime(subjects.back() * 1e-9);
  }
  state.counters["floor_ns"] = median(floors);
  state.counters["lethe_ns"] = median(subjects);
  state.counters["ratio"] = median(ratios);
}

/// Uniform numbers in [0, 1), the same in every run.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed) {}

  float operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(state_ >> 40) * 0x1p-24f;
  }

 private:
  std::uint64_t state_;
};

[[nodiscard]] inline std::vector<float> uniform(std::size_t count, std::uint64_t seed) {
  Draw draw(seed);
  std::vector<float> values(count);
  for (float& value : values) value = draw();
  return values;
}

/// Scores as attention leaves them: most are small, few are large.
[[nodiscard]] inline std::vector<float> skewed(std::size_t count, std::uint64_t seed) {
  Draw draw(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const float share = draw();
    value = share * share * share * share / (1.001f - draw());
  }
  return values;
}

}  // namespace bench

#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace decoder {

/// Says on stderr how far a long job is: a bar on a terminal, elsewhere a line now and then.
///
/// Says nothing during the first second, so short jobs stay silent.
class Progress {
 public:
  /// @param label  what is being done, such as "Decoding"
  /// @param total  units of work, such as tokens
  Progress(std::string label, std::size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Clears the bar.
  ~Progress();

  /// Adds finished units; O(1) and rarely any output.
  void advance(std::size_t units = 1);

 private:
  using Clock = std::chrono::steady_clock;

  void draw(double elapsed);
  std::string line(double elapsed) const;

  std::string label_;
  std::size_t total_;
  std::size_t done_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_ = start_ + std::chrono::seconds(1);
  bool is_terminal_;
  bool is_drawn_ = false;
};

}  // namespace decoder

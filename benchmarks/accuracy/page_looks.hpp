/// What all parts of the page name and draw alike.
#pragma once

#include <string>
#include <vector>

#include "plot.hpp"
#include "results.hpp"

namespace accuracy {

/// How a policy is drawn: by its place among those of the results, the whole cache first.
[[nodiscard]] Look look_of(const Results& results, const std::string& policy);

/// Its marker and label, for tables.
[[nodiscard]] std::string named(const Results& results, const std::string& policy);

/// "prompt pinned" or "prompt not pinned".
[[nodiscard]] std::string describe_pin(bool is_pinned);

/// The exam's task, with its size where the results have several of it.
[[nodiscard]] std::string describe_task(const Results& results, const Exam& exam);

/// One model, and who feeds the symbols: what one table or row of charts is about.
struct Study {
  std::string model;
  std::string feeding;
  /// In the order of tasks.
  std::vector<Exam> exams;

  /// "Model 1, fed its own symbols".
  [[nodiscard]] std::string title() const;
};

[[nodiscard]] std::vector<Study> studies_of(const Results& results);

/// A budget and a pin: a setting without its exam.
struct Terms {
  bool is_pinned = false;
  double budget = 100;

  [[nodiscard]] Setting of(const Exam& exam) const { return {exam, is_pinned, budget}; }
  /// "25% budget, prompt pinned".
  [[nodiscard]] std::string describe() const;
  friend auto operator<=>(const Terms&, const Terms&) = default;
};

/// The terms on which any of these exams was set, ascending.
[[nodiscard]] std::vector<Terms> terms_of(const Results& results, const std::vector<Exam>& exams);

}  // namespace accuracy

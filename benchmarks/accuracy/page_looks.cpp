#include "page_looks.hpp"

#include <algorithm>

#include "report_text.hpp"

namespace accuracy {

Look look_of(const Results& results, const std::string& policy) {
  if (is_oracle(policy)) return {.style = policy == oracle ? 0u : 1u, .is_oracle = true};
  std::size_t style = policy == whole_cache ? 0 : 1;
  for (const std::string& each : results.policies()) {
    if (each == policy) break;
    if (is_candidate(each)) ++style;
  }
  // The colour of the whole cache stays its own.
  return {.style = style >= 8 ? style + 1 : style};
}

std::string named(const Results& results, const std::string& policy) {
  return swatch(look_of(results, policy)) + decoder::report::escape(label_of(policy));
}

std::string describe_pin(bool is_pinned) {
  return is_pinned ? "prompt pinned" : "prompt not pinned";
}

std::string describe_task(const Results& results, const Exam& exam) {
  if (is_context(exam)) return label_of(exam);
  const auto others =
      std::count_if(results.exams().begin(), results.exams().end(), [&](const Exam& other) {
        return other.model == exam.model && other.feeding == exam.feeding &&
               other.task == exam.task;
      });
  if (others == 1) return exam.task;
  const auto& [names, lines, steps] = exam.size;
  return exam.task + " " + std::to_string(names) + "/" + std::to_string(lines) + "/" +
         std::to_string(steps);
}

std::string Terms::describe() const {
  return decoder::report::plain(budget) + "% budget, " + describe_pin(is_pinned);
}

std::string Study::title() const {
  return "Model " + model + (feeding == "own" ? ", fed its own symbols" : ", fed the true symbols");
}

std::vector<Study> studies_of(const Results& results) {
  std::vector<Study> studies;
  for (const Exam& exam : results.exams()) {
    if (studies.empty() || studies.back().model != exam.model ||
        studies.back().feeding != exam.feeding) {
      studies.push_back({.model = exam.model, .feeding = exam.feeding, .exams = {}});
    }
    studies.back().exams.push_back(exam);
  }
  return studies;
}

std::vector<Terms> terms_of(const Results& results, const std::vector<Exam>& exams) {
  std::vector<Terms> terms;
  for (const Setting& setting : results.settings()) {
    if (std::find(exams.begin(), exams.end(), setting.exam) != exams.end())
      terms.push_back({.is_pinned = setting.is_pinned, .budget = setting.budget});
  }
  std::sort(terms.begin(), terms.end());
  terms.erase(std::unique(terms.begin(), terms.end()), terms.end());
  return terms;
}

}  // namespace accuracy

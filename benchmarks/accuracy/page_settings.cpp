#include "page_settings.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "cell.hpp"
#include "page_looks.hpp"
#include "problems.hpp"
#include "report_tables.hpp"
#include "report_text.hpp"

namespace accuracy {
namespace {

using nlohmann::json;

/// Entries with commas between them, in the order in which they first come.
class List {
 public:
  void add(const std::string& entry) {
    if (!seen_.insert(entry).second) return;
    text_ += (text_.empty() ? "" : separator_) + entry;
  }
  explicit List(std::string separator) : separator_(std::move(separator)) {}
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string separator_;
  std::string text_;
  std::set<std::string> seen_;
};

struct Seeds {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t last = 0;

  [[nodiscard]] std::string text() const {
    return std::to_string(first) + " to " + std::to_string(last);
  }
};

Seeds seeds_of(const Results& results, const Study& study) {
  Seeds seeds;
  for (const Summary& each : results.summaries()) {
    const Exam& exam = each.setting.exam;
    if (std::find(study.exams.begin(), study.exams.end(), exam) == study.exams.end()) continue;
    seeds.first = std::min(seeds.first, each.outcomes.begin()->first);
    seeds.last = std::max(seeds.last, each.outcomes.rbegin()->first);
  }
  return seeds;
}

using SizeOf = ProblemSize (*)(Task);

/// Whether all exams have the sizes that `run` gives them.
bool has_sizes(const Study& study, SizeOf size_of) {
  return std::all_of(study.exams.begin(), study.exams.end(), [&](const Exam& exam) {
    const auto task = find_task(exam.task);
    if (!task) return false;
    const ProblemSize size = is_context(*task) ? context_size(*task, exam.size[2]) : size_of(*task);
    return exam.size == std::array{size.variables, size.lines, size.steps};
  });
}

std::string pin_option(const std::vector<Terms>& all) {
  const auto is_pinned = [](const Terms& terms) { return terms.is_pinned; };
  const bool has_on = std::any_of(all.begin(), all.end(), is_pinned);
  return has_on ? std::all_of(all.begin(), all.end(), is_pinned) ? "on" : "both" : "off";
}

/// What a study's rows are made of, by name.
json parts_of(const Results& results, const Study& study) {
  List tasks_list(","), lengths(","), policies(","), budgets(","), sizes("; ");
  for (const Exam& exam : study.exams) {
    tasks_list.add(exam.task);
    if (is_context(exam)) lengths.add(std::to_string(exam.size[2]));
    sizes.add(exam.task + " " + std::to_string(exam.size[0]) + "/" + std::to_string(exam.size[1]) +
              "/" + std::to_string(exam.size[2]));
  }
  const std::vector<Terms> all = terms_of(results, study.exams);
  for (const Terms& terms : all) budgets.add(decoder::report::plain(terms.budget));
  for (const std::string& policy : results.policies()) {
    if (policy != whole_cache) policies.add(policy);
  }
  json parts{{"model", study.model},
             {"feeding", study.feeding == "own" ? "the model's own symbols" : "the true symbols"},
             {"tasks", tasks_list.text()},
             {"sizes (variables/lines/steps)", sizes.text()},
             {"policies", policies.text()},
             {"budgets (%)", budgets.text()},
             {"pin", pin_option(all)},
             {"seeds", seeds_of(results, study).text()}};
  if (!lengths.text().empty()) parts["lengths"] = lengths.text();
  return parts;
}

/// The command that makes such rows.
std::string command_of(const Results& results, const Study& study) {
  const json parts = parts_of(results, study);
  const auto part = [&](const char* key) { return parts.at(key).get<std::string>(); };
  const std::string forced = study.feeding == "own" ? "" : " --forced";
  const std::string model = "accuracy run -m " + study.model + ".gguf";
  const bool is_text = parts.contains("lengths");
  if (!is_text && has_sizes(study, quick_size)) return model + " --quick" + forced;
  if (!has_sizes(study, evaluated_size)) return "several runs, of other sizes than one run's";
  const Seeds seeds = seeds_of(results, study);
  const std::string length = is_text ? " --length " + part("lengths") : "";
  return model + " --task " + part("tasks") + length + " --policy " + part("policies") +
         " --budget " + part("budgets (%)") + " --pin " + part("pin") + " --problems " +
         std::to_string(seeds.last - seeds.first + 1) + " --first-seed " +
         std::to_string(seeds.first) + forced;
}

}  // namespace

std::string settings_of(const Results& results, const Source& source) {
  std::string out;
  for (const Study& study : studies_of(results)) {
    json settings = parts_of(results, study);
    settings["command"] = command_of(results, study);
    out += decoder::report::settings_table(settings, study.title());
  }
  List files(", ");
  for (const std::string& file : source.files) files.add(file);
  return out + decoder::report::settings_table({{"files", files.text()}, {"made", source.date}},
                                               "This page");
}

}  // namespace accuracy

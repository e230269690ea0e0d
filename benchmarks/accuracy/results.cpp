#include "results.hpp"

#include <algorithm>
#include <tuple>

#include "problems.hpp"
#include "pruners.hpp"

namespace accuracy {
namespace {

std::size_t rank_of_task(const std::string& task) {
  const auto found = find_task(task);
  return found ? static_cast<std::size_t>(*found) : tasks.size() + context_tasks.size();
}

std::size_t rank_of_policy(const std::string& policy) {
  if (policy == whole_cache) return 0;
  if (is_oracle(policy)) return policy == oracle ? 1 : 2;
  const auto known = decoder::known_policies();
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const auto& each) { return each.name == policy; });
  return static_cast<std::size_t>(found - known.begin()) + 3;
}

auto order_of(const Exam& exam) {
  return std::tuple(exam.model, exam.feeding, rank_of_task(exam.task), exam.task, exam.size);
}

auto order_of(const Setting& setting) {
  return std::tuple(order_of(setting.exam), setting.is_pinned, setting.budget);
}

auto order_of(const std::string& policy) { return std::tuple(rank_of_policy(policy), policy); }

template <class T>
void sort_once(std::vector<T>& all) {
  std::sort(all.begin(), all.end(),
            [](const T& a, const T& b) { return order_of(a) < order_of(b); });
  all.erase(std::unique(all.begin(), all.end()), all.end());
}

}  // namespace

bool is_context(const Exam& exam) {
  const auto task = find_task(exam.task);
  return task && is_context(*task);
}

std::string label_of(const Exam& exam) {
  return is_context(exam) ? exam.task + " " + std::to_string(exam.size[2]) : exam.task;
}

std::string label_of(const std::string& policy) {
  if (policy == oracle) return "Oracle";
  if (policy == attention_oracle) return "Attention oracle";
  for (const decoder::NamedPolicy& known : decoder::known_policies()) {
    if (known.name == policy) return std::string(known.label);
  }
  return policy;
}

Results::Results(std::vector<Summary> summaries) : summaries_(std::move(summaries)) {
  for (const Summary& each : summaries_) {
    exams_.push_back(each.setting.exam);
    policies_.push_back(each.policy);
    if (each.policy != whole_cache) settings_.push_back(each.setting);
  }
  sort_once(exams_);
  sort_once(settings_);
  sort_once(policies_);
}

const Summary* Results::find(const Setting& setting, std::string_view policy) const {
  const auto found = std::find_if(summaries_.begin(), summaries_.end(), [&](const Summary& each) {
    if (each.policy != policy) return false;
    return policy == whole_cache ? each.setting.exam == setting.exam : each.setting == setting;
  });
  return found != summaries_.end() ? &*found : nullptr;
}

bool Results::has(std::string_view policy) const {
  return std::find(policies_.begin(), policies_.end(), policy) != policies_.end();
}

const Summary* Results::best_oracle(const Setting& setting) const {
  const Summary* asked = find(setting, oracle);
  const Summary* looked = find(setting, attention_oracle);
  if (asked == nullptr || looked == nullptr) return asked != nullptr ? asked : looked;
  return looked->answers.value() > asked->answers.value() ? looked : asked;
}

const Summary* Results::judge(const Setting& setting) const {
  return is_context(setting.exam) ? find(setting, whole_cache) : best_oracle(setting);
}

bool Results::is_ranked(const Setting& setting) const {
  const Summary* best = judge(setting);
  const double least = is_context(setting.exam) ? least_of_whole_cache : least_of_oracle;
  return best != nullptr && best->answers.value() >= least;
}

}  // namespace accuracy

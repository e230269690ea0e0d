/// Summaries, found by their setting and policy.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "summary.hpp"

namespace accuracy {

/// The policy that keeps everything; the one that is told what will be asked for, and the one that
/// is told what the model will look at.
inline constexpr std::string_view whole_cache = "none", oracle = "oracle",
                                  attention_oracle = "attention-oracle";

[[nodiscard]] constexpr bool is_oracle(std::string_view policy) {
  return policy == oracle || policy == attention_oracle;
}

/// The better oracle has at least this share of answers right where policies are ranked; below it,
/// a wrong one need not be the policy's.
inline constexpr double least_of_oracle = 0.97;

/// The same of the whole cache, where the problems are contexts: a larger model that was not
/// trained for them is right less often, and its oracle knows only what it looks at.
inline constexpr double least_of_whole_cache = 0.9;

/// A policy's name for people.
[[nodiscard]] std::string label_of(const std::string& policy);

/// Whether a task, as rows name it, is one of context_tasks.
[[nodiscard]] bool is_context(const Exam& exam);

/// The task, of a context with its tokens: "facts 1024".
[[nodiscard]] std::string label_of(const Exam& exam);

/// What the files of results say, in the order of tables: tasks and policies as the program lists
/// them, unknown ones last.
class Results {
 public:
  explicit Results(std::vector<Summary> summaries);

  [[nodiscard]] const std::vector<Summary>& summaries() const { return summaries_; }
  /// What a policy did in a setting; the whole cache is the same at every budget. Null: no rows.
  [[nodiscard]] const Summary* find(const Setting& setting, std::string_view policy) const;

  [[nodiscard]] const std::vector<Exam>& exams() const { return exams_; }
  /// Budgets and pins with rows of a policy, without the whole cache's.
  [[nodiscard]] const std::vector<Setting>& settings() const { return settings_; }
  /// The policies with rows: the whole cache and the oracle first, as far as there are any.
  [[nodiscard]] const std::vector<std::string>& policies() const { return policies_; }
  [[nodiscard]] bool has(std::string_view policy) const;

  /// Of the oracles the one with more answers right; null: no rows of either.
  [[nodiscard]] const Summary* best_oracle(const Setting& setting) const;
  /// Whose answers say whether a setting is ranked: of a context the whole cache's, else the better
  /// oracle's; null: no rows.
  [[nodiscard]] const Summary* judge(const Setting& setting) const;
  /// Whether the judge shows that the model, and an oracle that the budget, allows a solution.
  [[nodiscard]] bool is_ranked(const Setting& setting) const;

 private:
  std::vector<Summary> summaries_;
  std::vector<Exam> exams_;
  std::vector<Setting> settings_;
  std::vector<std::string> policies_;
};

/// Whether a policy decides by itself: neither the whole cache nor an oracle.
[[nodiscard]] inline bool is_candidate(std::string_view policy) {
  return policy != whole_cache && !is_oracle(policy);
}

}  // namespace accuracy

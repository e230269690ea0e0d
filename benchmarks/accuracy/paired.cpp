#include "paired.hpp"

#include <algorithm>
#include <utility>

#include "error.hpp"
#include "one_line.hpp"

namespace accuracy {
namespace {

std::vector<std::string> candidates_of(const Results& results) {
  std::vector<std::string> candidates;
  for (const std::string& policy : results.policies()) {
    if (is_candidate(policy)) candidates.push_back(policy);
  }
  return candidates;
}

/// Where all candidates may be compared: in ranked settings, or else in any, or else anywhere.
std::vector<Setting> common_settings(const Results& results,
                                     const std::vector<std::string>& candidates) {
  std::vector<Setting> common, ranked;
  for (const Setting& setting : results.settings()) {
    const bool has_all = std::all_of(
        candidates.begin(), candidates.end(),
        [&](const std::string& policy) { return results.find(setting, policy) != nullptr; });
    if (has_all) common.push_back(setting);
    if (has_all && results.is_ranked(setting)) ranked.push_back(setting);
  }
  if (!ranked.empty()) return ranked;
  return common.empty() ? results.settings() : common;
}

/// Mean share of answers right, then of lookups right.
std::pair<double, double> standing(const Results& results, const std::vector<Setting>& settings,
                                   const std::string& policy) {
  double answers = 0, lookups = 0, count = 0;
  for (const Setting& setting : settings) {
    const Summary* summary = results.find(setting, policy);
    if (summary == nullptr) continue;
    answers += summary->answers.value();
    lookups += summary->lookups.value();
    ++count;
  }
  return count > 0 ? std::pair(answers / count, lookups / count) : std::pair(-1.0, -1.0);
}

void count_pairs(Comparison& comparison, const Summary& policy, const Summary& against) {
  double sum = 0;
  for (const auto& [seed, answers] : policy.outcomes) {
    const auto other = against.outcomes.find(seed);
    if (other == against.outcomes.end()) continue;
    ++comparison.pairs;
    comparison.ahead += answers.hits > other->second.hits ? 1 : 0;
    comparison.behind += answers.hits < other->second.hits ? 1 : 0;
    sum += answers.value() - other->second.value();
  }
  if (comparison.pairs != 0) comparison.difference = sum / static_cast<double>(comparison.pairs);
  if (comparison.is_tested()) comparison.p = sign_test(comparison.ahead, comparison.behind);
}

void correct(std::vector<Comparison>& comparisons) {
  std::vector<double> values;
  for (const Comparison& each : comparisons) {
    if (each.is_tested()) values.push_back(each.p);
  }
  const std::vector<double> corrected = holm(values);
  auto next = corrected.begin();
  for (Comparison& each : comparisons) {
    if (each.is_tested()) each.corrected = *next++;
  }
}

void check(const Results& results, const std::string& against) {
  const auto& settings = results.settings();
  if (std::none_of(settings.begin(), settings.end(),
                   [&](const Setting& each) { return results.judge(each) != nullptr; })) {
    throw decoder::Error(
        "no rows of an oracle, without which no policy is ranked: run with --policy oracle,...");
  }
  if (results.has(against)) return;
  std::string known;
  for (const std::string& policy : results.policies()) known += ", " + policy;
  throw decoder::Error("--against " + decoder::one_line(against) + ": no rows of it; choose best" +
                       decoder::one_line(known));
}

}  // namespace

std::string Comparison::verdict() const {
  if (pairs == 0) return "no common problems";
  if (!is_ranked) return "not ranked";
  if (corrected >= 0.05) return "no difference shown";
  return ahead > behind ? "better" : "worse";
}

std::string best_policy(const Results& results) {
  const std::vector<std::string> candidates = candidates_of(results);
  if (candidates.empty())
    throw decoder::Error("no rows of a policy to rank: run with --policy lethe,h2o,oracle,...");
  const std::vector<Setting> settings = common_settings(results, candidates);
  return *std::max_element(candidates.begin(), candidates.end(),
                           [&](const std::string& a, const std::string& b) {
                             return standing(results, settings, a) < standing(results, settings, b);
                           });
}

Comparisons compare(const Results& results, const std::string& against) {
  Comparisons comparisons{.against = against == "best" ? best_policy(results) : against, .all = {}};
  check(results, comparisons.against);
  for (const Setting& setting : results.settings()) {
    const Summary* other = results.find(setting, comparisons.against);
    if (other == nullptr) continue;
    for (const std::string& policy : candidates_of(results)) {
      const Summary* summary = results.find(setting, policy);
      if (summary == nullptr || policy == comparisons.against) continue;
      comparisons.all.push_back(
          {.setting = setting, .policy = policy, .is_ranked = results.is_ranked(setting)});
      count_pairs(comparisons.all.back(), *summary, *other);
    }
  }
  correct(comparisons.all);
  return comparisons;
}

}  // namespace accuracy

#include "summary.hpp"

#include <utility>

namespace accuracy {
namespace {

using nlohmann::json;

Setting setting_of(const json& row) {
  const json& size = row.at("size");
  return {.exam = {.model = row.at("model"),
                   .feeding = row.at("feeding"),
                   .task = row.at("task"),
                   .size = {size.at(0), size.at(1), size.at(2)}},
          .is_pinned = row.at("pinned"),
          .budget = row.at("budget")};
}

void add(Share& share, std::size_t hits, std::size_t count) {
  share.hits += hits;
  share.count += count;
}

void add_gaps(std::vector<Share>& gaps, const json& counts) {
  if (gaps.size() < counts.size()) gaps.resize(counts.size());
  for (std::size_t b = 0; b < counts.size(); ++b) {
    const std::size_t right = counts[b].at(0), wrong = counts[b].at(1);
    add(gaps[b], right, right + wrong);
  }
}

void add_lookups(Summary& summary, const json& row) {
  const json &answers = row.at("answers"), &steps = row.at("steps");
  const std::size_t right = answers.at(0), all = answers.at(1);
  const std::size_t steps_right = steps.at(0), steps_all = steps.at(1);
  summary.answers.add(right, all);
  summary.outcomes[row.at("seed")] = {.hits = right, .count = all};
  add(summary.steps, steps_right, steps_all);
  summary.lookups.add(right + steps_right, all + steps_all);
  add_gaps(summary.by_gap, row.at("by_gap"));
}

/// The whole cache holds one token more after each step.
double mean_of_whole(const json& row) {
  return (row.at("prompt").get<double>() + row.at("symbols").get<double>()) / 2;
}

void add_cost(Summary& summary, const json& row) {
  summary.kept += row.at("mean_kept").get<double>();
  summary.whole += mean_of_whole(row);
  if (const double seconds = row.value("seconds", 0.0); seconds > 0) {
    summary.seconds += seconds;
    summary.timed_symbols += row.at("symbols").get<double>();
  }
  if (row.contains("bytes")) {
    summary.bytes += row.at("bytes").get<double>();
    ++summary.weighed;
  }
}

void add(Summary& summary, const json& row) {
  add(summary.solved, row.at("solved").get<bool>() ? 1 : 0, 1);
  add_lookups(summary, row);
  add_cost(summary, row);
  if (row.contains("first_error")) {
    summary.first_errors.push_back(row.at("first_error").get<double>() /
                                   row.at("symbols").get<double>());
  }
}

}  // namespace

double Summary::tokens_per_second() const {
  return seconds > 0 ? timed_symbols / seconds : unknown;
}

double Summary::mean_bytes() const {
  return weighed != 0 ? bytes / static_cast<double>(weighed) : unknown;
}

std::vector<Summary> summarise(const std::vector<json>& rows) {
  std::vector<Summary> summaries;
  std::map<std::pair<Setting, std::string>, std::size_t> index;
  for (const json& row : rows) {
    Summary empty;
    empty.setting = setting_of(row);
    empty.policy = row.at("policy");
    const auto [found, is_new] = index.try_emplace({empty.setting, empty.policy}, summaries.size());
    if (is_new) summaries.push_back(std::move(empty));
    add(summaries[found->second], row);
  }
  return summaries;
}

}  // namespace accuracy

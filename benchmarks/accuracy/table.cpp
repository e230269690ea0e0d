#include "table.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "error.hpp"
#include "output.hpp"
#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::fixed;
using decoder::report::percent;
using nlohmann::json;

constexpr double z = 1.959964;  // 95%

double wilson(const Share& share, double sign) {
  if (share.count == 0) return 0;
  const double n = static_cast<double>(share.count), p = share.value();
  const double reach = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return (p + z * z / (2 * n) + sign * reach) / (1 + z * z / n);
}

bool is_row(const json& row) {
  if (!row.is_object()) return false;
  for (const char* field : {"model", "task", "size", "policy", "budget", "pinned", "feeding",
                            "seed", "solved", "answers", "steps", "mean_kept", "symbols"}) {
    if (!row.contains(field)) return false;
  }
  return true;
}

void add(Share& share, const json& counts) {
  share.hits += counts.at(0).get<std::size_t>();
  share.count += counts.at(1).get<std::size_t>();
}

Summary begin(const json& row) {
  Summary summary;
  summary.model = row.at("model");
  summary.task = row.at("task");
  summary.policy = row.at("policy");
  summary.budget = row.at("budget");
  summary.is_pinned = row.at("pinned");
  summary.feeding = row.at("feeding");
  return summary;
}

void add(Summary& summary, const json& row) {
  summary.solved.hits += row.at("solved").get<bool>() ? 1 : 0;
  const double before = static_cast<double>(summary.solved.count++);
  add(summary.answers, row.at("answers"));
  add(summary.steps, row.at("steps"));
  const auto average = [before](double& mean, double value) {
    mean += (value - mean) / (before + 1);
  };
  average(summary.mean_kept, row.at("mean_kept"));
  average(summary.symbols, row.at("symbols"));
}

std::string cell_key(const json& row) {
  std::string key;
  for (const char* field : {"model", "task", "policy", "budget", "pinned", "feeding", "size"}) {
    key += row.at(field).dump() + ' ';
  }
  return key;
}

}  // namespace

double Share::value() const {
  return count != 0 ? static_cast<double>(hits) / static_cast<double>(count) : 0;
}
double Share::low() const { return wilson(*this, -1); }
double Share::high() const { return wilson(*this, 1); }

std::vector<json> read_rows(const std::string& path, Missing missing) {
  if (missing == Missing::allowed && !std::filesystem::exists(path)) return {};
  std::ifstream in(path);
  if (!in) throw decoder::Error("cannot read " + path);
  std::vector<json> rows;
  std::string line;
  std::uintmax_t whole = 0;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (in.eof()) {  // the last line has no end
      std::filesystem::resize_file(path, whole);
      break;
    }
    whole += line.size() + 1;
    rows.push_back(json::parse(line, nullptr, false));
    if (!is_row(rows.back())) {
      throw decoder::Error(path + " line " + std::to_string(number) +
                           " is no row of results: give a file that `accuracy run` wrote");
    }
  }
  return rows;
}

std::vector<Summary> summarise(const std::vector<json>& rows) {
  std::vector<Summary> summaries;
  std::map<std::string, std::size_t> index;
  for (const json& row : rows) {
    const auto [found, is_new] = index.try_emplace(cell_key(row), summaries.size());
    if (is_new) summaries.push_back(begin(row));
    add(summaries[found->second], row);
  }
  return summaries;
}

std::string summary_table(const std::vector<Summary>& summaries) {
  std::vector<std::vector<std::string>> rows{{"model", "task", "pin", "budget", "policy",
                                              "problems", "solved", "95%", "answers", "steps",
                                              "kept"}};
  for (const Summary& each : summaries) {
    rows.push_back({each.model, each.task, each.is_pinned ? "yes" : "no",
                    fixed(each.budget, 0) + "%", each.policy, std::to_string(each.solved.count),
                    percent(each.solved.value()),
                    percent(each.solved.low()) + " to " + percent(each.solved.high()),
                    percent(each.answers.value()), percent(each.steps.value()),
                    percent(each.mean_kept / each.symbols)});
  }
  return decoder::text_table(rows);
}

}  // namespace accuracy

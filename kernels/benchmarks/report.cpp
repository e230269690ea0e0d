#include "report.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>

namespace gpu_bench {
namespace {

std::string printed(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

double median_of(std::vector<double> values) { return spread_of(std::move(values)).median; }

std::string target_of(const Target& target) {
  switch (target.limit) {
    case Limit::most_ratio:
      return "<= " + printed("%.2f", target.value);
    case Limit::least_speed:
      return ">= " + printed("%.2f", target.value);
    case Limit::most_time:
      return "<= " + printed("%.0f us", target.value);
    case Limit::none:
      break;
  }
  return "-";
}

std::string quoted(const std::string& text) {
  std::string made = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') made += '\\';
    made += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
  }
  return made + '"';
}

std::string json_of(const Spread& spread) {
  return "{\"median_us\": " + printed("%.3f", spread.median) +
         ", \"min_us\": " + printed("%.3f", spread.least) +
         ", \"max_us\": " + printed("%.3f", spread.most) + "}";
}

std::string json_of(const Row& row) {
  return "    {\"name\": " + quoted(row.name) + ", \"floor\": " + json_of(row.floor) +
         ", \"subject\": " + json_of(row.subject) + ", \"ratio\": " + printed("%.4f", row.ratio) +
         ", \"host_us\": " + printed("%.3f", row.host) +
         ", \"bytes\": " + printed("%.0f", row.bytes) +
         ", \"target\": " + quoted(target_of(row.target)) +
         ", \"verdict\": " + quoted(verdict_of(row)) + "}";
}

std::string json_of(const Case& sizes) {
  return "{\"layers\": " + std::to_string(sizes.layers) +
         ", \"batch\": " + std::to_string(sizes.batch) +
         ", \"query_heads\": " + std::to_string(sizes.query_heads) +
         ", \"heads\": " + std::to_string(sizes.heads) +
         ", \"channels\": " + std::to_string(sizes.channels) +
         ", \"tokens\": " + std::to_string(sizes.tokens) +
         ", \"kept\": " + std::to_string(sizes.kept) +
         ", \"weight_bytes\": " + std::to_string(sizes.weight_bytes) + "}";
}

}  // namespace

Spread spread_of(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  const double median =
      times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  return {median, times.front(), times.back()};
}

Row row_of(const std::string& name, const Turns& turns, Target target, double bytes) {
  Row row{.name = name, .target = target, .bytes = bytes};
  row.floor = spread_of(turns.floor);
  row.subject = spread_of(turns.subject);
  row.host = median_of(turns.host);
  std::vector<double> ratios;
  for (std::size_t turn = 0; turn < turns.floor.size(); ++turn) {
    ratios.push_back(turns.subject[turn] / turns.floor[turn]);
  }
  row.ratio = median_of(ratios);
  return row;
}

double value_of(const Row& row) {
  if (row.target.limit == Limit::most_time) return row.subject.median;
  return row.target.limit == Limit::least_speed ? 1 / row.ratio : row.ratio;
}

std::string verdict_of(const Row& row) {
  if (row.target.limit == Limit::none) return "-";
  const double value = value_of(row);
  const bool least = row.target.limit == Limit::least_speed;
  // A value that is no number is not met.
  const bool met = least ? value >= row.target.value : value <= row.target.value;
  return met ? "met" : "missed";
}

std::string table_head() {
  char line[160];
  std::snprintf(line, sizeof line, "%-36s %11s %11s %23s %8s %9s %9s  %s\n", "what", "floor, us",
                "lethe, us", "least to most", "ratio", "host, us", "target", "verdict");
  return line;
}

std::string table_line(const Row& row) {
  char line[240];
  const std::string range =
      printed("%.1f", row.subject.least) + " to " + printed("%.1f", row.subject.most);
  std::snprintf(line, sizeof line, "%-36s %11.1f %11.1f %23s %8.3f %9.1f %9s  %s\n",
                row.name.c_str(), row.floor.median, row.subject.median, range.c_str(),
                row.target.limit == Limit::least_speed ? 1 / row.ratio : row.ratio, row.host,
                target_of(row.target).c_str(), verdict_of(row).c_str());
  return line;
}

std::string json_of(const Machine& machine, const Case& sizes, const std::vector<Row>& rows) {
  std::string text = "{\n  \"device\": " + quoted(machine.device) +
                     ",\n  \"multiprocessors\": " + std::to_string(machine.multiprocessors) +
                     ",\n  \"l2_bytes\": " + std::to_string(machine.l2_bytes) +
                     ",\n  \"driver\": " + std::to_string(machine.driver) +
                     ",\n  \"runtime\": " + std::to_string(machine.runtime) +
                     ",\n  \"case\": " + json_of(sizes) + ",\n  \"rows\": [\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += json_of(rows[i]) + (i + 1 < rows.size() ? ",\n" : "\n");
  }
  return text + "  ]\n}\n";
}

}  // namespace gpu_bench

#include "trace.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <lethe/numeric.hpp>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>

#include "clock_time.hpp"
#include "csv.hpp"
#include "error.hpp"
#include "one_line.hpp"

namespace serving {
namespace {

using nlohmann::json;

/// Seconds of the longest trace, some thirty years: beyond, adding a step's time changes nothing.
constexpr double most_seconds = 1e9;

/// Throws when the request does not come after the one before it, or never.
void check_arrival(const std::string& path, std::size_t row, const Trace& trace, double arrival) {
  if (arrival > most_seconds)
    refuse_row(path, row, "arrives more than a billion seconds after the trace begins");
  if (!trace.requests.empty() && arrival < trace.requests.back().arrival)
    refuse_row(path, row, "arrives before the row above it: sort the trace by arrival");
}

std::uint32_t small(std::size_t number) { return static_cast<std::uint32_t>(number); }

/// What the request may come to: no less than it does.
std::uint32_t read_most_output(const CsvReader& csv, std::size_t column, std::uint32_t output) {
  const std::size_t most = csv.count(column, 1, most_tokens);
  if (most < output)
    csv.refuse("max_tokens is " + std::to_string(most) + ": below its output_tokens, " +
               std::to_string(output));
  return small(most);
}

void read_seconds(CsvReader& csv, Trace& trace) {
  const std::size_t arrival = csv.column("arrival_s");
  const std::size_t input = csv.column("input_tokens");
  const std::size_t output = csv.column("output_tokens");
  const bool has_most = csv.has("max_tokens");
  while (csv.next()) {
    const double at = csv.number(arrival);
    check_arrival(csv.path(), csv.row(), trace, at);
    trace.requests.push_back({.arrival = at,
                              .input = small(csv.count(input, 1, most_tokens)),
                              .output = small(csv.count(output, 1, most_tokens))});
    if (!has_most) continue;
    Request& last = trace.requests.back();
    last.most_output = read_most_output(csv, csv.column("max_tokens"), last.output);
  }
}

void read_dates(CsvReader& csv, Trace& trace) {
  const std::size_t time = csv.column("TIMESTAMP");
  const std::size_t input = csv.column("ContextTokens");
  const std::size_t output = csv.column("GeneratedTokens");
  double first = 0;
  while (csv.next()) {
    double at = 0;
    if (!read_clock_time(csv.cell(time), at))
      csv.refuse("TIMESTAMP is \"" + decoder::one_line(csv.cell(time)) +
                 "\": give a date and a time such as 2023-11-16 18:15:46.68");
    if (trace.requests.empty()) first = at;
    check_arrival(csv.path(), csv.row(), trace, at - first);
    trace.requests.push_back({.arrival = at - first,
                              .input = small(csv.count(input, 1, most_tokens)),
                              .output = small(csv.count(output, 1, most_tokens))});
  }
}

double number_of(const json& object, const char* key, const std::string& path, std::size_t row) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number())
    refuse_row(path, row, std::string("has no number ") + key);
  return found->get<double>();
}

std::uint32_t length_of(const json& object, const char* key, const std::string& path,
                        std::size_t row) {
  const double length = number_of(object, key, path, row);
  if (!(length >= 1) || length > static_cast<double>(most_tokens) || length != std::floor(length))
    refuse_row(path, row,
               std::string(key) + " is " + object.at(key).dump() +
                   ": give a whole number from 1 to " + std::to_string(most_tokens));
  return static_cast<std::uint32_t>(length);
}

json parse_row(const std::string& line, const std::string& path, std::size_t row) {
  json object = json::parse(line, nullptr, false);
  if (!object.is_object()) refuse_row(path, row, "is no JSON object");
  return object;
}

/// The tokens that one of the Mooncake traces' hash_ids stands for.
constexpr std::size_t mooncake_tokens = 512;

void read_hashes(const json& object, const std::string& path, std::size_t row, Trace& trace) {
  const auto ids = object.find("hash_ids");
  if (ids == object.end()) return;
  Request& request = trace.requests.back();
  if (!ids->is_array() || ids->size() > most_tokens) refuse_row(path, row, "hash_ids is no array");
  request.first_hash = small(trace.hashes.size());
  request.hashes = small(std::min<std::size_t>(ids->size(), request.input / mooncake_tokens));
  for (std::size_t i = 0; i < request.hashes; ++i) {
    if (!(*ids)[i].is_number_unsigned()) refuse_row(path, row, "hash_ids has what is no number");
    trace.hashes.push_back((*ids)[i].get<std::uint64_t>());
  }
}

void read_json_lines(const std::string& path, Trace& trace) {
  std::ifstream file(path);
  std::string line;
  trace.hash_tokens = mooncake_tokens;
  for (std::size_t row = 1; std::getline(file, line); ++row) {
    if (line.empty()) continue;
    const json object = parse_row(line, path, row);
    const double at = number_of(object, "timestamp", path, row) / 1000;
    if (!(at >= 0)) refuse_row(path, row, "timestamp is below 0");
    check_arrival(path, row, trace, at);
    trace.requests.push_back({.arrival = at,
                              .input = length_of(object, "input_length", path, row),
                              .output = length_of(object, "output_length", path, row)});
    read_hashes(object, path, row, trace);
  }
}

std::string first_line(const std::string& path) {
  std::error_code unknown;
  std::ifstream file(path);
  std::string line;
  if (std::filesystem::is_directory(path, unknown) || !std::getline(file, line))
    throw decoder::Error(decoder::one_line(path) +
                         ": cannot be read, or is empty: name a trace (CSV or JSON lines)");
  return line;
}

void hash_prompt(const json& tokens, std::size_t block_tokens, const std::string& path,
                 std::size_t row, Trace& trace) {
  Request& request = trace.requests[row - 1];
  if (!tokens.is_array() || tokens.size() != request.input)
    refuse_row(path, row,
               "input_tok_ids are not the " + std::to_string(request.input) +
                   " tokens that the trace says");
  request.first_hash = small(trace.hashes.size());
  request.hashes = small(request.input / block_tokens);
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < request.hashes * block_tokens; ++i) {
    if (!tokens[i].is_number_unsigned()) refuse_row(path, row, "input_tok_ids has no number");
    hash = lethe::detail::mix(hash ^ tokens[i].get<std::uint64_t>());
    if ((i + 1) % block_tokens == 0) trace.hashes.push_back(hash);
  }
}

/// A normal variate from two uniform ones (Box and Muller): the standard library's differs.
double normal(std::mt19937_64& random) {
  const auto uniform = [&random] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

std::uint32_t length(std::mt19937_64& random, double median, double spread, std::size_t longest) {
  const double drawn = std::round(median * std::exp(spread * normal(random)));
  return small(static_cast<std::size_t>(
      std::clamp(drawn, 1.0, static_cast<double>(std::max<std::size_t>(longest, 1)))));
}

}  // namespace

Trace read_trace(const std::string& path) {
  const std::string line = first_line(path);
  Trace trace;
  trace.name = std::filesystem::path(path).filename().string();
  if (line.find_first_not_of(" \t") != std::string::npos && line.find('{') == 0) {
    read_json_lines(path, trace);
  } else {
    CsvReader csv(path);
    csv.has("TIMESTAMP") ? read_dates(csv, trace) : read_seconds(csv, trace);
  }
  if (trace.requests.empty()) throw decoder::Error(decoder::one_line(path) + ": has no requests");
  return trace;
}

void read_prompts(const std::string& path, std::size_t block_tokens, Trace& trace) {
  std::ifstream file(path);
  if (!file) throw decoder::Error(decoder::one_line(path) + ": cannot be read");
  trace.hashes.clear();
  trace.hash_tokens = block_tokens;
  std::string line;
  std::size_t row = 0;
  while (std::getline(file, line)) {
    if (++row > trace.requests.size()) refuse_row(path, row, "is more than the trace's requests");
    const json object = parse_row(line, path, row);
    hash_prompt(object.value("input_tok_ids", json()), block_tokens, path, row, trace);
  }
  if (row < trace.requests.size())
    refuse_row(
        path, row,
        "is the last, but the trace has " + std::to_string(trace.requests.size()) + " requests");
}

Trace synthetic_trace(const SyntheticTrace& settings) {
  std::mt19937_64 random(settings.seed);
  Trace trace;
  trace.name = "synthetic";
  double now = 0;
  for (std::size_t i = 0; i < settings.requests; ++i) {
    const double uniform = (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53;
    now -= std::log(uniform) / settings.rate;
    const std::uint32_t input =
        length(random, settings.input_median, settings.input_spread, settings.longest);
    const std::uint32_t output =
        length(random, settings.output_median, settings.output_spread, settings.longest / 4);
    trace.requests.push_back({.arrival = now, .input = input, .output = output});
  }
  return trace;
}

void speed_up(Trace& trace, double factor) {
  for (Request& request : trace.requests) request.arrival /= factor;
}

}  // namespace serving

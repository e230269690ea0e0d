#include "metrics.hpp"

#include <algorithm>
#include <numeric>

namespace serving {
namespace {

using nlohmann::json;

/// The value below which `share` of the sorted values lie.
double percentile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double rest = place - static_cast<double>(below);
  const double above = sorted[std::min(below + 1, sorted.size() - 1)];
  return sorted[below] + rest * (above - sorted[below]);
}

double token_time(const Request& request, const Served& served) {
  return request.output > 1 ? (served.end - served.first) / (request.output - 1) : 0;
}

double share(std::size_t part, std::size_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

/// Which objectives were met, and how fast.
void count_objectives(const Trace& trace, const RunResults& results, const Objectives& objectives,
                      Summary& summary) {
  std::size_t both = 0, first = 0, each = 0;
  double tokens = 0;
  for (std::size_t i = 0; i < results.requests.size(); ++i) {
    const Served& served = results.requests[i];
    if (served.end < 0) continue;
    const Request& request = trace.requests[i];
    const bool is_first = served.first - request.arrival <= objectives.first_token;
    const bool is_each = token_time(request, served) <= objectives.each_token;
    first += is_first ? 1 : 0;
    each += is_each ? 1 : 0;
    both += is_first && is_each ? 1 : 0;
    tokens += request.output;
  }
  const std::size_t count = results.requests.size();
  summary.attained = share(both, count);
  summary.first_token_attained = share(first, count);
  summary.each_token_attained = share(each, count);
  summary.goodput = rate(static_cast<double>(both), results.makespan);
  summary.requests_rate = rate(static_cast<double>(summary.served), results.makespan);
  summary.token_rate = rate(tokens, results.makespan);
}

}  // namespace

Spread spread(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), percentile(values, 0.5),
          percentile(values, 0.95), percentile(values, 0.99)};
}

Latencies latencies(const Trace& trace, const std::vector<Served>& served) {
  Latencies all;
  for (std::size_t i = 0; i < served.size(); ++i) {
    if (served[i].end < 0) continue;
    const Request& request = trace.requests[i];
    all.queue.push_back(served[i].scheduled - request.arrival);
    all.first_token.push_back(served[i].first - request.arrival);
    all.whole.push_back(served[i].end - request.arrival);
    if (request.output > 1) all.each_token.push_back(token_time(request, served[i]));
  }
  return all;
}

Summary summarise(const Trace& trace, const RunResults& results, const Objectives& objectives) {
  const Latencies all = latencies(trace, results.requests);
  Summary summary;
  summary.served = all.whole.size();
  summary.refused = results.requests.size() - all.whole.size();
  summary.queue = spread(all.queue);
  summary.first_token = spread(all.first_token);
  summary.each_token = spread(all.each_token);
  summary.whole = spread(all.whole);
  count_objectives(trace, results, objectives, summary);
  return summary;
}

json to_json(const Spread& spread) {
  return {{"mean", spread.mean}, {"p50", spread.median}, {"p95", spread.p95}, {"p99", spread.p99}};
}

json to_json(const Summary& summary, const RunResults& results) {
  return {{"requests", {{"served", summary.served}, {"refused", summary.refused}}},
          {"queue_seconds", to_json(summary.queue)},
          {"ttft_seconds", to_json(summary.first_token)},
          {"tpot_seconds", to_json(summary.each_token)},
          {"latency_seconds", to_json(summary.whole)},
          {"attainment",
           {{"both", summary.attained},
            {"ttft", summary.first_token_attained},
            {"tpot", summary.each_token_attained}}},
          {"goodput_requests_per_second", summary.goodput},
          {"requests_per_second", summary.requests_rate},
          {"tokens_per_second", summary.token_rate},
          {"makespan_seconds", results.makespan},
          {"busy_seconds", results.busy},
          {"steps", results.steps},
          {"preemptions", results.preemptions},
          {"swaps", results.swaps},
          {"reused_tokens", results.reused_tokens},
          {"link", {{"seconds", results.link_seconds}, {"bytes", results.link_bytes}}}};
}

}  // namespace serving

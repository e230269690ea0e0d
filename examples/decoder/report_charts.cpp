#include "report_charts.hpp"

#include <cmath>
#include <vector>

#include "report_data.hpp"
#include "report_heat.hpp"
#include "report_svg.hpp"
#include "report_text.hpp"

namespace decoder::report {
namespace {

using nlohmann::json;

constexpr double mebibyte = 1024.0 * 1024.0;

std::vector<Point> points_of(const json& results, const char* x, double unit,
                             std::string (*show)(double)) {
  std::vector<Point> points;
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    const double divergence = number_at(run, "/fidelity/overall/mean_divergence");
    const double value = number_at(run, x);
    const std::string label = text_at(run, "/label");
    const std::string note = label + ": " + show(value) + ", " + fixed(divergence, 4) + " nats";
    if (divergence > 0 && std::isfinite(value))
      points.push_back(
          {.label = label, .style = style, .x = value / unit, .y = divergence, .note = note});
    ++style;
  }
  return points;
}

Reference whole_cache(const json& results, const char* x, double unit) {
  const json& full = results.at("runs").at(0);
  return {.label = text_at(full, "/label"), .x = number_at(full, x) / unit};
}

std::string per_second(double speed) { return figure(speed) + " tokens/s"; }

std::vector<Series> series_of(const json& results, const std::string& x, const std::string& y,
                              double unit) {
  std::vector<Series> all;
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    Series line{.label = text_at(run, "/label"),
                .style = style++,
                .x = numbers_at(run, x),
                .y = numbers_at(run, y)};
    for (double& value : line.y) value /= unit;
    if (!line.x.empty() && !line.y.empty()) all.push_back(std::move(line));
  }
  return all;
}

std::string chart_of(const Caption& caption, const std::vector<Series>& series) {
  return series.empty() ? std::string() : line_chart(caption, series);
}

std::string pair(const std::string& first, const std::string& second) {
  if (first.empty() && second.empty()) return {};
  return "<div class=\"pair\">" + first + second + "</div>\n";
}

HeatMap kept_map(const json& run) {
  return {
      .caption = {.id = "kept",
                  .title = "Kept tokens, layer by layer",
                  .description = "Each row is a layer, from the first at the top. A row darkens "
                                 "where a round pruned it.",
                  .x_title = "tokens seen",
                  .y_title = "layer"},
      .value_title = "kept tokens",
      .x = numbers_at(run, "/kept/over_time/tokens"),
      .rows = rows_at(run, "/kept/over_time/layers"),
      .is_from_zero = true};
}

HeatMap sparsity_map(const json& run) {
  return {.caption = {.id = "sparsity",
                      .title = "Hoyer sparsity of the scores, layer by layer",
                      .description = "As measured at each layer's latest round: 1 means that one "
                                     "token holds all the attention. Blank before the first round.",
                      .x_title = "tokens seen",
                      .y_title = "layer"},
          .value_title = "Hoyer sparsity",
          .x = numbers_at(run, "/sparsity/over_time/tokens"),
          .rows = rows_at(run, "/sparsity/over_time/layers")};
}

std::string map_of(const HeatMap& map) {
  if (map.x.empty() || map.rows.empty()) return {};
  return heat_map(map);
}

}  // namespace

std::string cost_fidelity(const json& results) {
  const char* memory = "/fidelity/mean_bytes";
  const char* speed = "/speed/tokens_per_second";
  const auto by_bytes = points_of(results, memory, mebibyte, bytes);
  const auto by_speed = points_of(results, speed, 1.0, per_second);
  if (by_bytes.empty() || by_speed.empty()) return {};
  const Caption left{.id = "cost-bytes",
                     .title = "Divergence against memory",
                     .description =
                         "Lower is closer to the whole cache (its own divergence is 0), "
                         "further left is smaller: the lower left is best.",
                     .x_title = "resident cache, mean (MiB)",
                     .y_title = "mean KL (nats), log scale"};
  const Caption right{.id = "cost-speed",
                      .title = "Divergence against speed",
                      .description =
                          "Lower is closer to the whole cache, further right is faster: "
                          "the lower right is best.",
                      .x_title = "decode speed (tokens/s)",
                      .y_title = "mean KL (nats), log scale"};
  return pair(point_chart(left, by_bytes, whole_cache(results, memory, mebibyte), true),
              point_chart(right, by_speed, whole_cache(results, speed, 1.0), false));
}

std::string cost_over_time(const json& results) {
  const Caption memory{.id = "bytes",
                       .title = "Resident cache over time",
                       .description =
                           "Memory of the cache that is really resident, after each "
                           "token.",
                       .x_title = "tokens seen",
                       .y_title = "resident cache (MiB)"};
  const Caption speed{.id = "speed",
                      .title = "Speed over time",
                      .description =
                          "Each run decodes alone; runs take turns so that noise of the "
                          "machine meets all alike.",
                      .x_title = "tokens seen",
                      .y_title = "tokens/s"};
  return pair(chart_of(memory, series_of(results, "/memory/over_time/tokens",
                                         "/memory/over_time/bytes", mebibyte)),
              chart_of(speed, series_of(results, "/speed/over_time/tokens",
                                        "/speed/over_time/tokens_per_second", 1.0)));
}

std::string fidelity_over_time(const json& results) {
  const Caption divergence{.id = "divergence",
                           .title = "Divergence over time",
                           .description =
                               "Mean KL of the next-token distribution from the whole "
                               "cache's, over stretches of the text.",
                           .x_title = "tokens seen",
                           .y_title = "mean KL (nats)"};
  const Caption agreement{.id = "disagreement",
                          .title = "Different top token over time",
                          .description =
                              "Share of tokens where the most likely next token is not "
                              "the whole cache's.",
                          .x_title = "tokens seen",
                          .y_title = "different top token (%)"};
  const std::string x = "/fidelity/over_time/tokens";
  return pair(
      chart_of(divergence, series_of(results, x, "/fidelity/over_time/mean_divergence", 1.0)),
      chart_of(agreement, series_of(results, x, "/fidelity/over_time/disagreement", 0.01)));
}

std::string layer_maps(const json& run) {
  const std::string maps = map_of(kept_map(run)) + map_of(sparsity_map(run));
  return maps.empty() ? maps : "<div class=\"stack wide\">" + maps + "</div>\n";
}

}  // namespace decoder::report

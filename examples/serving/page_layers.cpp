#include "page_layers.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "report_heat.hpp"
#include "report_text.hpp"

namespace serving {
namespace {

using decoder::report::escape;
using decoder::report::HeatMap;

/// Columns of a map; more only make the page longer.
constexpr std::size_t columns = 120;

/// One of the two tiers, as its maps call it.
struct MapTier {
  const char* id;
  const char* title;
  std::vector<std::uint32_t> LayerMoment::*blocks;
};
constexpr MapTier device_tier{"device", "On the device", &LayerMoment::device};
constexpr MapTier host_tier{"host", "On the host", &LayerMoment::host};

bool is_uneven(const std::vector<std::uint32_t>& blocks) {
  return std::adjacent_find(blocks.begin(), blocks.end(), std::not_equal_to<>()) != blocks.end();
}

/// Whether a layer ever held what another did not, in either tier.
bool layers_differ(const ComparedRun& run) {
  const auto& moments = run.results.layer_moments;
  return std::any_of(moments.begin(), moments.end(), [](const LayerMoment& moment) {
    return is_uneven(moment.device) || is_uneven(moment.host);
  });
}

/// What is the same in all maps of a tier.
struct MapScale {
  double end = 0;   ///< of the longest run
  double most = 0;  ///< blocks of a layer
};

MapScale scale_of(std::span<const ComparedRun* const> runs, const MapTier& tier) {
  MapScale scale;
  for (const ComparedRun* run : runs)
    for (const LayerMoment& moment : run->results.layer_moments) {
      scale.end = std::max(scale.end, moment.time);
      for (const std::uint32_t blocks : moment.*tier.blocks)
        scale.most = std::max(scale.most, static_cast<double>(blocks));
    }
  return scale;
}

/// Adds a column: how things stood at `time`; blank before the first moment and after the last.
void add_column(const ComparedRun& run, const MapTier& tier, double time, HeatMap& map) {
  const auto& moments = run.results.layer_moments;
  const auto after =
      std::upper_bound(moments.begin(), moments.end(), time,
                       [](double at, const LayerMoment& moment) { return at < moment.time; });
  const bool is_known = after != moments.begin() && after != moments.end();
  map.x.push_back(time);
  for (std::size_t layer = 0; layer < map.rows.size(); ++layer)
    map.rows[layer].push_back(is_known ? ((*(after - 1)).*tier.blocks)[layer]
                                       : std::numeric_limits<double>::quiet_NaN());
}

std::string layer_map(const ComparedRun& run, std::size_t number, const MapTier& tier,
                      const MapScale& scale) {
  HeatMap map{
      .caption = {.id = std::string("layers-") + tier.id + std::to_string(number),
                  .title = std::string(tier.title) + ", layer by layer: " + run.policy,
                  .description = "A row is a layer; its colour is how many blocks it holds there.",
                  .x_title = "seconds",
                  .y_title = "layer"},
      .value_title = "blocks",
      .x = {},
      .rows = {},
      .is_from_zero = true,
      .most = scale.most};
  map.rows.resize(run.results.layer_moments.front().device.size());
  for (std::size_t i = 0; i < columns; ++i)
    add_column(run, tier, scale.end * static_cast<double>(i) / columns, map);
  return heat_map(map);
}

}  // namespace

std::string layer_maps(std::span<const ComparedRun* const> runs, std::size_t rate) {
  const MapScale device = scale_of(runs, device_tier);
  const MapScale host = scale_of(runs, host_tier);
  std::string maps;
  std::string alike;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::size_t number = rate * runs.size() + i;
    if (layers_differ(*runs[i]))
      maps += layer_map(*runs[i], number, device_tier, device) +
              layer_map(*runs[i], number, host_tier, host);
    else
      alike += (alike.empty() ? "" : ", ") + escape(runs[i]->policy);
  }
  if (!alike.empty())
    alike = "<p class=\"note\">No map of " + alike +
            ": there all layers always held the same number of blocks.</p>";
  return alike + (maps.empty() ? maps : "<div class=\"stack wide\">" + maps + "</div>");
}

}  // namespace serving

#include <lethe/policies/values.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "gguf.hpp"
#include "pruner_recipe.hpp"
#include "quant.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_longflow(const Recipe& recipe) {
  return Pruner(policies::LongFlow(recipe.config_of_groups(), {.heads = recipe.heads()}));
}

/// What a round leaves in all layers; a layer's cap is the budget, so none gets more than that.
Pruner make_lava(const Recipe& recipe) {
  const lethe::PrunerConfig config = recipe.config_of_groups();
  const std::size_t kept = lethe::kept_at_bound(config.slack_ratio, config.capacity);
  lethe::LAVaConfig own{.heads = recipe.heads(), .total = config.layers * kept};
  own.window = recipe.window(own.window);
  recipe.set("window", own.window).set("pool", own.pool);
  return Pruner(policies::LAVa(config, own));
}

Pruner make_vase(const Recipe& recipe) {
  lethe::VaSEConfig config{.heads = recipe.heads(), .seed = recipe.options.seed};
  config.window = recipe.window(config.window);
  recipe.set("first_tokens", config.first_tokens)
      .set("window", config.window)
      .set("pool", config.pool)
      .set("wide_share", config.wide_share);
  return Pruner(policies::VaSE(recipe.config_by_head(), config));
}

/// The output projections of all layers as floats; copies share them.
struct Projections {
  std::shared_ptr<const std::vector<float>> floats;
  lethe::OutputProjection output;
};

Projections read_projections(const Recipe& recipe) {
  if (recipe.options.file == nullptr)
    throw Error("criticalkv reads the weights of a model, which are not at hand here");
  const ModelConfig& model = recipe.model;
  const std::size_t columns = std::size_t{model.heads} * model.head_dim;
  auto floats = std::make_shared<std::vector<float>>(model.layers * model.width * columns);
  lethe::OutputProjection output{.query_heads = model.heads, .width = model.width};
  for (std::size_t layer = 0; layer < model.layers; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + ".attn_output.weight";
    const gguf::Tensor& tensor = recipe.options.file->require(name, {columns, model.width});
    float* const matrix = floats->data() + layer * model.width * columns;
    for (std::size_t row = 0; row < model.width; ++row) {
      dequantise_row(tensor, row, matrix + row * columns);
    }
    output.layers.emplace_back(matrix, model.width * columns);
  }
  return {.floats = std::move(floats), .output = std::move(output)};
}

/// The policy and the weights that it reads.
struct CriticalKV : private Projections, public policies::CriticalKV {
  CriticalKV(const Recipe& recipe, Projections own)
      : Projections(std::move(own)),
        policies::CriticalKV(recipe.config_by_head(), config_of(recipe, output)) {}

  static lethe::CriticalKVConfig config_of(const Recipe& recipe,
                                           const lethe::OutputProjection& output) {
    lethe::CriticalKVConfig config{.heads = recipe.heads(), .output = output};
    config.window = recipe.window(config.window);
    recipe.set("window", config.window)
        .set("pool", config.pool)
        .set("epsilon", config.epsilon)
        .set("first_share", config.first_share);
    return config;
  }
};

Pruner make_criticalkv(const Recipe& recipe) {
  return Pruner(CriticalKV(recipe, read_projections(recipe)));
}

constexpr std::array entries{PolicyEntry{{"longflow", "LongFlow"}, make_longflow},
                             PolicyEntry{{"lava", "LAVa"}, make_lava},
                             PolicyEntry{{"vase", "VaSE"}, make_vase},
                             PolicyEntry{{"criticalkv", "CriticalKV"}, make_criticalkv}};

}  // namespace

std::span<const PolicyEntry> value_policies() noexcept { return entries; }

}  // namespace decoder

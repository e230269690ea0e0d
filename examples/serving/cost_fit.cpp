#include "cost_fit.hpp"

#include <span>

namespace serving {
namespace layerkv = lethe::layerkv;

PrefillRows prefill_rows(const StepTimes& times) {
  PrefillRows rows;
  for (std::size_t tokens = 64; tokens <= 2048; tokens *= 2)
    for (std::size_t context = 0; context <= 16384; context = context == 0 ? 1024 : 4 * context) {
      const PrefillPart part{static_cast<double>(tokens), static_cast<double>(context)};
      StepWork work;
      work.prefills = std::span(&part, 1);
      rows.push_back({{tokens, context}, times.seconds(work)});
    }
  return rows;
}

DecodeRows decode_rows(const StepTimes& times) {
  DecodeRows rows;
  for (std::size_t sequences = 1; sequences <= 256; sequences *= 4)
    for (std::size_t context = 64; context <= 16384; context *= 4) {
      StepWork work;
      work.decodes = static_cast<double>(sequences);
      work.decode_context = static_cast<double>(sequences * context);
      rows.push_back({{sequences, sequences * context}, times.seconds(work)});
    }
  return rows;
}

FittedCosts fit_costs(const Profile& profile) {
  const layerkv::FitConfig config{.most_mean_error = 1};
  const auto prefill = layerkv::fit<layerkv::PrefillCost>(prefill_rows(profile.times), config);
  const auto decode = layerkv::fit<layerkv::DecodeCost>(decode_rows(profile.times), config);
  layerkv::CopyCost copy;
  copy.per_byte = static_cast<double>(profile.gpus) / profile.link_bytes;
  return {{prefill.cost, decode.cost, copy}, prefill.mean_error, decode.mean_error};
}

layerkv::CacheShape cache_shape(const Profile& profile, std::size_t block_tokens,
                                std::size_t fragment_bytes) {
  return {.layers = profile.model.layers,
          .token_bytes = profile.model.token_bytes() / profile.gpus,
          .block_tokens = block_tokens,
          .fragment_bytes = fragment_bytes};
}

}  // namespace serving

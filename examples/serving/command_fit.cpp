#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "commands.hpp"
#include "cost_tables.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "report_text.hpp"
#include "work.hpp"

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;
using decoder::report::fixed;
using decoder::report::percent;
using nlohmann::json;

constexpr std::size_t folds = 5;

/// How far fitted times are from measured ones; NaN where no fit could be made.
struct Errors {
  double mean = std::numeric_limits<double>::quiet_NaN();
  double worst = std::numeric_limits<double>::quiet_NaN();
};

/// A coefficient of one of the library's structs, and what it is multiplied with.
struct Coefficient {
  const char* name;
  const char* unit;
};

/// What fitted a part of the costs, and how well it says its rows.
struct FittedPart {
  const char* name;
  std::array<Coefficient, 3> coefficients;
  std::array<double, 3> seconds;  ///< of the coefficients
  std::string source{};
  std::size_t rows = 0;
  Errors of_fit{};
  Errors held_out{};
};

/// Which fold a row is held out in: neighbours, and what stands below one another in a grid, in
/// different ones.
std::size_t fold_of(std::size_t row) { return (row + row / folds) % folds; }

/// As the library counts it: 0.1 is 1.1 times as long as measured, or as much less.
double relative_error(double fitted, double measured) {
  const double ratio = fitted / measured;
  return ratio >= 1 ? ratio - 1 : 1 / std::max(ratio, 1e-9) - 1;
}

/// The errors of rows by fits that have not seen them: each row is held out once, a fifth of them
/// at a time.
template <class Cost, class Rows>
Errors errors_held_out(const Rows& rows, const layerkv::FitConfig& config) {
  Errors errors{0, 0};
  for (std::size_t fold = 0; fold < folds; ++fold) {
    Rows seen;
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (fold_of(i) != fold) seen.push_back(rows[i]);
    if (seen.size() == rows.size()) continue;
    const Cost cost = layerkv::fit<Cost>(seen, config).cost;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (fold_of(i) != fold) continue;
      const double error = relative_error(cost.seconds(rows[i].work), rows[i].seconds);
      errors.mean += error / static_cast<double>(rows.size());
      errors.worst = std::max(errors.worst, error);
    }
  }
  return errors;
}

template <class Cost, class Rows>
Errors errors_held_out_if_any(const Rows& rows, const layerkv::FitConfig& config) {
  try {
    return errors_held_out<Cost>(rows, config);
  } catch (const std::invalid_argument&) {
    return {};  // what is left without a fifth says too little
  }
}

FittedPart part_of(const layerkv::PrefillCost& cost) {
  return {.name = "prefill",
          .coefficients = {{{"base", "a pass"},
                            {"per_token", "a token"},
                            {"per_pair", "a query and a key it sees"}}},
          .seconds = {cost.base, cost.per_token, cost.per_pair}};
}

FittedPart part_of(const layerkv::DecodeCost& cost) {
  return {.name = "decode",
          .coefficients = {{{"base", "a step"},
                            {"per_sequence", "a sequence"},
                            {"per_token", "a cached token"}}},
          .seconds = {cost.base, cost.per_sequence, cost.per_token}};
}

FittedPart part_of(const layerkv::CopyCost& cost) {
  return {.name = "copy",
          .coefficients = {{{"per_copy", "a call"},
                            {"per_fragment", "a fragment"},
                            {"per_byte", "a byte"}}},
          .seconds = {cost.per_copy, cost.per_fragment, cost.per_byte}};
}

template <class Cost, class Rows>
FittedPart fit_part(const std::string& source, const Rows& rows, double most_mean_error) {
  try {
    const auto fitted = layerkv::fit<Cost>(rows, {.most_mean_error = most_mean_error});
    FittedPart part = part_of(fitted.cost);
    part.source = source;
    part.rows = rows.size();
    part.of_fit = {fitted.mean_error, fitted.worst_error};
    part.held_out = errors_held_out_if_any<Cost>(rows, {.most_mean_error = 1e9});
    return part;
  } catch (const std::invalid_argument& error) {
    throw decoder::Error(decoder::one_line(source) + ": " + decoder::one_line(error.what()));
  }
}

void fit_profile(const FitOptions& options, std::vector<FittedPart>& parts) {
  const Profile profile = read_profile(options.profile, model_shape(options.model), options.gpus,
                                       EngineSettings{}.block_tokens);
  const double most = options.most_mean_error;
  if (options.prefill.empty())
    parts.push_back(
        fit_part<layerkv::PrefillCost>(options.profile, prefill_rows(profile.times), most));
  if (options.decode.empty())
    parts.push_back(
        fit_part<layerkv::DecodeCost>(options.profile, decode_rows(profile.times), most));
}

std::vector<FittedPart> fit_all(const FitOptions& options) {
  const double most = options.most_mean_error;
  std::vector<FittedPart> parts;
  if (!options.prefill.empty())
    parts.push_back(
        fit_part<layerkv::PrefillCost>(options.prefill, read_prefill_rows(options.prefill), most));
  if (!options.decode.empty())
    parts.push_back(
        fit_part<layerkv::DecodeCost>(options.decode, read_decode_rows(options.decode), most));
  if (!options.transfer.empty())
    parts.push_back(
        fit_part<layerkv::CopyCost>(options.transfer, read_copy_rows(options.transfer), most));
  if (!options.profile.empty()) fit_profile(options, parts);
  return parts;
}

std::string percent_if_any(double share) { return std::isnan(share) ? "-" : percent(share); }

void print_costs(const FittedPart& part) {
  std::printf("\n%s, of %s:\n", part.name, decoder::one_line(part.source).c_str());
  for (std::size_t i = 0; i < 3; ++i)
    std::printf("  %-12s  %.4g s %s\n", part.coefficients[i].name, part.seconds[i],
                part.coefficients[i].unit);
}

/// How fast copies are, by the size of what lies together.
void print_bandwidth(const FittedPart& copy) {
  const layerkv::CopyCost cost{copy.seconds[0], copy.seconds[1], copy.seconds[2]};
  for (const std::size_t kilobytes : {32U, 2048U})
    std::printf("  %4zu KB at once: %s GB/s\n", kilobytes,
                fixed(cost.bandwidth(kilobytes << 10) / 1e9, 2).c_str());
}

void print(const std::vector<FittedPart>& parts) {
  std::vector<std::vector<std::string>> rows{
      {"seconds of", "rows", "mean error", "worst", "held out: mean", "worst"}};
  for (const FittedPart& part : parts)
    rows.push_back({part.name, std::to_string(part.rows), percent_if_any(part.of_fit.mean),
                    percent_if_any(part.of_fit.worst), percent_if_any(part.held_out.mean),
                    percent_if_any(part.held_out.worst)});
  std::printf("%s", decoder::text_table(rows).c_str());
  for (const FittedPart& part : parts) {
    print_costs(part);
    if (std::string_view(part.name) == "copy") print_bandwidth(part);
  }
}

json to_json(const Errors& errors) { return {{"mean", errors.mean}, {"worst", errors.worst}}; }

json to_json(const std::vector<FittedPart>& parts) {
  json all = json::object();
  for (const FittedPart& part : parts) {
    for (std::size_t i = 0; i < 3; ++i) all[part.name][part.coefficients[i].name] = part.seconds[i];
    all["fit"][part.name] = {{"source", part.source},
                             {"rows", part.rows},
                             {"error", to_json(part.of_fit)},
                             {"error_held_out", to_json(part.held_out)}};
  }
  return all;
}

}  // namespace

int fit(const FitOptions& options) {
  decoder::check_writable(options.json);
  const std::vector<FittedPart> parts = fit_all(options);
  if (parts.empty())
    throw decoder::Error(
        "there is nothing to fit: give --prefill, --decode, --transfer, --profile");
  print(parts);
  decoder::write_json(options.json, to_json(parts));
  return 0;
}

}  // namespace serving

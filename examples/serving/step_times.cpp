#include "step_times.hpp"

#include <algorithm>

namespace serving {
namespace {

/// One part with the same tokens and the same attention as all of them: its context may come out
/// below 0 when they are many.
PrefillPart together(std::span<const PrefillPart> parts) {
  double tokens = 0;
  double pairs = 0;
  for (const PrefillPart& part : parts) {
    tokens += part.tokens;
    pairs += part.tokens * (part.context + part.tokens / 2);
  }
  return {tokens, tokens > 0 ? pairs / tokens - tokens / 2 : 0};
}

double mean_context(const StepWork& work) {
  return work.decodes > 0 ? work.decode_context / work.decodes : 0;
}

}  // namespace

double StepWork::tokens() const {
  double sum = decodes;
  for (const PrefillPart& part : prefills) sum += part.tokens;
  return sum;
}

double StepTimes::seconds(const StepWork& work) const {
  return rest(work) + static_cast<double>(tables_.layers) * attention(work);
}

double StepTimes::rest(const StepWork& work) const {
  double tokens = work.tokens();
  if (tokens == 0) return 0;
  const auto size =
      std::lower_bound(tables_.graph_sizes.begin(), tables_.graph_sizes.end(), tokens);
  if (size != tables_.graph_sizes.end()) tokens = *size;
  return tables_.tokens(tokens) + tables_.sequences(work.sequences());
}

double StepTimes::attention(const StepWork& work) const {
  return tables_.is_mixed ? mixed(work) : separate(work);
}

double StepTimes::in_batch(const PrefillPart& prefill, double decodes, double context) const {
  // The tables' first points stand for none of the kind, where the other coordinate means nothing.
  return tables_.mixed({prefill.tokens, prefill.tokens > 0 ? prefill.context : 0, decodes,
                        decodes > 0 ? context : 0});
}

double StepTimes::mixed(const StepWork& work) const {
  const double context = mean_context(work);
  if (work.prefills.empty()) return in_batch({}, work.decodes, context);
  PrefillPart whole = together(work.prefills);
  if (whole.context >= 0) return in_batch(whole, work.decodes, context);
  // Many short prompts: each alone, and what decoding adds to as many tokens.
  double sum = 0;
  for (const PrefillPart& part : work.prefills) sum += in_batch(part, 0, 0);
  if (work.decodes == 0) return sum;
  whole.context = 0;
  return sum + in_batch(whole, work.decodes, context) - in_batch(whole, 0, 0);
}

double StepTimes::prefill_alone(const PrefillPart& part) const {
  // Rows [context, context + tokens) of the triangle that a whole prompt computes.
  return tables_.prefill(part.context + part.tokens) -
         (part.context > 0 ? tables_.prefill(part.context) : 0);
}

double StepTimes::separate(const StepWork& work) const {
  double sum = 0;
  for (const PrefillPart& part : work.prefills) sum += prefill_alone(part);
  if (work.decodes > 0) sum += tables_.decode({work.decodes, mean_context(work)});
  return sum;
}

}  // namespace serving

#include "sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "error.hpp"

namespace decoder {

namespace {

// Probabilities are held as whole numbers, since exp() differs between math libraries in the last
// bit: a subtraction, a division and a product in IEEE arithmetic, and integers from there on.
constexpr int weight_bits = 40;

/// 2^fraction in 31 fractional bits, for a fraction in 32 bits; the exponential series to the ninth
/// power.
std::uint64_t exp2_of_fraction(std::uint64_t fraction) noexcept {
  // (ln 2)^k / k! in 31 fractional bits, k = 9 down to 0.
  constexpr std::array<std::uint64_t, 10> series{
      219, 2838, 32755, 330788, 2863360, 20654775, 119194166, 515882496, 1488522236, 2147483648};
  std::uint64_t sum = 0;
  for (const std::uint64_t coefficient : series) sum = coefficient + ((sum * fraction) >> 32);
  return sum;
}

/// 2^40 e^-distance, rounded down, for a distance of at least 0.
std::uint64_t weight_at(double distance) noexcept {
  constexpr double log2_of_e = 1.4426950408889634;
  const double halvings = distance * log2_of_e;
  if (!(halvings < weight_bits + 1)) return 0;
  const auto fixed = static_cast<std::uint64_t>(halvings * 0x1p32);
  const std::uint64_t whole = (fixed + 0xFFFFFFFFu) >> 32;
  return (exp2_of_fraction((whole << 32) - fixed) << (weight_bits - 31)) >> whole;
}

/// Index of the largest logit; throws for logits nothing can be drawn from.
std::int32_t best_of(std::span<const float> logits) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::size_t best = 0;
  float most = -infinity;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == infinity) {
      throw Error("logit " + std::to_string(i) +
                  " is not a number; the model file is damaged or unsupported");
    }
    if (logits[i] > most) {
      most = logits[i];
      best = i;
    }
  }
  if (most == -infinity)
    throw Error("no logit is finite; the model file is damaged or unsupported");
  return static_cast<std::int32_t>(best);
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014), which spreads any seed over the state.
std::uint64_t split_mix(std::uint64_t& state) noexcept {
  state += 0x9E3779B97F4A7C15u;
  std::uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return mixed ^ (mixed >> 31);
}

}  // namespace

Sampler::Sampler(Config config) : config_(config) {
  if (!(config.temperature >= 0.0f) || !std::isfinite(config.temperature)) {
    throw Error("temperature is " + std::to_string(config.temperature) +
                "; give 0 for the most likely token, or a positive number such as 0.7");
  }
  if (!(config.top_p > 0.0f && config.top_p <= 1.0f)) {
    throw Error("top-p is " + std::to_string(config.top_p) + "; give a number above 0 and up to 1");
  }
  for (std::uint64_t& word : state_) word = split_mix(config.seed);
}

std::int32_t Sampler::operator()(std::span<const float> logits) {
  const std::int32_t best = best_of(logits);
  if (config_.temperature == 0.0f) return best;
  const std::uint64_t total = weigh(logits, best);
  std::uint64_t ticket = next_below(select_top(total));
  for (auto chosen = candidates_.rbegin();; ++chosen) {
    if (ticket < chosen->weight) return chosen->id;
    ticket -= chosen->weight;
  }
}

/// Fills the candidates that have any weight and returns their sum, at least 2^40 by the best
/// one's.
std::uint64_t Sampler::weigh(std::span<const float> logits, std::int32_t best) {
  const double most = logits[static_cast<std::size_t>(best)];
  const double temperature = config_.temperature;
  candidates_.clear();
  candidates_.reserve(logits.size());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::uint64_t weight = weight_at((most - double{logits[i]}) / temperature);
    if (weight == 0) continue;
    candidates_.push_back({weight, static_cast<std::int32_t>(i)});
    total += weight;
  }
  return total;
}

/// Moves the likeliest candidates to the end, drops the others, and returns the weight of those
/// left.
std::uint64_t Sampler::select_top(std::uint64_t total) {
  const auto less_likely = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight < b.weight : a.id > b.id;
  };
  const auto wanted =
      static_cast<std::uint64_t>(static_cast<double>(total) * double{config_.top_p});
  std::uint64_t kept = 0;
  auto heap_end = candidates_.end();
  std::make_heap(candidates_.begin(), heap_end, less_likely);
  do {
    std::pop_heap(candidates_.begin(), heap_end, less_likely);
    kept += (--heap_end)->weight;
  } while (kept < wanted && heap_end != candidates_.begin());
  candidates_.erase(candidates_.begin(), heap_end);
  return kept;
}

/// xoshiro256** (Blackman and Vigna 2018).
std::uint64_t Sampler::next_random() noexcept {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

/// A number below `bound`, each as likely: draws of just enough bits until one fits.
std::uint64_t Sampler::next_below(std::uint64_t bound) noexcept {
  const int unused_bits = std::countl_zero(bound);
  for (;;) {
    const std::uint64_t draw = next_random() >> unused_bits;
    if (draw < bound) return draw;
  }
}

}  // namespace decoder

/// What prefill, decoding and copies cost, in seconds: three small linear models.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

#include "lethe/config.hpp"
#include "lethe/layerkv/least_squares.hpp"

namespace lethe::layerkv {

/// Longer than anything: the time of what never ends, such as a copy over no link.
inline constexpr double never = std::numeric_limits<double>::max();

/// A prompt, or a chunk of one, to be computed.
struct PrefillWork {
  std::size_t tokens = 0;
  /// Tokens that the cache holds already and these attend to: earlier chunks, a shared prefix.
  std::size_t context = 0;

  bool operator==(const PrefillWork&) const = default;
};

/// One decode step.
struct DecodeWork {
  std::size_t sequences = 0;
  /// Cached tokens that the step reads, over all sequences; where layers hold different numbers,
  /// their mean.
  std::size_t context = 0;

  bool operator==(const DecodeWork&) const = default;
};

/// Copies between device and host.
struct CopyWork {
  std::size_t bytes = 0;
  /// Pieces that lie together on both sides.
  std::size_t fragments = 0;
  /// Calls that enqueue them; one call may gather many fragments.
  std::size_t copies = 0;

  bool operator==(const CopyWork&) const = default;
};

namespace detail {

[[nodiscard]] LETHE_EXACT inline double dot(const Triple& a, const Triple& b) {
  LETHE_EXACT_BODY
  return (LETHE_PRODUCT(a[0], b[0]) + LETHE_PRODUCT(a[1], b[1])) + LETHE_PRODUCT(a[2], b[2]);
}

/// Pairs of a query and a key it sees: causal, so chunks add up to the whole.
[[nodiscard]] LETHE_EXACT inline double attention_pairs(const PrefillWork& work) {
  LETHE_EXACT_BODY
  const auto tokens = static_cast<double>(work.tokens);
  return LETHE_PRODUCT(tokens, static_cast<double>(work.context)) +
         LETHE_PRODUCT(tokens, tokens + 1) / 2;
}

[[nodiscard]] inline Triple features(const PrefillWork& work) {
  return {1, static_cast<double>(work.tokens), attention_pairs(work)};
}

[[nodiscard]] inline Triple features(const DecodeWork& work) {
  return {1, static_cast<double>(work.sequences), static_cast<double>(work.context)};
}

[[nodiscard]] inline Triple features(const CopyWork& work) {
  return {static_cast<double>(work.copies), static_cast<double>(work.fragments),
          static_cast<double>(work.bytes)};
}

}  // namespace detail

/// T_prefill: seconds of one pass = base + per_token x tokens + per_pair x pairs, a pair being a
/// query and a key it sees. The paper's alpha (2 P s + 2 L d s^2) / FLOPS (arXiv 2410.00428) is
/// base = 0, per_token = alpha 2 P / FLOPS and per_pair = alpha 4 L d / FLOPS.
struct PrefillCost {
  using Work = PrefillWork;
  double base = 0;
  double per_token = 0;
  double per_pair = 0;

  /// Seconds of one pass; no tokens take no time. O(1).
  [[nodiscard]] LETHE_EXACT double seconds(const PrefillWork& work) const {
    LETHE_EXACT_BODY
    if (work.tokens == 0) return 0;
    return std::min(never, detail::dot({base, per_token, per_pair}, detail::features(work)));
  }

  /// Seconds of the same in passes of `chunk` tokens (0: one pass). O(1).
  [[nodiscard]] LETHE_EXACT double seconds(const PrefillWork& work, std::size_t chunk) const {
    LETHE_EXACT_BODY
    if (work.tokens == 0) return 0;
    const std::size_t more_passes = chunk == 0 ? 0 : (work.tokens - 1) / chunk;
    return std::min(never, seconds(work) + LETHE_PRODUCT(base, static_cast<double>(more_passes)));
  }

  bool operator==(const PrefillCost&) const = default;
};

/// T_decode: seconds of one step = base (reading the weights) + per_sequence x sequences +
/// per_token x cached tokens read.
struct DecodeCost {
  using Work = DecodeWork;
  double base = 0;
  double per_sequence = 0;
  double per_token = 0;

  /// Seconds of one step; no sequences take no time. O(1).
  [[nodiscard]] LETHE_EXACT double seconds(const DecodeWork& work) const {
    LETHE_EXACT_BODY
    if (work.sequences == 0) return 0;
    return std::min(never, detail::dot({base, per_sequence, per_token}, detail::features(work)));
  }

  bool operator==(const DecodeCost&) const = default;
};

/// T_transfer: seconds = per_copy x copies enqueued + (per_fragment x fragments + per_byte x bytes)
/// / share of the link. Bandwidth so rises with the size of a fragment and saturates.
///
/// The defaults are the line through two points of an H100 on PCIe 5: 32 KB fragments at 5 GB/s,
/// 2 MB ones at 50 GB/s; they give 58 GB/s for large ones. Enqueueing is 0 until it is measured.
struct CopyCost {
  using Work = CopyWork;
  /// Host time of enqueueing one copy, which delays whatever else that thread would launch.
  double per_copy = 0;
  double per_fragment = 5.99e-6;
  double per_byte = 1.714e-11;

  /// link_share: of the link's time what is left for KV copies (see link_share()); of 0 none is,
  /// and the copy takes `never`. No bytes take no time. O(1).
  [[nodiscard]] LETHE_EXACT double seconds(const CopyWork& work, double link_share = 1) const {
    LETHE_EXACT_BODY
    if (work.bytes == 0) return 0;
    if (!(link_share > 0)) return never;
    const detail::Triple f = detail::features(work);
    const double link = LETHE_PRODUCT(per_fragment, f[1]) + LETHE_PRODUCT(per_byte, f[2]);
    return std::min(never, LETHE_PRODUCT(per_copy, f[0]) + link / link_share);
  }

  /// Bytes a second when each fragment of so many bytes is a copy of its own; 0 for 0. O(1).
  [[nodiscard]] LETHE_EXACT double bandwidth(std::size_t fragment_bytes) const {
    LETHE_EXACT_BODY
    const double time = seconds({fragment_bytes, 1, 1});
    return time > 0 ? static_cast<double>(fragment_bytes) / time : 0;
  }

  bool operator==(const CopyCost&) const = default;
};

/// All that decisions about layers rest on: nine numbers, to be copied to every rank of a tensor or
/// pipeline parallel engine, so that all decide alike.
struct Costs {
  PrefillCost prefill{};
  DecodeCost decode{};
  CopyCost copy{};

  /// Seconds of one pass that computes a chunk and decodes beside it: those of both, but the
  /// smaller constant, since the weights are read once. Against kernel tables of an RTX 4090 (4,224
  /// mixtures with chunks of 256 to 2,048 tokens) it errs by 0.14 in the mean. O(1).
  [[nodiscard]] LETHE_EXACT double mixed_seconds(const PrefillWork& chunk,
                                                 const DecodeWork& beside) const {
    LETHE_EXACT_BODY
    const double both = prefill.seconds(chunk) + decode.seconds(beside);
    if (chunk.tokens == 0 || beside.sequences == 0) return std::min(never, both);
    return std::min(never, both - std::min(prefill.base, decode.base));
  }

  bool operator==(const Costs&) const = default;
};

/// The share of a link that KV copies get when they yield to collectives (all-reduce) on it: what
/// is left of `step_seconds` after `collective_seconds`. 1 where collectives have a link of their
/// own, or nothing is known; 0 when they fill it. O(1).
[[nodiscard]] inline double link_share(double collective_seconds, double step_seconds) {
  if (!(collective_seconds > 0) || !(step_seconds > 0)) return 1;
  return collective_seconds >= step_seconds ? 0 : 1 - collective_seconds / step_seconds;
}

/// A model and a machine by their data sheets.
struct MachineEstimate {
  /// P.
  double parameters = 0;
  std::size_t layers = 0;
  /// d_attn: query heads x head dimension.
  std::size_t attention_width = 0;
  /// Keys and values of one token in one layer.
  std::size_t token_bytes = 0;
  /// 2: bf16, as these models are published.
  double bytes_per_parameter = 2;
  /// Floating-point operations and bytes of device memory a second.
  double flops = 0;
  double memory_bandwidth = 0;
  /// What the machine takes, by what its data sheet says. The paper has it empirical and prints no
  /// value; measured kernels of Llama-3.1-8B give 1.09 to 1.25 (A100, H100; 2,048 and 16,384
  /// tokens).
  double alpha = 1.2;

  bool operator==(const MachineEstimate&) const = default;
};

/// Costs before anything was measured: prefill as the paper writes it, decoding as the bytes that a
/// step reads, copies as CopyCost's defaults. Throws std::invalid_argument for a number that is not
/// above 0.
[[nodiscard]] inline Costs estimated_costs(const MachineEstimate& machine) {
  const auto need = [](double value, const char* field) {
    lethe::detail::require(value > 0 && value < never, field, value, "give a number above 0");
  };
  need(machine.parameters, "parameters");
  need(static_cast<double>(machine.layers), "layers");
  need(static_cast<double>(machine.attention_width), "attention_width");
  need(static_cast<double>(machine.token_bytes), "token_bytes");
  need(machine.bytes_per_parameter, "bytes_per_parameter");
  need(machine.flops, "flops");
  need(machine.memory_bandwidth, "memory_bandwidth");
  need(machine.alpha, "alpha");
  const auto layers = static_cast<double>(machine.layers);
  const double operation = machine.alpha / machine.flops;
  const double width = layers * static_cast<double>(machine.attention_width);
  const double byte = machine.alpha / machine.memory_bandwidth;
  return {.prefill = {.per_token = 2 * machine.parameters * operation,
                      .per_pair = 4 * width * operation},
          .decode = {.base = machine.parameters * machine.bytes_per_parameter * byte,
                     .per_sequence = 2 * machine.parameters * operation,
                     .per_token = layers * static_cast<double>(machine.token_bytes) * byte}};
}

}  // namespace lethe::layerkv

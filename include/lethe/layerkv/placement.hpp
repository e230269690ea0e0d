/// Which layers of a prompt stay on the device: how many must, how many may, and which.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "lethe/config.hpp"
#include "lethe/layerkv/costs.hpp"

namespace lethe::layerkv {

/// How a rank keeps the cache: of tensor parallel ranks each has its KV heads, of pipeline stages
/// each its layers.
struct CacheShape {
  std::size_t layers = 0;
  /// Keys and values of one token in one layer: 2 x KV heads x head dimension x bytes of a number.
  std::size_t token_bytes = 0;
  /// Tokens of a block, which belongs to one layer; 16 is what vLLM takes by itself.
  std::size_t block_tokens = 16;
  /// Bytes that lie together on both sides of a copy; 0: a block.
  std::size_t fragment_bytes = 0;
  /// Bytes that one enqueued call copies; 0: a fragment.
  std::size_t copy_bytes = 0;

  bool operator==(const CacheShape&) const = default;
};

/// Free blocks, each of one layer, on the device and on the host.
struct FreeBlocks {
  std::size_t device = 0;
  std::size_t host = 0;

  bool operator==(const FreeBlocks&) const = default;
};

/// How many layers of a prompt the device may keep.
struct LayerRange {
  std::size_t fewest = 0;
  std::size_t most = 0;

  bool operator==(const LayerRange&) const = default;
};

namespace detail {

/// Throws std::invalid_argument naming the first field that cannot be.
inline void check(const CacheShape& shape) {
  using lethe::detail::require;
  require(shape.layers >= 1 && shape.layers <= 65536, "layers", shape.layers, "give 1 to 65536");
  require(shape.token_bytes >= 1 && shape.token_bytes <= (std::size_t{1} << 31) / shape.layers,
          "token_bytes", shape.token_bytes,
          "give the bytes of one token in one layer, within 2 GiB over all layers");
  require(shape.block_tokens >= 1 && shape.block_tokens <= 65536, "block_tokens",
          shape.block_tokens, "give 1 to 65536");
  require(shape.copy_bytes == 0 || shape.copy_bytes >= shape.fragment_bytes, "copy_bytes",
          shape.copy_bytes, "give at least fragment_bytes");
}

/// Longer caches than any; sizes of fewer tokens cannot wrap round.
inline constexpr std::size_t most_tokens = 0xFFFFFFFFu;

[[nodiscard]] constexpr std::size_t quotient_up(std::size_t value, std::size_t by) {
  return value / by + (value % by != 0 ? 1 : 0);
}

}  // namespace detail

/// Blocks of one layer that holds so many tokens (counted up to 2^32 - 1). O(1).
[[nodiscard]] inline std::size_t blocks_of(const CacheShape& shape, std::size_t tokens) {
  return detail::quotient_up(std::min(tokens, detail::most_tokens), shape.block_tokens);
}

/// What copying `layers` layers of so many tokens each amounts to. O(1).
[[nodiscard]] inline CopyWork copy_of(const CacheShape& shape, std::size_t layers,
                                      std::size_t tokens) {
  const std::size_t bytes = std::min(tokens, detail::most_tokens) * shape.token_bytes;
  const std::size_t fragment =
      shape.fragment_bytes != 0 ? shape.fragment_bytes : shape.token_bytes * shape.block_tokens;
  const std::size_t copy = std::max(shape.copy_bytes, fragment);
  return {.bytes = layers * bytes,
          .fragments = layers * detail::quotient_up(bytes, fragment),
          .copies = layers * detail::quotient_up(bytes, copy)};
}

namespace detail {

/// `work` once for each of `layers`.
[[nodiscard]] inline CopyWork times(const CopyWork& work, std::size_t layers) {
  return {work.bytes * layers, work.fragments * layers, work.copies * layers};
}

[[nodiscard]] inline CopyWork sum(const CopyWork& a, const CopyWork& b) {
  return {a.bytes + b.bytes, a.fragments + b.fragments, a.copies + b.copies};
}

/// The most of `layers` layers, each of which is `layer` to copy, that take at most `seconds`. The
/// neighbours of the quotient are tried, so that rounding cannot show. O(1).
[[nodiscard]] LETHE_EXACT inline std::size_t layers_within(const CopyCost& cost,
                                                           const CopyWork& layer,
                                                           std::size_t layers, double seconds,
                                                           double link_share) {
  LETHE_EXACT_BODY
  const auto fits = [&](std::size_t count) {
    return cost.seconds(times(layer, count), link_share) <= seconds;
  };
  if (fits(layers)) return layers;
  const double one = cost.seconds(layer, link_share);
  std::size_t count = std::min(layers, static_cast<std::size_t>(std::max(0.0, seconds / one)));
  while (count > 0 && !fits(count)) --count;
  while (count < layers && fits(count + 1)) ++count;
  return count;
}

}  // namespace detail

/// How a prompt is computed.
struct PrefillSchedule {
  /// The tokens to compute, which are those offloaded, and the context they find on the device.
  PrefillWork work{};
  /// Tokens of a pass; 0: one pass.
  std::size_t chunk = 0;
  /// A chunk attends to the chunks before it, so what these offloaded is fetched for each. False
  /// for an engine that offloads after the last chunk, or keeps what it needs in another way.
  bool fetches_chunks = true;
  /// What collectives leave of the link; see link_share().
  double link_share = 1;

  bool operator==(const PrefillSchedule&) const = default;
};

/// x, the fewest layers that must stay so that offloading the others hides behind the prefill:
/// T_offload(L - x) <= T_prefill (arXiv 2410.00428). A prompt that comes in chunks keeps the same
/// layers in each, and each chunk hides its own share of the copies.
///
/// O(1): of chunks of one size, work and copies grow in proportion to the context, so the worst is
/// the first or the last of them, or the shorter one at the end.
[[nodiscard]] inline std::size_t retained_layers(const Costs& costs, const CacheShape& shape,
                                                 const PrefillSchedule& schedule) {
  const std::size_t tokens = std::min(schedule.work.tokens, detail::most_tokens);
  const std::size_t chunk = schedule.chunk == 0 ? tokens : std::min(schedule.chunk, tokens);
  if (tokens == 0) return 0;
  const CopyWork whole = copy_of(shape, 1, chunk);
  std::size_t layers = shape.layers;
  // A pass of so many tokens after so many chunks, and what it copies of its own a layer.
  const auto hide = [&](std::size_t pass, std::size_t before, const CopyWork& own) {
    const CopyWork fetched = detail::times(whole, schedule.fetches_chunks ? before : 0);
    const PrefillWork work{pass, schedule.work.context + before * chunk};
    layers = detail::layers_within(costs.copy, detail::sum(own, fetched), layers,
                                   costs.prefill.seconds(work), schedule.link_share);
  };
  const std::size_t chunks = tokens / chunk;
  const std::size_t rest = tokens % chunk;
  hide(chunk, chunks - 1, whole);
  if (chunks > 1) hide(chunk, 0, whole);
  if (rest != 0) hide(rest, chunks, copy_of(shape, 1, rest));
  return shape.layers - layers;
}

/// Blocks that a prompt takes on the device with `retained` layers there: while layers are copied
/// away, up to `staging` of the others stand there too. O(1).
[[nodiscard]] inline std::size_t device_blocks(const CacheShape& shape, std::size_t retained,
                                               std::size_t layer_blocks, std::size_t staging) {
  return (retained + std::min(staging, shape.layers - retained)) * layer_blocks;
}

/// How many layers the device may keep when it must keep `needed`, given the free blocks; none when
/// no number fits. layer_blocks: what one layer takes. staging: layers that stand on the device
/// while they are copied; 2 lets one be computed while another is copied. O(1).
[[nodiscard]] inline std::optional<LayerRange> layers_that_fit(const CacheShape& shape,
                                                               std::size_t needed,
                                                               std::size_t layer_blocks,
                                                               const FreeBlocks& free,
                                                               std::size_t staging = 2) {
  if (layer_blocks == 0) return LayerRange{needed, shape.layers};
  const std::size_t host = std::min(shape.layers, free.host / layer_blocks);
  const std::size_t fewest = std::max(needed, shape.layers - host);
  const std::size_t device = free.device / layer_blocks;
  if (device >= shape.layers) return LayerRange{fewest, shape.layers};
  if (device < staging || fewest > device - staging) return std::nullopt;
  return LayerRange{fewest, device - staging};
}

/// Which layers stay.
enum class LayerChoice : std::uint8_t {
  /// Evenly spread, so that a layer's return overlaps the work of its neighbours: of 8 layers that
  /// keep 4, layers 1, 3, 5, 7 (arXiv 2410.00428).
  interleaved,
  /// The last ones, which a prefill reaches last; to compare with.
  last,
};

/// Whether `layer` is one of the `retained` of `layers` that stay. O(1).
[[nodiscard]] constexpr bool stays(std::size_t layer, std::size_t layers, std::size_t retained,
                                   LayerChoice choice = LayerChoice::interleaved) {
  if (choice == LayerChoice::last) return layer + retained >= layers;
  return (layer + 1) * retained / layers != layer * retained / layers;
}

/// Writes the layers that stay, ascending; out: at least `retained` long. Returns what was written.
/// O(layers).
inline std::span<const std::uint32_t> layers_that_stay(
    std::size_t layers, std::size_t retained, std::span<std::uint32_t> out,
    LayerChoice choice = LayerChoice::interleaved) {
  LETHE_ASSERT(retained <= layers && retained <= out.size());
  std::size_t count = 0;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (stays(layer, layers, retained, choice)) out[count++] = static_cast<std::uint32_t>(layer);
  }
  return out.first(count);
}

namespace detail {

/// The distance from `layer` to the next one on the device, going round by `step`; `layers` when
/// there is none but itself.
template <class OnDevice>
[[nodiscard]] std::size_t distance(std::size_t layer, std::size_t layers, std::size_t step,
                                   const OnDevice& on_device) {
  std::size_t other = layer;
  for (std::size_t distance = 1; distance < layers; ++distance) {
    other = (other + step) % layers;
    if (on_device(other)) return distance;
  }
  return layers;
}

}  // namespace detail

/// The layer to offload next of a request whose layers are partly on the device: the one with the
/// nearest neighbours there, the lowest of equals. Decoding goes round and round, so layer 0
/// follows the last. From all layers on, this leads to the paper's 1, 3, 5, 7. on_device(layer):
/// whether it may be offloaded now. None when no layer may. O(layers^2).
template <class OnDevice>
[[nodiscard]] std::optional<std::size_t> next_to_offload(std::size_t layers,
                                                         const OnDevice& on_device) {
  std::optional<std::size_t> best;
  std::size_t smallest = 2 * layers + 1;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (!on_device(layer)) continue;
    const std::size_t gap = detail::distance(layer, layers, 1, on_device) +
                            detail::distance(layer, layers, layers - 1, on_device);
    if (gap >= smallest) continue;
    smallest = gap;
    best = layer;
  }
  return best;
}

/// The layer to bring back next: the one in the middle of the widest gap, the lowest of equals.
/// on_device(layer): whether it is there. None when all are. O(layers^2).
template <class OnDevice>
[[nodiscard]] std::optional<std::size_t> next_to_return(std::size_t layers,
                                                        const OnDevice& on_device) {
  std::optional<std::size_t> best;
  std::size_t farthest = 0;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (on_device(layer)) continue;
    const std::size_t distance = std::min(detail::distance(layer, layers, 1, on_device),
                                          detail::distance(layer, layers, layers - 1, on_device));
    if (distance <= farthest) continue;
    farthest = distance;
    best = layer;
  }
  return best;
}

/// Seconds of one decode step when some layers must be fetched: computing a layer takes `compute`,
/// fetching one `fetch`. Copies follow one another on the link into two buffers, so the fetch of a
/// layer waits until the last but one fetched was computed; computing waits for its layer. Steps
/// repeat: a fetch for the next one begins as soon as a buffer is free. O(layers).
/// on_device(layer): whether it need not be fetched.
template <class OnDevice>
[[nodiscard]] double decode_seconds(std::size_t layers, double compute, double fetch,
                                    const OnDevice& on_device) {
  double now = 0;
  double link = 0;
  std::array<double, 2> buffers{0, 0};
  double begin = 0;
  // The first step begins with empty buffers; the third is as all others.
  for (std::size_t step = 0; step < 3; ++step) {
    begin = now;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (on_device(layer)) {
        now += compute;
        continue;
      }
      link = std::max(link, buffers[0]) + fetch;
      now = std::max(now, link) + compute;
      buffers = {buffers[1], now};
    }
  }
  return now - begin;
}

}  // namespace lethe::layerkv

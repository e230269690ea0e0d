/// Few vectors of lengths that serve all layers: for attention that is planned on the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/gpu/host_lengths.hpp"

namespace lethe::gpu {

/// Settings of LengthClasses.
struct LengthClassesConfig {
  std::size_t layers = 0;
  /// Most rows of a batch.
  std::size_t rows = 0;
  /// Most vectors of lengths, each one plan of the attention library. No source: not measured yet;
  /// at even spread four plan for an eighth of the longest layer too much on average.
  std::size_t classes = 4;
  /// Lengths are rounded up to multiples of this: a page.
  std::size_t block_tokens = 16;

  bool operator==(const LengthClassesConfig&) const = default;
};

/// Puts layers that are about as long, compared with the batch's longest, into one class; a class
/// has one length for each row, that of its longest layer there, rounded up to pages. So every
/// length is at least the bound of each of its layers: attention is planned from it, and what lies
/// behind a layer's own count is masked by the count on the device. Nothing is allocated after
/// construction.
class LengthClasses {
 public:
  using Config = LengthClassesConfig;

  /// Throws std::invalid_argument for counts of 0.
  explicit LengthClasses(const Config& config)
      : config_(checked(config)),
        class_of_(config.layers, 0),
        number_(config.classes, 0),
        longest_(config.rows, 0),
        tokens_(config.classes * config.rows, 0) {}

  /// The classes of a batch: slot_of_row as in Compaction, -1 for padding. O(layers x rows).
  void assign(const HostLengths& lengths, std::span<const std::int32_t> slot_of_row) {
    LETHE_ASSERT(lengths.layers() == config_.layers && slot_of_row.size() <= config_.rows);
    std::fill(longest_.begin(), longest_.end(), 0u);
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      for (std::size_t row = 0; row < slot_of_row.size(); ++row) {
        longest_[row] = std::max(longest_[row], tokens_at(lengths, slot_of_row, layer, row));
      }
    }
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      class_of_[layer] = share_of(lengths, slot_of_row, layer);
    }
    number_classes();
    measure(lengths, slot_of_row);
  }

  /// Classes of the last assign that have layers: shorter ones first.
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t class_of(std::size_t layer) const { return class_of_[layer]; }
  /// Tokens to plan for in a row, a multiple of block_tokens; 0 for padding.
  [[nodiscard]] std::uint32_t tokens(std::size_t of_class, std::size_t row) const {
    return tokens_[of_class * config_.rows + row];
  }
  /// The same in pages: an entry of an indptr is the sum of those before.
  [[nodiscard]] std::uint32_t pages(std::size_t of_class, std::size_t row) const {
    return tokens(of_class, row) / static_cast<std::uint32_t>(config_.block_tokens);
  }

 private:
  static const Config& checked(const Config& config) {
    using lethe::detail::require;
    require(config.layers >= 1, "layers", config.layers, "give at least 1 layer");
    require(config.rows >= 1, "rows", config.rows, "give at least 1 row");
    require(config.classes >= 1, "classes", config.classes, "allow at least 1 class");
    require(config.block_tokens >= 1, "block_tokens", config.block_tokens,
            "choose at least 1 token");
    return config;
  }

  [[nodiscard]] static std::uint32_t tokens_at(const HostLengths& lengths,
                                               std::span<const std::int32_t> slot_of_row,
                                               std::size_t layer, std::size_t row) {
    const std::int32_t slot = slot_of_row[row];
    return slot < 0 ? 0 : lengths.bound(layer, static_cast<std::size_t>(slot));
  }

  /// The least c with tokens <= (c + 1) / classes of the longest in every row.
  [[nodiscard]] std::size_t share_of(const HostLengths& lengths,
                                     std::span<const std::int32_t> slot_of_row,
                                     std::size_t layer) const {
    std::size_t share = 0;
    for (std::size_t row = 0; row < slot_of_row.size(); ++row) {
      const std::uint64_t tokens = tokens_at(lengths, slot_of_row, layer, row);
      while (tokens * config_.classes > std::uint64_t{longest_[row]} * (share + 1)) ++share;
    }
    return share;
  }

  /// Numbers the shares that some layer has.
  void number_classes() {
    std::fill(number_.begin(), number_.end(), 0u);
    for (const std::size_t share : class_of_) number_[share] = 1;
    size_ = 0;
    for (std::size_t& number : number_) {
      const bool used = number != 0;
      number = size_;
      size_ += used ? 1 : 0;
    }
    for (std::size_t& layer_class : class_of_) layer_class = number_[layer_class];
  }

  void measure(const HostLengths& lengths, std::span<const std::int32_t> slot_of_row) {
    const auto page = static_cast<std::uint32_t>(config_.block_tokens);
    std::fill(tokens_.begin(), tokens_.end(), 0u);
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      for (std::size_t row = 0; row < slot_of_row.size(); ++row) {
        const std::uint32_t tokens = tokens_at(lengths, slot_of_row, layer, row);
        std::uint32_t& most = tokens_[class_of_[layer] * config_.rows + row];
        most = std::max(most, (tokens + page - 1) / page * page);
      }
    }
  }

  Config config_;
  std::vector<std::size_t> class_of_;
  std::vector<std::size_t> number_;
  std::vector<std::uint32_t> longest_;
  std::vector<std::uint32_t> tokens_;
  std::size_t size_ = 0;
};

}  // namespace lethe::gpu

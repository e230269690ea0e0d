#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/block_tables.hpp>
#include <span>
#include <utility>
#include <vector>

#include "block_memory.hpp"
#include "decoder.hpp"
#include "real_link.hpp"
#include "request_pruners.hpp"
#include "sampler.hpp"
#include "stopwatch.hpp"

namespace serving {

/// What one step computes of one request.
struct StepPart {
  lethe::layerkv::RequestId request = 0;
  std::span<const std::int32_t> tokens;
  std::size_t context = 0;  ///< tokens before them
};

/// What a step took, in seconds.
struct StepSeconds {
  double whole = 0;
  double waited = 0;     ///< for copies
  double attention = 0;  ///< of all layers
  double logits = 0;     ///< logits, drawing and what else is paid by the sequence
  double compute() const { return whole - waited; }
};

/// Computes steps of requests whose caches lie in blocks of two pools. A layer reads its blocks on
/// the device where they lie; those on the host are fetched ahead into a staging buffer, and what
/// the step writes to them goes back from another. Of pruned requests each layer holds as many
/// tokens as its pruner left.
template <class Link>
class StepRunner {
 public:
  /// memory, decoder, link, pruners: outlive the runner. symbols: of the vocabulary, that may be
  /// drawn. pruners: of the requests; null: none is pruned.
  StepRunner(decoder::Decoder& decoder, const decoder::PagedCache& empty_cache, std::size_t symbols,
             BlockMemory& memory, Link& link, RequestPruners* pruners = nullptr)
      : decoder_(decoder),
        empty_(empty_cache),
        symbols_(symbols),
        memory_(memory),
        link_(link),
        pruners_(pruners),
        sampler_({}) {}

  /// Appends each part's tokens to its request's cache, whose tables and pruner have room for them.
  /// @return the token that follows each part, by greatest probability
  std::span<const std::int32_t> run(const lethe::layerkv::BlockTables& tables,
                                    std::span<const StepPart> parts) {
    const decoder::Stopwatch watch;
    const double waited = link_.waited();
    decoder_.reset_timings();
    prepare(parts);
    plan_fetches(tables, parts);
    const std::span<const float> logits =
        decoder_.step(inputs_, {.before = [&](std::size_t layer) { place(tables, parts, layer); },
                                .after = [&](std::size_t layer) { leave(layer); }});
    draw(logits);
    if (pruners_ != nullptr)
      for (const StepPart& part : parts) pruners_->advance(part.request, part.tokens.size());
    link_.finish_sending();
    note(watch.seconds(), link_.waited() - waited);
    return drawn_;
  }

  /// Of the last step.
  const StepSeconds& seconds() const { return seconds_; }

 private:
  using Block = lethe::layerkv::Block;

  std::size_t block_tokens() const { return memory_.shape().tokens; }

  void prepare(std::span<const StepPart> parts) {
    caches_.resize(parts.size(), empty_);
    inputs_.clear();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (std::size_t layer = 0; layer < empty_.layers(); ++layer)
        caches_[i].resize(layer, held(parts[i], layer));
      inputs_.push_back({&caches_[i], parts[i].tokens, parts[i].context,
                         pruners_ != nullptr ? &pruners_->pruner(parts[i].request) : nullptr});
    }
  }

  /// Tokens of a layer before the step.
  std::size_t held(const StepPart& part, std::size_t layer) const {
    return pruners_ != nullptr ? pruners_->held(part.request)[layer] : part.context;
  }

  /// The blocks of a layer that a part reads or writes.
  std::span<const Block> blocks(const lethe::layerkv::BlockTables& tables, const StepPart& part,
                                std::size_t layer) const {
    const std::size_t tokens = held(part, layer) + part.tokens.size();
    const std::size_t count = (tokens + block_tokens() - 1) / block_tokens();
    return tables.table(part.request, memory_.table_of(layer)).first(count);
  }
  std::size_t read_blocks(const StepPart& part, std::size_t layer) const {
    return (held(part, layer) + block_tokens() - 1) / block_tokens();
  }
  static bool is_on_host(Block block) { return block.tier() == lethe::layerkv::Tier::host; }

  void plan_fetches(const lethe::layerkv::BlockTables& tables, std::span<const StepPart> parts) {
    for (std::size_t layer = 0; layer < memory_.shape().layers; ++layer) {
      std::vector<Block> read;
      for (const StepPart& part : parts)
        for (const Block block : blocks(tables, part, layer).first(read_blocks(part, layer)))
          if (is_on_host(block)) read.push_back(block);
      if (!read.empty()) link_.fetch(layer, std::move(read));
    }
  }

  /// Tells the caches where a layer's blocks are now.
  void place(const lethe::layerkv::BlockTables& tables, std::span<const StepPart> parts,
             std::size_t layer) {
    link_.poll();
    fetched_ = link_.fetches(layer) ? link_.await(layer) : nullptr;
    written_ = nullptr;
    sent_.clear();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      places_.clear();
      const std::span<const Block> table = blocks(tables, parts[i], layer);
      for (std::size_t entry = 0; entry < table.size(); ++entry)
        places_.push_back(is_on_host(table[entry]) ? staged(table[entry], entry, parts[i], layer)
                                                   : memory_.at(table[entry], layer));
      caches_[i].place(layer, places_);
    }
  }

  /// Where a block of the host stands while its layer is computed.
  std::byte* staged(Block block, std::size_t entry, const StepPart& part, std::size_t layer) {
    const std::size_t bytes = memory_.shape().bytes;
    std::byte* read = nullptr;
    if (entry < read_blocks(part, layer)) read = std::exchange(fetched_, fetched_ + bytes);
    if (entry < held(part, layer) / block_tokens()) return read;
    if (written_ == nullptr) written_ = link_.next_buffer();
    std::byte* at = std::exchange(written_, written_ + bytes);
    if (read != nullptr) std::copy_n(read, bytes, at);
    sent_.push_back(block);
    return at;
  }

  void leave(std::size_t layer) {
    if (link_.fetches(layer)) link_.release(layer);
    if (!sent_.empty()) link_.send(sent_);
    link_.poll();
  }

  void draw(std::span<const float> logits) {
    drawn_.clear();
    const std::size_t each = logits.size() / caches_.size();
    for (std::size_t i = 0; i < caches_.size(); ++i)
      drawn_.push_back(sampler_(logits.subspan(i * each, symbols_)));
  }

  void note(double whole, double waited) {
    const decoder::Timings& spent = decoder_.timings();
    seconds_ = {.whole = whole,
                .waited = waited,
                .attention = spent.attention,
                .logits = spent.logits + std::max(0.0, whole - waited - spent.total)};
  }

  decoder::Decoder& decoder_;
  decoder::PagedCache empty_;
  std::size_t symbols_;
  BlockMemory& memory_;
  Link& link_;
  RequestPruners* pruners_;
  decoder::Sampler sampler_;
  std::vector<decoder::PagedCache> caches_;
  std::vector<decoder::PagedPart> inputs_;
  std::vector<std::byte*> places_;
  std::vector<Block> sent_;
  std::byte* fetched_ = nullptr;
  std::byte* written_ = nullptr;
  std::vector<std::int32_t> drawn_;
  StepSeconds seconds_;
};

}  // namespace serving

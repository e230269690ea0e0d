/// An engine that keeps its tokens in block tables, and what they must read, token by token.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/block_tables.hpp"
#include "lethe/layerkv/prefix_index.hpp"
#include "samples.hpp"

namespace naive {

using namespace lethe::layerkv;

/// What one layer of a request holds: one number stands for a token's keys and values.
struct LayerTokens {
  std::vector<std::uint32_t> values;
  /// Of these, those whose rows are written.
  std::size_t written = 0;
};

struct EngineRequest {
  std::vector<LayerTokens> layers;
  /// Its prompt's document, and how much of it stands at the beginning of every layer.
  std::uint32_t document = 0;
  std::size_t intact = 0;
};

struct EngineMigration {
  bool copied = false;
  std::vector<BlockMove> moves;
};

/// What happened, so that a test can tell that it tested something.
struct EngineTally {
  std::size_t refused = 0;
  std::size_t copies = 0;
  std::size_t finished = 0;
  std::size_t cancelled = 0;
  std::size_t orphans = 0;
  std::size_t prefix_blocks = 0;
  std::size_t evicted = 0;
};

/// Every call draws its arguments, makes the call, and does to the model what it promises. Rows are
/// written late, copies are made late, so that a block handed out too early shows.
class PagedEngine {
 public:
  PagedEngine(const BlockTablesConfig& config, std::size_t entries, std::uint64_t seed)
      : tables(config), index(config, entries), samples_(seed) {
    memory_[0].assign(config.device_blocks * config.block_tokens, 0);
    memory_[1].assign(config.host_blocks * config.block_tokens, 0);
    mirror_.assign(config.requests * config.layers, {});
  }

  void step() {
    switch (samples_.below(16)) {
      case 0:
      case 1:
        return open();
      case 2:
        return close();
      case 3:
      case 4:
      case 5:
        return append_layer();
      case 6:
      case 7:
        return append_all();
      case 8:
        return truncate();
      case 9:
        return fork();
      case 10:
      case 11:
        return begin_migration();
      case 12:
        return copy_migration();
      case 13:
        return end_migration();
      case 14:
        return samples_.below(2) == 0 ? flush() : take_deltas();
      default:
        return samples_.below(2) == 0 ? release() : evict();
    }
  }

  /// Every token reads what was written to it, and no invariant is broken.
  void verify() {
    flush();
    take_deltas();
    REQUIRE_NOTHROW(tables.check());
    REQUIRE(index.consistent());
    for (const auto& [id, request] : requests_) {
      for (std::size_t layer = 0; layer < request.layers.size(); ++layer) {
        const LayerTokens& tokens = request.layers[layer];
        REQUIRE(tables.tokens(id, layer) == tokens.values.size());
        require_tier(id, layer);
        for (std::size_t t = 0; t < tokens.values.size(); ++t) {
          if (at(id, layer, t) != tokens.values[t]) REQUIRE(at(id, layer, t) == tokens.values[t]);
        }
      }
    }
  }

  /// Ends everything; all blocks are free then.
  void finish() {
    while (!requests_.empty()) close();
    while (!migrations_.empty()) end_migration();
    static_cast<void>(tables.take_copies());
    while (index.size() != 0) {
      const std::size_t before = index.size();
      const std::size_t wanted = tables.free_blocks(Tier::device) + 1;
      if (!index.evict(tables, Tier::device, wanted)) {
        static_cast<void>(index.evict(tables, Tier::host, tables.free_blocks(Tier::host) + 1));
      }
      REQUIRE(index.size() < before);
    }
    REQUIRE_NOTHROW(tables.check());
    REQUIRE(tables.open_requests() == 0);
    REQUIRE(tables.free_blocks(Tier::device) == tables.config().device_blocks);
    REQUIRE(tables.free_blocks(Tier::host) == tables.config().host_blocks);
  }

  /// The tables as one number; equal calls give equal ones.
  [[nodiscard]] std::uint64_t digest() const {
    std::uint64_t sum = 0;
    for (const auto& [id, request] : requests_) {
      for (std::size_t layer = 0; layer < request.layers.size(); ++layer) {
        for (const Block block : tables.table(id, layer)) {
          sum =
              lethe::detail::mix(sum ^ block.index() ^ (block.tier() == Tier::host ? 1u << 31 : 0));
        }
      }
    }
    return sum;
  }

  BlockTables tables;
  PrefixIndex index;
  EngineTally tally{};

 private:
  [[nodiscard]] std::size_t layers() const { return tables.config().layers; }
  [[nodiscard]] std::size_t block_tokens() const { return tables.config().block_tokens; }
  [[nodiscard]] Tier any_tier() { return samples_.below(4) == 0 ? Tier::host : Tier::device; }

  [[nodiscard]] std::uint32_t& row(Block block, std::size_t row) {
    return memory_[block.tier() == Tier::host ? 1 : 0][block.index() * block_tokens() + row];
  }
  [[nodiscard]] std::uint32_t& at(RequestId id, std::size_t layer, std::size_t token) {
    return row(tables.table(id, layer)[token / block_tokens()], token % block_tokens());
  }
  void copy(BlockMove move) {
    for (std::size_t r = 0; r < block_tokens(); ++r) row(move.to, r) = row(move.from, r);
  }

  /// A document's token in a layer: what a prompt's rows depend on.
  [[nodiscard]] std::uint32_t value_of(std::uint32_t document, std::size_t layer,
                                       std::size_t token) const {
    return static_cast<std::uint32_t>(
        lethe::detail::mix(document * 4096 + layer * 512 + token + 1));
  }

  [[nodiscard]] std::vector<BlockHash> chain(std::uint32_t document, std::size_t blocks) const {
    std::vector<BlockHash> hashes;
    BlockHash parent{};
    for (std::size_t i = 0; i < blocks; ++i) {
      // The first two blocks are the same in all documents.
      const std::uint32_t word = i < 2 ? 0 : document;
      parent = hash_block(parent, {&word, 1});
      hashes.push_back(parent);
    }
    return hashes;
  }
  [[nodiscard]] std::uint32_t prompt_value(std::uint32_t document, std::size_t layer,
                                           std::size_t token) const {
    return value_of(token / block_tokens() < 2 ? 0 : document, layer, token);
  }

  [[nodiscard]] std::optional<RequestId> any_request() {
    if (requests_.empty()) return std::nullopt;
    auto chosen = requests_.begin();
    std::advance(chosen, samples_.below(requests_.size()));
    return chosen->first;
  }

  [[nodiscard]] bool last_is_shared(RequestId id, std::size_t layer) const {
    const auto table = tables.table(id, layer);
    return tables.tokens(id, layer) % block_tokens() != 0 && tables.shared(table.back());
  }

  /// Whether the pools have what the layer's tokens take, counted one block at a time.
  void need(RequestId id, std::size_t layer, std::size_t tokens, Tier tier,
            std::size_t (&blocks)[2]) const {
    const std::size_t now = tables.tokens(id, layer);
    for (std::size_t t = now; t < now + tokens; ++t) {
      if (t % block_tokens() == 0) ++blocks[tier == Tier::host ? 1 : 0];
    }
    if (tokens == 0 || !last_is_shared(id, layer)) return;
    ++blocks[tables.table(id, layer).back().tier() == Tier::host ? 1 : 0];
  }

  [[nodiscard]] bool affordable(const std::size_t (&blocks)[2]) const {
    return blocks[0] <= tables.free_blocks(Tier::device) &&
           blocks[1] <= tables.free_blocks(Tier::host);
  }

  [[nodiscard]] std::size_t room(RequestId id, std::size_t layer) const {
    return tables.config().request_blocks * block_tokens() - tables.tokens(id, layer);
  }

  void open() {
    const auto id = tables.open();
    REQUIRE(id.has_value() == (requests_.size() < tables.config().requests));
    if (!id) return;
    const auto document = static_cast<std::uint32_t>(samples_.below(4));
    EngineRequest& request = requests_[*id];
    request = {std::vector<LayerTokens>(layers()), document, 0};
    const std::size_t blocks = samples_.below(tables.config().request_blocks);
    flush();
    const std::vector<BlockHash> hashes = chain(document, blocks);
    const std::size_t found = index.find(hashes);
    REQUIRE(index.acquire(tables, *id, hashes) == found);
    tally.prefix_blocks += found;
    request.intact = found * block_tokens();
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      for (std::size_t t = 0; t < request.intact; ++t) {
        request.layers[layer].values.push_back(prompt_value(document, layer, t));
      }
      request.layers[layer].written = request.intact;
    }
    read_prompt(*id, blocks * block_tokens() + samples_.below(block_tokens()));
    insert(*id, blocks);
  }

  /// The rest of the prompt, when there is room for it.
  void read_prompt(RequestId id, std::size_t tokens) {
    EngineRequest& request = requests_[id];
    const std::size_t more = tokens - request.intact;
    const bool evicting = samples_.below(2) == 0;
    const std::size_t before = index.size();
    const bool done = evicting ? index.append(tables, id, more) : tables.append(id, more);
    tally.evicted += before - index.size();
    if (!done) return;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      for (std::size_t t = request.intact; t < tokens; ++t) {
        request.layers[layer].values.push_back(prompt_value(request.document, layer, t));
      }
    }
    request.intact = tokens;
  }

  void insert(RequestId id, std::size_t blocks) {
    const EngineRequest& request = requests_[id];
    const std::size_t full = std::min(blocks, request.intact / block_tokens());
    flush();
    const std::vector<BlockHash> hashes = chain(request.document, full);
    const std::size_t found = index.insert(tables, id, hashes);
    REQUIRE(found <= full);
    REQUIRE(index.find(hashes) == found);
  }

  void close() {
    const auto id = any_request();
    if (!id) return;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      tally.orphans += tables.busy(*id, layer) ? 1u : 0u;
    }
    const bool release_first = samples_.below(2) == 0;
    if (release_first) index.release(*id);
    tables.close(*id);
    if (!release_first) index.release(*id);
    requests_.erase(*id);
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      mirror_[*id * layers() + layer].clear();
    }
  }

  void append_layer() {
    const auto id = any_request();
    if (!id) return;
    const std::size_t layer = samples_.below(layers());
    const std::size_t most = samples_.below(4) == 0 ? 3 * block_tokens() : 3;
    const std::size_t tokens = std::min(samples_.below(most), room(*id, layer));
    const Tier tier = any_tier();
    std::size_t blocks[2] = {0, 0};
    need(*id, layer, tokens, tier, blocks);
    REQUIRE(tables.blocks_needed(*id, layer, tokens) == blocks[0] + blocks[1]);
    const bool possible = affordable(blocks);
    REQUIRE(tables.append(*id, layer, tokens, tier) == possible);
    if (possible) grow(*id, layer, tokens);
    tally.refused += possible ? 0u : 1u;
  }

  void append_all() {
    const auto id = any_request();
    if (!id) return;
    std::size_t tokens = 1 + samples_.below(samples_.below(4) == 0 ? 2 * block_tokens() : 2);
    const Tier tier = any_tier();
    std::size_t blocks[2] = {0, 0};
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      tokens = std::min(tokens, room(*id, layer));
    }
    for (std::size_t layer = 0; layer < layers(); ++layer) need(*id, layer, tokens, tier, blocks);
    const bool possible = affordable(blocks);
    REQUIRE(tables.append(*id, tokens, tier) == possible);
    tally.refused += possible ? 0u : 1u;
    if (!possible) return;
    for (std::size_t layer = 0; layer < layers(); ++layer) grow(*id, layer, tokens);
  }

  void grow(RequestId id, std::size_t layer, std::size_t tokens) {
    std::vector<std::uint32_t>& values = requests_[id].layers[layer].values;
    for (std::size_t i = 0; i < tokens; ++i) {
      values.push_back(static_cast<std::uint32_t>(samples_.word()));
    }
    REQUIRE(tables.tokens(id, layer) == values.size());
  }

  void truncate() {
    const auto id = any_request();
    if (!id) return;
    const std::size_t layer = samples_.below(layers());
    const std::size_t kept = samples_.below(requests_[*id].layers[layer].values.size() + 2);
    if (samples_.below(2) == 0) {
      tables.truncate(*id, layer, kept);
      return cut(*id, layer, kept);
    }
    tables.truncate(*id, kept);
    for (std::size_t each = 0; each < layers(); ++each) cut(*id, each, kept);
  }
  void cut(RequestId id, std::size_t layer, std::size_t kept) {
    EngineRequest& request = requests_[id];
    LayerTokens& tokens = request.layers[layer];
    tokens.values.resize(std::min(tokens.values.size(), kept));
    tokens.written = std::min(tokens.written, kept);
    request.intact = std::min(request.intact, kept);
  }

  /// Another request goes on from the first blocks of one, in some layers.
  void fork() {
    const auto from = any_request();
    if (!from || requests_.size() == tables.config().requests) return;
    flush();
    const RequestId to = *tables.open();
    EngineRequest& request = requests_[to];
    request = {std::vector<LayerTokens>(layers()), 0, 0};
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const std::size_t held = tables.table(*from, layer).size();
      const std::size_t blocks = samples_.below(3) == 0 ? samples_.below(held + 1) : held;
      tables.share(*from, to, layer, blocks);
      std::vector<std::uint32_t> values = requests_[*from].layers[layer].values;
      values.resize(std::min(values.size(), blocks * block_tokens()));
      request.layers[layer] = {values, values.size()};
    }
  }

  void begin_migration() {
    flush();
    const auto id = any_request();
    if (!id) return;
    const std::size_t layer = samples_.below(layers());
    const Tier to = samples_.below(2) == 0 ? Tier::host : Tier::device;
    std::vector<Block> leaving;
    for (const Block block : tables.table(*id, layer)) {
      if (block.tier() != to) leaving.push_back(block);
    }
    const bool possible = !tables.busy(*id, layer) && leaving.size() <= tables.free_blocks(to) &&
                          migrations_.size() < tables.config().migrations;
    const auto migration = tables.begin_migration(*id, layer, to);
    REQUIRE(migration.has_value() == possible);
    if (!migration) return;
    const auto moves = tables.moves(*migration);
    REQUIRE(moves.size() == leaving.size());
    for (std::size_t i = 0; i < moves.size(); ++i) {
      REQUIRE(moves[i].from == leaving[i]);
      REQUIRE(moves[i].to.tier() == to);
    }
    migrations_[*migration] = {false, {moves.begin(), moves.end()}};
  }

  void copy_migration() {
    if (migrations_.empty()) return;
    auto chosen = migrations_.begin();
    std::advance(chosen, samples_.below(migrations_.size()));
    copy_moves(chosen->second);
  }
  void copy_moves(EngineMigration& migration) {
    if (migration.copied) return;
    for (const BlockMove& move : migration.moves) copy(move);
    migration.copied = true;
  }

  void end_migration() {
    if (migrations_.empty()) return;
    auto chosen = migrations_.begin();
    std::advance(chosen, samples_.below(migrations_.size()));
    if (samples_.below(3) == 0) {
      tables.cancel_migration(chosen->first);
      ++tally.cancelled;
    } else {
      copy_moves(chosen->second);
      tables.finish_migration(chosen->first);
      ++tally.finished;
    }
    migrations_.erase(chosen);
  }

  /// The copies on write, in any order, then the rows of new tokens.
  void flush() {
    const auto taken = tables.take_copies();
    std::vector<BlockMove> moves(taken.begin(), taken.end());
    for (std::size_t i = moves.size(); i > 1; --i) {
      std::swap(moves[i - 1], moves[samples_.below(i)]);
    }
    for (const BlockMove& move : moves) copy(move);
    tally.copies += moves.size();
    for (auto& [id, request] : requests_) {
      for (std::size_t layer = 0; layer < layers(); ++layer) {
        LayerTokens& tokens = request.layers[layer];
        for (; tokens.written < tokens.values.size(); ++tokens.written) {
          at(id, layer, tokens.written) = tokens.values[tokens.written];
        }
      }
    }
  }

  /// Keeps the engine's own copy of the tables by deltas alone.
  void take_deltas() {
    for (const TableDelta& delta : tables.take_deltas()) {
      const auto table = tables.table(delta.request, delta.layer);
      std::vector<Block>& mirror = mirror_[delta.request * layers() + delta.layer];
      REQUIRE(delta.count != 0);
      REQUIRE(delta.first + delta.count <= table.size());
      mirror.resize(std::max<std::size_t>(mirror.size(), delta.first + delta.count),
                    Block(Tier::device, 0));
      for (std::size_t i = delta.first; i < delta.first + delta.count; ++i) mirror[i] = table[i];
    }
    for (const auto& [id, request] : requests_) {
      for (std::size_t layer = 0; layer < layers(); ++layer) {
        const auto table = tables.table(id, layer);
        const std::vector<Block>& mirror = mirror_[id * layers() + layer];
        REQUIRE(mirror.size() >= table.size());
        REQUIRE(std::equal(table.begin(), table.end(), mirror.begin()));
      }
    }
  }

  void require_tier(RequestId id, std::size_t layer) {
    const auto table = tables.table(id, layer);
    const auto lies = [&](Tier tier) {
      return std::all_of(table.begin(), table.end(), [&](Block b) { return b.tier() == tier; });
    };
    const auto tier = tables.tier(id, layer);
    REQUIRE(tier.has_value() == (!table.empty() && (lies(Tier::device) || lies(Tier::host))));
    if (tier) REQUIRE(lies(*tier));
  }

  void release() {
    if (const auto id = any_request()) index.release(*id);
  }

  void evict() {
    const Tier tier = any_tier();
    const std::size_t before = index.size();
    const std::size_t wanted = tables.free_blocks(tier) + samples_.below(6);
    const std::size_t possible = tables.free_blocks(tier) + index.evictable_blocks(tier);
    const bool done = index.evict(tables, tier, wanted);
    REQUIRE(done == (tables.free_blocks(tier) >= wanted));
    if (wanted > possible) REQUIRE(index.size() == before);
    tally.evicted += before - index.size();
  }

  Samples samples_;
  std::map<RequestId, EngineRequest> requests_{};
  std::map<MigrationId, EngineMigration> migrations_{};
  std::vector<std::uint32_t> memory_[2];
  std::vector<std::vector<Block>> mirror_;
};

}  // namespace naive

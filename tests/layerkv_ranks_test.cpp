// Block tables of several ranks: tensor parallel ones make the same calls; a pipeline stage makes
// those of its own layers.
#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/block_tables.hpp"

namespace {

namespace layerkv = lethe::layerkv;
using layerkv::BlockTablesConfig;
using layerkv::RequestId;
using layerkv::Tier;

constexpr std::size_t layers = 7;
constexpr std::size_t front_layers = 3;

enum class Kind { open, append, append_layer, truncate, begin, finish, cancel, close };

/// What an engine's scheduler tells all of its ranks; `layer` is the model's.
struct Call {
  Kind kind = Kind::open;
  RequestId request = 0;
  std::size_t layer = 0;
  std::size_t tokens = 0;
  Tier tier = Tier::device;
};

/// One rank's tables, of the model's layers from `first` on.
class Rank {
 public:
  Rank(BlockTablesConfig config, std::size_t first, std::size_t count)
      : tables(with_layers(config, count)), first_(first) {}

  bool has(std::size_t layer) const {
    return layer >= first_ && layer < first_ + tables.config().layers;
  }

  /// Whether it could be done; of another rank's layer there is nothing to do.
  bool apply(const Call& call) {
    const std::size_t layer = call.layer - first_;
    switch (call.kind) {
      case Kind::open:
        opened = tables.open();
        return opened.has_value();
      case Kind::append:
        return tables.append(call.request, call.tokens, call.tier);
      case Kind::close:
        tables.close(call.request);
        return true;
      default:
        return !has(call.layer) || apply_to(layer, call);
    }
  }

  std::vector<layerkv::Block> table(RequestId request, std::size_t layer) const {
    const auto blocks = tables.table(request, layer - first_);
    return {blocks.begin(), blocks.end()};
  }
  std::size_t tokens(RequestId request, std::size_t layer) const {
    return tables.tokens(request, layer - first_);
  }
  auto tier(RequestId request, std::size_t layer) const {
    return tables.tier(request, layer - first_);
  }
  bool busy(RequestId request, std::size_t layer) const {
    return tables.busy(request, layer - first_);
  }

  /// What changed, with the model's layers.
  std::vector<std::array<std::size_t, 4>> deltas() {
    std::vector<std::array<std::size_t, 4>> all;
    for (const layerkv::TableDelta& delta : tables.take_deltas())
      all.push_back({delta.request, delta.layer + first_, delta.first, delta.count});
    return all;
  }

  layerkv::BlockTables tables;
  std::map<std::pair<RequestId, std::size_t>, layerkv::MigrationId> migrations;
  std::optional<RequestId> opened;

 private:
  static BlockTablesConfig with_layers(BlockTablesConfig config, std::size_t count) {
    config.layers = count;
    return config;
  }

  bool apply_to(std::size_t layer, const Call& call) {
    const auto key = std::pair(call.request, layer);
    if (call.kind == Kind::append_layer)
      return tables.append(call.request, layer, call.tokens, call.tier);
    if (call.kind == Kind::truncate) {
      tables.truncate(call.request, layer, call.tokens);
      return true;
    }
    if (call.kind == Kind::begin) {
      const auto migration = tables.begin_migration(call.request, layer, call.tier);
      if (migration) migrations[key] = *migration;
      return migration.has_value();
    }
    const auto found = migrations.find(key);
    if (found == migrations.end()) return false;
    call.kind == Kind::finish ? tables.finish_migration(found->second)
                              : tables.cancel_migration(found->second);
    migrations.erase(found);
    return true;
  }

  std::size_t first_;
};

/// Random calls that `tables` allow.
class Scheduler {
 public:
  explicit Scheduler(std::uint64_t seed) : random_(seed) {}

  /// @param rank  one of all layers, as it is before the call
  Call next(const Rank& rank) {
    Call call{.kind = static_cast<Kind>(random_() % 8),
              .request = static_cast<RequestId>(random_() % rank.tables.config().requests),
              .layer = random_() % layers,
              .tokens = random_() % 12,
              .tier = random_() % 3 == 0 ? Tier::host : Tier::device};
    const bool is_open = rank.tables.is_open(call.request);
    const auto migration = rank.migrations.find({call.request, call.layer});
    if (migration != rank.migrations.end() && random_() % 2 == 0)
      call.kind = random_() % 4 == 0 ? Kind::cancel : Kind::finish;
    else if (!is_open)
      call.kind = Kind::open;
    else if (call.kind == Kind::open || call.kind == Kind::finish || call.kind == Kind::cancel)
      call.kind = Kind::append;
    if (call.kind == Kind::close && migrates(rank, call.request)) call.kind = Kind::append_layer;
    return call;
  }

 private:
  static bool migrates(const Rank& rank, RequestId request) {
    for (std::size_t layer = 0; layer < layers; ++layer)
      if (rank.migrations.count({request, layer}) != 0) return true;
    return false;
  }

  std::mt19937_64 random_;
};

constexpr BlockTablesConfig tight{.layers = layers,
                                  .block_tokens = 4,
                                  .device_blocks = 60,
                                  .host_blocks = 30,
                                  .requests = 5,
                                  .request_blocks = 400,
                                  .migrations = 6};

BlockTablesConfig ample() {
  BlockTablesConfig config = tight;
  config.device_blocks = config.host_blocks = 40000;
  config.migrations = 5 * layers;
  return config;
}

}  // namespace

TEST_CASE("tensor parallel ranks that are told the same have the same tables, ids and deltas") {
  Rank one(tight, 0, layers);
  Rank other(tight, 0, layers);
  Scheduler scheduler(3);
  std::size_t refused = 0;
  for (int step = 0; step < 4000; ++step) {
    const Call call = scheduler.next(one);
    const bool is_done = one.apply(call);
    refused += is_done ? 0 : 1;
    REQUIRE(other.apply(call) == is_done);
    REQUIRE(one.opened == other.opened);
    REQUIRE(one.migrations == other.migrations);
    REQUIRE(one.deltas() == other.deltas());
    for (std::size_t layer = 0; layer < layers; ++layer)
      if (one.tables.is_open(call.request))
        REQUIRE(one.table(call.request, layer) == other.table(call.request, layer));
  }
  one.tables.check();
  CHECK(refused > 100);
}

TEST_CASE("a pipeline stage keeps its own layers as an engine of all layers does") {
  Rank whole(ample(), 0, layers);
  std::array<Rank, 2> stages{Rank(ample(), 0, front_layers),
                             Rank(ample(), front_layers, layers - front_layers)};
  Scheduler scheduler(4);
  for (int step = 0; step < 3000; ++step) {
    const Call call = scheduler.next(whole);
    const bool is_done = whole.apply(call);
    const bool front_done = stages[0].apply(call);
    const bool back_done = stages[1].apply(call);
    REQUIRE((front_done && back_done) == is_done);
    for (const Rank& stage : stages) REQUIRE(stage.opened == whole.opened);
    auto changed = whole.deltas();
    auto parts = stages[0].deltas();
    for (const auto& delta : stages[1].deltas()) parts.push_back(delta);
    std::sort(changed.begin(), changed.end());
    std::sort(parts.begin(), parts.end());
    REQUIRE(parts == changed);
    for (std::size_t layer = 0; layer < layers && whole.tables.is_open(call.request); ++layer) {
      const Rank& stage = stages[stages[0].has(layer) ? 0 : 1];
      REQUIRE(stage.tokens(call.request, layer) == whole.tokens(call.request, layer));
      REQUIRE(stage.tier(call.request, layer) == whole.tier(call.request, layer));
      REQUIRE(stage.busy(call.request, layer) == whole.busy(call.request, layer));
      REQUIRE(stage.table(call.request, layer).size() == whole.table(call.request, layer).size());
    }
  }
  for (const Rank& stage : stages) stage.tables.check();
}

TEST_CASE("a prompt that one stage has no room for leaves no trace in the others") {
  Rank front(tight, 0, front_layers);
  BlockTablesConfig short_of = tight;
  short_of.device_blocks = 7;
  Rank back(short_of, front_layers, layers - front_layers);
  const RequestId request = front.tables.open().value();
  REQUIRE(back.tables.open() == request);
  const Call prompt{.kind = Kind::append, .request = request, .tokens = 8};
  REQUIRE(front.apply(prompt));
  REQUIRE_FALSE(back.apply(prompt));
  front.tables.close(request);
  back.tables.close(request);
  CHECK(front.tables.free_blocks(Tier::device) == tight.device_blocks);
  CHECK(back.tables.free_blocks(Tier::device) == 7);
  CHECK(front.tables.open() == back.tables.open());
}

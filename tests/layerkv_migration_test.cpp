// BlockTables, a queue of transfers and copying threads together: layers of several requests go
// back and forth while tokens are appended and requests cancelled, and every token stays what it
// was.
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/block_tables.hpp"
#include "lethe/layerkv/coalescer.hpp"
#include "lethe/layerkv/thread_copier.hpp"
#include "lethe/layerkv/transfer.hpp"
#include "lethe/numeric.hpp"
#include "naive/random.hpp"

// Steps of the random engine; 300,000 take about ten seconds.
#if !defined(LETHE_MIGRATION_STEPS)
#define LETHE_MIGRATION_STEPS 6000
#endif

namespace {

using lethe::layerkv::Block;
using lethe::layerkv::BlockArray;
using lethe::layerkv::BlockMove;
using lethe::layerkv::BlockTables;
using lethe::layerkv::BlockTablesConfig;
using lethe::layerkv::Coalescer;
using lethe::layerkv::FinishedTransfer;
using lethe::layerkv::MigrationId;
using lethe::layerkv::RequestId;
using lethe::layerkv::Route;
using lethe::layerkv::Staging;
using lethe::layerkv::StagingBuffers;
using lethe::layerkv::ThreadCopier;
using lethe::layerkv::Tier;
using lethe::layerkv::TransferId;
using lethe::layerkv::TransferOutcome;
using lethe::layerkv::TransferQueue;
using lethe::layerkv::Urgency;

constexpr std::size_t layers = 4;
constexpr std::size_t block_tokens = 4;
constexpr std::size_t request_blocks = 12;
constexpr std::size_t key_bytes = 24;
constexpr std::size_t value_bytes = 40;
constexpr BlockTablesConfig table_config{.layers = layers,
                                         .block_tokens = block_tokens,
                                         .device_blocks = 150,
                                         .host_blocks = 150,
                                         .requests = 6,
                                         .request_blocks = request_blocks,
                                         .migrations = 16};

/// The blocks of one tier.
struct Pool {
  std::vector<std::byte> keys = std::vector<std::byte>(150 * block_tokens * key_bytes);
  std::vector<std::byte> values = std::vector<std::byte>(150 * block_tokens * value_bytes);
};

std::chrono::nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// What an engine needs to move its layers.
struct Engine {
  BlockTables tables{table_config};
  std::array<Pool, 2> pools;
  std::array<std::array<std::byte, request_blocks * block_tokens*(key_bytes + value_bytes)>, 2>
      buffers{};
  ThreadCopier copier{{.threads = 2}};
  TransferQueue<ThreadCopier> queue{
      {.transfers = 24, .copies = 2 * request_blocks, .slice_bytes = 512},
      copier,
      {std::span(buffers[0]), std::span(buffers[1])}};
  Coalescer coalescer{{.blocks = request_blocks}};
  bool collective_under_way = false;

  /// Keys and values, as copies from one tier to the other see them.
  [[nodiscard]] std::array<BlockArray, 2> arrays(Tier from) {
    Pool& source = pools[static_cast<std::size_t>(from)];
    Pool& target = pools[1 - static_cast<std::size_t>(from)];
    return {BlockArray{.source = source.keys.data(),
                       .target = target.keys.data(),
                       .block_bytes = block_tokens * key_bytes},
            BlockArray{.source = source.values.data(),
                       .target = target.values.data(),
                       .block_bytes = block_tokens * value_bytes}};
  }

  // [migrate]
  /// Begins to move a layer; none: try again later.
  std::optional<TransferId> migrate(RequestId request, std::size_t layer, Tier to) {
    const auto migration = tables.begin_migration(request, layer, to);
    if (!migration) return std::nullopt;  // the pool lacks blocks, or it is on its way already
    // Where keys and values of both pools lie.
    const auto memory = arrays(to == Tier::host ? Tier::device : Tier::host);
    const auto transfer =
        queue.start({.copies = coalescer.copies(tables.moves(*migration), memory),
                     .route = to == Tier::host ? Route::to_host : Route::to_device,
                     .urgency = to == Tier::host ? Urgency::background : Urgency::ahead,
                     .tag = *migration});
    if (!transfer) tables.cancel_migration(*migration);  // the queue is full
    return transfer;
  }

  /// Between kernels, as often as a slice takes.
  void poll() {
    queue.poll(now(), [&] { return !collective_under_way; });
    while (const auto finished = queue.take_finished()) end(*finished);
  }

  void end(const FinishedTransfer& finished) {
    if (finished.tag >= fetch_tag) {
      fetched[finished.tag - fetch_tag] = finished;
    } else if (decoding) {
      postponed.push_back(finished);  // the step reads what the tables showed when it began
    } else {
      end_migration(finished);
    }
  }

  /// Old and new blocks are in use until here, whatever has become of the request.
  void end_migration(const FinishedTransfer& finished) {
    const auto migration = static_cast<MigrationId>(finished.tag);
    if (finished.outcome == TransferOutcome::done) {
      tables.finish_migration(migration);
    } else {
      tables.cancel_migration(migration);
    }
  }
  // [migrate]

  // [fetch]
  /// One step of decoding: layers on the host are read in a staging buffer, each fetched while the
  /// one before it computes.
  template <class Compute>
  void decode(RequestId request, Compute compute) {
    decoding = true;
    std::array<std::optional<TransferId>, layers> fetches;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (tables.tier(request, layer) == Tier::host) fetches[layer] = fetch(request, layer);
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      if (!fetches[layer]) {
        compute(layer, std::span<const std::byte>{});  // in its blocks on the device
        continue;
      }
      queue.set_urgency(*fetches[layer], Urgency::awaited);
      while (!fetched[layer]) poll();
      compute(layer, fetched[layer]->staged);  // all keys, then all values, block after block
      queue.release(fetched[layer]->buffer);
      fetched[layer].reset();
    }
    decoding = false;
    for (const FinishedTransfer& finished : postponed) end_migration(finished);
    postponed.clear();
  }

  TransferId fetch(RequestId request, std::size_t layer) {
    const auto blocks = tables.table(request, layer);
    const auto transfer = queue.start({.copies = coalescer.packed(blocks, arrays(Tier::host)),
                                       .route = Route::to_device,
                                       .urgency = Urgency::ahead,
                                       .staging = Staging::into,
                                       .tag = fetch_tag + layer});
    return transfer.value();  // the queue has room for every layer of a step
  }
  // [fetch]

  static constexpr std::uint64_t fetch_tag = std::uint64_t{1} << 32;
  std::array<std::optional<FinishedTransfer>, layers> fetched{};
  std::vector<FinishedTransfer> postponed;
  bool decoding = false;

  [[nodiscard]] std::byte* key(Block block, std::size_t token) {
    Pool& pool = pools[static_cast<std::size_t>(block.tier())];
    return &pool.keys[(block.index() * block_tokens + token % block_tokens) * key_bytes];
  }
  [[nodiscard]] std::byte* value(Block block, std::size_t token) {
    Pool& pool = pools[static_cast<std::size_t>(block.tier())];
    return &pool.values[(block.index() * block_tokens + token % block_tokens) * value_bytes];
  }

  /// Copies on write come before anything is written.
  void copy_on_write() {
    for (const BlockMove& move : tables.take_copies()) {
      std::memcpy(key(move.to, 0), key(move.from, 0), block_tokens * key_bytes);
      std::memcpy(value(move.to, 0), value(move.from, 0), block_tokens * value_bytes);
    }
  }
};

/// Bytes that no other token has.
std::byte byte_of(std::uint64_t serial, std::size_t layer, std::size_t token, std::size_t byte) {
  return static_cast<std::byte>(
      lethe::detail::mix(((serial * layers + layer) * 4096 + token) * 128 + byte));
}

bool holds(const std::byte* place, std::size_t bytes, std::uint64_t serial, std::size_t layer,
           std::size_t token, std::size_t first) {
  for (std::size_t i = 0; i < bytes; ++i) {
    if (place[i] != byte_of(serial, layer, token, first + i)) return false;
  }
  return true;
}

struct Request {
  RequestId id;
  /// Unlike its id never used again: its tokens' bytes come from it.
  std::uint64_t serial;
};

/// Random work on an engine, every token checked against its serial.
class Work {
 public:
  explicit Work(std::uint64_t seed) : random_(seed) {}

  void step() {
    engine_.collective_under_way = random_.chance(20);
    switch (random_.below(8)) {
      case 0:
        open();
        break;
      case 1:
        close();
        break;
      case 2:
      case 3:
        append();
        break;
      case 4:
      case 5:
        migrate();
        break;
      case 6:
        read();
        break;
      default:
        truncate();
        break;
    }
    engine_.poll();
  }

  void finish() {
    engine_.collective_under_way = false;
    while (engine_.queue.live() != 0) {
      engine_.queue.wait();
      engine_.poll();
    }
    engine_.tables.check();
    for (const Request& request : requests_) {
      for (std::size_t layer = 0; layer < layers; ++layer) check_layer(request, layer);
      engine_.tables.close(request.id);
    }
    CHECK(engine_.tables.free_blocks(Tier::device) == table_config.device_blocks);
    CHECK(engine_.tables.free_blocks(Tier::host) == table_config.host_blocks);
  }

  std::size_t moved = 0;
  std::size_t cancelled = 0;

 private:
  void open() {
    const auto id = engine_.tables.open();
    if (id) requests_.push_back({*id, ++serials_});
  }

  /// A request is gone at once; what is under way for it ends by itself.
  void close() {
    if (requests_.empty() || random_.chance(60)) return;
    const std::size_t which = random_.below(requests_.size());
    cancelled += engine_.queue.cancel(transfers_[random_.below(transfers_.size())]) ? 1u : 0u;
    engine_.tables.close(requests_[which].id);
    requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  Request& any() { return requests_[random_.below(requests_.size())]; }

  void append() {
    if (requests_.empty()) return;
    const Request& request = any();
    const std::size_t layer = random_.below(layers);
    const std::size_t first = engine_.tables.tokens(request.id, layer);
    const std::size_t count = random_.between(1, 2 * block_tokens);
    if (first + count > request_blocks * block_tokens) return;
    const Tier tier = random_.chance(70) ? Tier::device : Tier::host;
    if (!engine_.tables.append(request.id, layer, count, tier)) return;
    engine_.copy_on_write();
    const auto table = engine_.tables.table(request.id, layer);
    for (std::size_t token = first; token < first + count; ++token) {
      const Block block = table[token / block_tokens];
      write(engine_.key(block, token), key_bytes, request.serial, layer, token, 0);
      write(engine_.value(block, token), value_bytes, request.serial, layer, token, key_bytes);
    }
  }

  static void write(std::byte* place, std::size_t bytes, std::uint64_t serial, std::size_t layer,
                    std::size_t token, std::size_t first) {
    for (std::size_t i = 0; i < bytes; ++i) place[i] = byte_of(serial, layer, token, first + i);
  }

  void migrate() {
    if (requests_.empty()) return;
    const Tier to = random_.chance(50) ? Tier::host : Tier::device;
    const auto transfer = engine_.migrate(any().id, random_.below(layers), to);
    if (!transfer) return;
    ++moved;
    transfers_[moved % transfers_.size()] = *transfer;
  }

  void truncate() {
    if (requests_.empty() || random_.chance(70)) return;
    const Request& request = any();
    const std::size_t layer = random_.below(layers);
    engine_.tables.truncate(request.id, layer,
                            random_.below(engine_.tables.tokens(request.id, layer) + 1));
  }

  void read() {
    if (!requests_.empty()) check_layer(any(), random_.below(layers));
  }

  void check_layer(const Request& request, std::size_t layer) {
    const auto table = engine_.tables.table(request.id, layer);
    for (std::size_t token = 0; token < engine_.tables.tokens(request.id, layer); ++token) {
      const Block block = table[token / block_tokens];
      REQUIRE(holds(engine_.key(block, token), key_bytes, request.serial, layer, token, 0));
      REQUIRE(
          holds(engine_.value(block, token), value_bytes, request.serial, layer, token, key_bytes));
    }
  }

  naive::Random random_;
  Engine engine_;
  std::vector<Request> requests_;
  std::uint64_t serials_ = 0;
  /// The last ones, some of them ended.
  std::array<TransferId, 8> transfers_{};
};

}  // namespace

TEST_CASE("layers go back and forth while requests grow and end; every token stays what it was") {
  std::size_t cancelled = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    Work work(seed);
    for (std::size_t step = 0; step < LETHE_MIGRATION_STEPS; ++step) work.step();
    work.finish();
    CHECK(work.moved > LETHE_MIGRATION_STEPS / 40);
    cancelled += work.cancelled;
  }
  CHECK(cancelled > 0);
}

namespace {

constexpr std::size_t tokens = 3 * block_tokens + 1;
constexpr std::size_t blocks = 4;

/// A request whose layers lie on the host but for one, a byte of each token's key and value set.
RequestId open_request(Engine& engine) {
  const RequestId request = engine.tables.open().value();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t token = 0; token < tokens; ++token) {
      REQUIRE(engine.tables.append(request, layer, 1, layer == 1 ? Tier::device : Tier::host));
      const Block block = engine.tables.table(request, layer)[token / block_tokens];
      engine.key(block, token)[0] = byte_of(7, layer, token, 0);
      engine.value(block, token)[value_bytes - 1] = byte_of(7, layer, token, 1);
    }
  }
  return request;
}

void check_staged(std::size_t layer, std::span<const std::byte> staged) {
  REQUIRE(staged.size() == blocks * block_tokens * (key_bytes + value_bytes));
  const auto values = staged.subspan(blocks * block_tokens * key_bytes);
  for (std::size_t token = 0; token < tokens; ++token) {
    REQUIRE(staged[token * key_bytes] == byte_of(7, layer, token, 0));
    REQUIRE(values[(token + 1) * value_bytes - 1] == byte_of(7, layer, token, 1));
  }
}

}  // namespace

TEST_CASE("layers on the host are read in two staging buffers, one after the other") {
  Engine engine;
  const RequestId request = open_request(engine);
  std::vector<std::size_t> computed;
  for (int step = 0; step < 20; ++step) {
    engine.decode(request, [&](std::size_t layer, std::span<const std::byte> staged) {
      computed.push_back(layer);
      if (layer == 1) {
        CHECK(staged.empty());
        return;
      }
      CHECK(engine.queue.buffers_in_use() <= 2);
      check_staged(layer, staged);
    });
    REQUIRE(engine.queue.live() == 0);
    REQUIRE(engine.queue.buffers_in_use() == 0);
  }
  CHECK(computed.size() == 20 * layers);
  engine.tables.close(request);
}

TEST_CASE(
    "a layer that ends its way to another tier within a step is read where the step found it") {
  Engine engine;
  const RequestId request = open_request(engine);
  std::size_t postponed = 0;
  for (std::size_t step = 0; step < 60; ++step) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const bool on_host = engine.tables.tier(request, layer) == Tier::host;
      engine.migrate(request, layer, on_host ? Tier::device : Tier::host);
    }
    engine.decode(request, [&](std::size_t layer, std::span<const std::byte> staged) {
      postponed += engine.postponed.size();
      CHECK(staged.empty() == (engine.tables.tier(request, layer) == Tier::device));
      if (!staged.empty()) return check_staged(layer, staged);
      for (std::size_t token = 0; token < tokens; ++token) {
        const Block block = engine.tables.table(request, layer)[token / block_tokens];
        REQUIRE(engine.key(block, token)[0] == byte_of(7, layer, token, 0));
      }
    });
    REQUIRE(engine.queue.buffers_in_use() == 0);
    engine.tables.check();
  }
  CHECK(postponed > 0);
  while (engine.queue.live() != 0) {
    engine.queue.wait();
    engine.poll();
  }
  engine.tables.close(request);
}

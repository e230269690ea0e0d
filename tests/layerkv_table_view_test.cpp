#include "lethe/layerkv/table_view.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "lethe/policies.hpp"
#include "samples.hpp"

namespace {

using namespace lethe::layerkv;
using lethe::EvictionPlan;
using lethe::LayerState;
using lethe::Position;
using lethe::Slot;

constexpr std::size_t layers = 3;
constexpr std::size_t head_count = 2;
constexpr std::size_t dimension = 3;
constexpr std::size_t block_tokens = 4;
constexpr std::size_t block_floats = head_count * block_tokens * dimension;

/// Both tiers' memory: [block][head][row][channel]. One block is one layer's.
struct Memory {
  explicit Memory(const BlockTablesConfig& config)
      : device(config.device_blocks * block_floats, -1.0f),
        host(config.host_blocks * block_floats, -2.0f) {}

  float* row(Block block, std::size_t head, std::size_t index) {
    std::vector<float>& tier = block.tier() == Tier::host ? host : device;
    return tier.data() + block.index() * block_floats + (head * block_tokens + index) * dimension;
  }
  void copy(BlockMove move) {
    std::memcpy(row(move.to, 0, 0), row(move.from, 0, 0), block_floats * sizeof(float));
  }

  std::vector<float> device;
  std::vector<float> host;
};

struct Mover {
  void copy_rows(std::size_t, std::uint32_t head, RowPlace from, RowPlace to, std::size_t rows) {
    const std::size_t first = head == lethe::all_heads ? 0 : head;
    const std::size_t last = head == lethe::all_heads ? head_count : head + 1;
    for (std::size_t h = first; h < last; ++h) {
      std::memmove(memory->row(to.block, h, to.row), memory->row(from.block, h, from.row),
                   rows * dimension * sizeof(float));
    }
    if (moved != nullptr) *moved += rows;
  }
  [[nodiscard]] std::size_t heads(std::size_t) const { return head_count; }
  [[nodiscard]] std::size_t token_bytes(std::size_t) const {
    return head_count * dimension * sizeof(float);
  }
  [[nodiscard]] std::size_t key_channels(std::size_t) const { return dimension; }
  void read_keys(std::size_t, std::size_t head, RowPlace from, std::span<float> out) const {
    std::copy_n(memory->row(from.block, head, from.row), out.size(), out.data());
  }

  Memory* memory;
  std::size_t* moved = nullptr;
};
using View = TableView<Mover>;
static_assert(lethe::PerHeadCache<View> && lethe::ByteSizedCache<View> &&
              lethe::KeyReadableCache<View> && !lethe::ValueReadableCache<View>);

/// A token's channel; `writer` tells apart tokens that two requests put at one position.
float value(std::uint32_t writer, std::size_t layer, std::size_t head, std::size_t position,
            std::size_t channel) {
  return static_cast<float>((((writer * layers + layer) * head_count + head) * 512 + position) * 4 +
                            channel);
}

/// What one request holds, head by head, beside the tables.
struct Naive {
  struct Token {
    std::uint32_t writer;
    std::size_t position;
  };
  std::vector<Token> tokens[layers][head_count];
};

/// An engine of a few requests, whose rows are written and moved for real.
struct Engine {
  explicit Engine(std::size_t device_blocks = 200, std::size_t host_blocks = 60)
      : tables({.layers = layers,
                .block_tokens = block_tokens,
                .device_blocks = device_blocks,
                .host_blocks = host_blocks,
                .requests = 4,
                .request_blocks = 40}),
        memory(tables.config()) {}

  RequestId open() {
    const RequestId id = *tables.open();
    if (id >= rows.size()) rows.resize(id + 1);
    rows[id] = {};
    return id;
  }

  View view(RequestId id, SharedBlocks shared = SharedBlocks::copied) {
    return {tables, id, Mover{&memory, &moved}, shared};
  }

  void copy_pending() {
    for (const BlockMove& move : tables.take_copies()) memory.copy(move);
  }

  /// `count` more tokens in a layer, from `position` on.
  void append(RequestId id, std::size_t layer, std::size_t count, std::size_t position) {
    REQUIRE(tables.append(id, layer, count));
    copy_pending();
    for (std::size_t t = 0; t < count; ++t) {
      const std::size_t slot = tables.tokens(id, layer) - count + t;
      const Block block = tables.table(id, layer)[slot / block_tokens];
      for (std::size_t head = 0; head < head_count; ++head) {
        rows[id].tokens[layer][head].push_back({id, position + t});
        for (std::size_t c = 0; c < dimension; ++c) {
          memory.row(block, head, slot % block_tokens)[c] = value(id, layer, head, position + t, c);
        }
      }
    }
  }

  void share(RequestId from, RequestId to, std::size_t layer, std::size_t blocks) {
    tables.share(from, to, layer, blocks);
    for (std::size_t head = 0; head < head_count; ++head) {
      rows[to].tokens[layer][head] = rows[from].tokens[layer][head];
      rows[to].tokens[layer][head].resize(tables.tokens(to, layer));
    }
  }

  /// What a plan promises.
  void keep(RequestId id, const EvictionPlan& plan) {
    for (std::size_t head = 0; head < head_count; ++head) {
      if (plan.head != lethe::all_heads && plan.head != head) continue;
      std::vector<Naive::Token> kept;
      for (const Slot slot : plan.kept) kept.push_back(rows[id].tokens[plan.layer][head].at(slot));
      rows[id].tokens[plan.layer][head] = kept;
    }
  }

  void require_rows() {
    REQUIRE_NOTHROW(tables.check());
    for (RequestId id = 0; id < rows.size(); ++id) {
      for (std::size_t layer = 0; layer < layers; ++layer) require_layer(id, layer);
    }
  }
  void require_layer(RequestId id, std::size_t layer) {
    for (std::size_t head = 0; head < head_count; ++head) {
      const std::vector<Naive::Token>& tokens = rows[id].tokens[layer][head];
      REQUIRE(tables.tokens(id, layer) == tokens.size());
      for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
        float expected[dimension];
        for (std::size_t c = 0; c < dimension; ++c) {
          expected[c] = value(tokens[slot].writer, layer, head, tokens[slot].position, c);
        }
        const Block block = tables.table(id, layer)[slot / block_tokens];
        const float* found = memory.row(block, head, slot % block_tokens);
        if (std::memcmp(found, expected, sizeof expected) != 0) {
          CAPTURE(id, layer, head, slot, found[0], expected[0]);
          FAIL("a row is not what was written to it");
        }
      }
    }
  }

  BlockTables tables;
  Memory memory;
  std::vector<Naive> rows{};
  std::size_t moved = 0;
};

/// Applies a round's plans to the tables and to the naive rows.
struct Checked : View {
  Checked(Engine& in, RequestId id, SharedBlocks shared = SharedBlocks::copied)
      : View(in.view(id, shared)), engine(&in), request(id) {}
  void apply(std::span<const EvictionPlan> plans) {
    View::apply(plans);
    for (const EvictionPlan& plan : plans) engine->keep(request, plan);
    ++rounds;
  }
  Engine* engine;
  RequestId request;
  std::size_t rounds = 0;
};

EvictionPlan plan_of(std::size_t layer, const std::vector<Slot>& kept, std::size_t tokens,
                     std::uint32_t head = lethe::all_heads) {
  return {.layer = static_cast<std::uint32_t>(layer),
          .head = head,
          .tokens = static_cast<std::uint32_t>(tokens),
          .first_move = lethe::first_move_of(kept),
          .kept = kept};
}

/// Tells a pruner random masses of one step; few tokens matter, and in each layer others do.
template <class Pruner>
void observe(Pruner& pruner, const View& view, Samples& samples, std::size_t tokens) {
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const std::size_t n = view.size(layer);
    const std::span<const Position> positions = pruner.positions(layer);
    std::vector<float> mass(head_count * tokens * n);
    for (std::size_t i = 0; i < mass.size(); ++i) {
      const std::size_t slot = i % n;
      const std::size_t position = slot < positions.size() ? positions[slot] : 0;
      const bool matters = lethe::detail::mix(position * layers + layer) % (2 + 3 * layer) == 0;
      mass[i] = matters ? samples.uniform() : 1e-5f * samples.uniform();
    }
    pruner.observe(layer,
                   {.data = mass.data(), .heads = head_count, .queries = tokens, .columns = n});
  }
}

template <class Pruner>
void step(Engine& engine, Checked& view, Pruner& pruner, Samples& samples, std::size_t tokens) {
  pruner.make_room(view, tokens);
  const std::size_t position = pruner.tokens_seen();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    engine.append(view.request, layer, tokens, position);
  }
  observe(pruner, view, samples, tokens);
  pruner.commit();
}

/// The rows that stand are those of the pruner's positions.
template <class Pruner>
void require_positions(const Engine& engine, RequestId id, const Pruner& pruner, bool per_head) {
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t head = 0; head < head_count; ++head) {
      const std::span<const Position> positions = pruner.positions(layer, per_head ? head : 0);
      const std::vector<Naive::Token>& tokens = engine.rows[id].tokens[layer][head];
      REQUIRE(tokens.size() == positions.size());
      REQUIRE(std::equal(tokens.begin(), tokens.end(), positions.begin(),
                         [](const auto& token, Position at) { return token.position == at; }));
    }
  }
}

/// One request reads a prompt and decodes; another goes on from its blocks with a fork of its
/// pruner; both are pruned from then on, each in its own way.
template <class Policy, class... Settings>
void decode_two(SharedBlocks shared, const lethe::PrunerConfig& config,
                const Settings&... settings) {
  Engine engine;
  Samples samples(5);
  const RequestId one = engine.open();
  Policy pruner{config, settings...};
  Checked view(engine, one, shared);
  for (int i = 0; i < 6; ++i) step(engine, view, pruner, samples, 5);
  const RequestId two = engine.open();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    engine.share(one, two, layer, engine.tables.table(one, layer).size());
  }
  Policy fork = pruner;
  Checked fork_view(engine, two, shared);
  bool unequal = false;
  for (int i = 0; i < 150; ++i) {
    step(engine, view, pruner, samples, 1);
    step(engine, fork_view, fork, samples, 1);
    engine.require_rows();
    require_positions(engine, one, pruner, config.scope == lethe::Scope::head);
    require_positions(engine, two, fork, config.scope == lethe::Scope::head);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      REQUIRE(pruner.size(layer) == view.size(layer));
      REQUIRE(view.size(layer) <= pruner.bound(layer));
      unequal = unequal || view.size(layer) != view.size(0);
    }
  }
  CHECK(view.rounds > 3);
  CHECK(fork_view.rounds > 3);
  if constexpr (std::is_same_v<Policy, lethe::policies::Lethe>) CHECK(unequal);
  engine.tables.close(one);
  engine.tables.close(two);
  CHECK(engine.tables.consistent());
  CHECK(engine.tables.free_blocks(Tier::device) == 200);
}

}  // namespace

TEST_CASE("two requests with a common beginning are pruned apart, row for row") {
  for (const SharedBlocks shared : {SharedBlocks::copied, SharedBlocks::kept}) {
    decode_two<lethe::policies::Lethe>(
        shared, {.layers = layers, .capacity = 64, .round_interval = 4},
        lethe::LetheConfig{.sparsity_ratio = 40, .first_threshold = 36});
    decode_two<lethe::policies::H2O>(shared, {.layers = layers, .capacity = 48},
                                     lethe::H2OConfig{.budget = 40});
  }
}

TEST_CASE("heads may keep tokens of their own in shared blocks") {
  decode_two<lethe::policies::H2O>(
      SharedBlocks::copied,
      {.layers = layers, .capacity = 48, .groups = head_count, .scope = lethe::Scope::head},
      lethe::H2OConfig{.budget = 40});
}

TEST_CASE("random plans on blocks shared by three leave the others as they are") {
  Samples samples(8);
  for (int trace = 0; trace < 60; ++trace) {
    Engine engine;
    const RequestId first = engine.open();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      engine.append(first, layer, 1 + samples.below(50), 0);
    }
    for (int i = 0; i < 2; ++i) {
      const RequestId id = engine.open();
      for (std::size_t layer = 0; layer < layers; ++layer) {
        engine.share(first, id, layer, samples.below(engine.tables.table(first, layer).size() + 1));
        engine.append(id, layer, samples.below(12), 100);
      }
    }
    for (std::size_t round = 0; round < 6; ++round) {
      const auto id = static_cast<RequestId>(samples.below(3));
      std::vector<std::vector<Slot>> kept;
      std::vector<EvictionPlan> plans;
      for (std::size_t layer = 0; layer < layers; ++layer) {
        const std::size_t tokens = engine.tables.tokens(id, layer);
        kept.push_back(samples.slots(tokens, samples.below(tokens + 1)));
      }
      for (std::size_t layer = layers; layer-- > 0;) {
        if (samples.below(4) == 0) continue;
        plans.push_back(plan_of(layer, kept[layer], engine.tables.tokens(id, layer)));
      }
      Checked(engine, id).apply(plans);
      engine.require_rows();
      engine.append(id, samples.below(layers), samples.below(6), 200 + 10 * round);
      engine.require_rows();
    }
  }
}

TEST_CASE("shared blocks below a plan's first move stay shared, those above are replaced") {
  Engine engine;
  const RequestId one = engine.open();
  engine.append(one, 0, 32, 0);
  const RequestId two = engine.open();
  engine.share(one, two, 0, 8);
  const auto blocks_of = [&](RequestId id) {
    const auto table = engine.tables.table(id, 0);
    return std::vector<Block>(table.begin(), table.end());
  };
  const std::vector<Block> before = blocks_of(one);
  const std::size_t free = engine.tables.free_blocks(Tier::device);
  const std::vector<Slot> kept{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 20, 21, 22, 31};
  const EvictionPlan plan = plan_of(0, kept, 32);
  Checked(engine, two).apply({&plan, 1});
  engine.require_rows();
  CHECK(blocks_of(one) == before);
  const std::vector<Block> after = blocks_of(two);
  REQUIRE(after.size() == 4);
  CHECK(after[0] == before[0]);
  CHECK(after[1] == before[1]);
  CHECK_FALSE(after[2] == before[2]);
  CHECK_FALSE(after[3] == before[3]);
  CHECK(engine.tables.free_blocks(Tier::device) == free - 2);
  // Two rows of the block where rows begin to move, then the six that move.
  CHECK(engine.moved == 8);
}

TEST_CASE("a plan that cuts the tail alone copies nothing") {
  Engine engine;
  const RequestId one = engine.open();
  engine.append(one, 1, 20, 0);
  const RequestId two = engine.open();
  engine.share(one, two, 1, 5);
  std::vector<Slot> kept{0, 1, 2, 3, 4, 5};
  const EvictionPlan plan = plan_of(1, kept, 20);
  Checked(engine, two).apply({&plan, 1});
  CHECK(engine.moved == 0);
  CHECK(engine.tables.shared(engine.tables.table(two, 1)[1]));
  // What is appended behind goes to a copy.
  engine.append(two, 1, 1, 90);
  CHECK_FALSE(engine.tables.shared(engine.tables.table(two, 1)[1]));
  engine.require_rows();
}

TEST_CASE("without blocks for copies shared ones are protected, or the round is refused whole") {
  Engine engine(11);
  const RequestId one = engine.open();
  engine.append(one, 0, 18, 0);
  engine.append(one, 2, 8, 0);
  const RequestId two = engine.open();
  engine.share(one, two, 0, 5);
  engine.share(one, two, 2, 2);
  Checked view(engine, two);
  // 4 blocks are free: not five for each of three layers, nor two.
  CHECK(view.shared_prefix(0) == 18);
  CHECK(view.shared_prefix(1) == 0);
  CHECK(view.shared_prefix(2) == 8);
  const std::vector<Slot> kept{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
  const EvictionPlan plan = plan_of(0, kept, 18);
  const std::vector<float> before = engine.memory.device;
  CHECK_THROWS_AS(view.View::apply({&plan, 1}), std::length_error);
  CHECK_THROWS_WITH(view.View::apply({&plan, 1}), Catch::Contains("5 copies"));
  CHECK(engine.memory.device == before);
  engine.require_rows();
  const std::vector<Slot> fewer{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const EvictionPlan affordable = plan_of(0, fewer, 18);
  view.apply({&affordable, 1});
  engine.require_rows();
  CHECK(engine.tables.free_blocks(Tier::device) == 0);
}

TEST_CASE("shared blocks are announced where they are kept, or cannot be copied") {
  Engine engine;
  const RequestId one = engine.open();
  engine.append(one, 0, 20, 0);
  const RequestId two = engine.open();
  engine.share(one, two, 0, 3);
  engine.append(two, 0, 9, 50);
  CHECK(engine.view(two).shared_prefix(0) == 0);
  CHECK(engine.view(two, SharedBlocks::kept).shared_prefix(0) == 12);
  CHECK(engine.view(one, SharedBlocks::kept).shared_prefix(0) == 12);
  engine.tables.close(one);
  CHECK(engine.view(two, SharedBlocks::kept).shared_prefix(0) == 0);
}

TEST_CASE("a layer on its way, on the host or in both tiers is busy") {
  Engine engine;
  const RequestId id = engine.open();
  const View view = engine.view(id);
  CHECK(view.state(0) == LayerState::prunable);
  engine.append(id, 0, 10, 0);
  CHECK(view.state(0) == LayerState::prunable);
  const auto out = engine.tables.begin_migration(id, 0, Tier::host);
  CHECK(view.state(0) == LayerState::busy);
  CHECK(view.state(1) == LayerState::prunable);
  for (const BlockMove& move : engine.tables.moves(*out)) engine.memory.copy(move);
  engine.tables.finish_migration(*out);
  CHECK(view.state(0) == LayerState::busy);
  engine.require_rows();
  engine.append(id, 0, 6, 10);
  REQUIRE_FALSE(engine.tables.tier(id, 0).has_value());
  CHECK(view.state(0) == LayerState::busy);
  const auto back = engine.tables.begin_migration(id, 0, Tier::device);
  for (const BlockMove& move : engine.tables.moves(*back)) engine.memory.copy(move);
  engine.tables.finish_migration(*back);
  CHECK(view.state(0) == LayerState::prunable);
  engine.require_rows();
}

TEST_CASE("keys are read across blocks, and counts are what an engine asks of a cache") {
  Engine engine;
  const RequestId id = engine.open();
  engine.append(id, 1, 3, 100);
  engine.append(id, 2, 15, 0);
  const View view = engine.view(id);
  CHECK(view.layers() == layers);
  CHECK(view.size(2) == 15);
  CHECK(view.block_tokens(2) == block_tokens);
  CHECK(view.heads(0) == head_count);
  CHECK(view.token_bytes(0) == head_count * dimension * sizeof(float));
  std::vector<float> keys(11 * dimension);
  view.read_keys(2, 1, 3, keys);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    REQUIRE(keys[i] == value(id, 2, 1, 3 + i / dimension, i % dimension));
  }
}

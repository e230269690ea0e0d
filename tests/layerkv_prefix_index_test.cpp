#include "lethe/layerkv/prefix_index.hpp"

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using namespace lethe::layerkv;

constexpr BlockTablesConfig config{.layers = 2,
                                   .block_tokens = 4,
                                   .device_blocks = 24,
                                   .host_blocks = 12,
                                   .requests = 6,
                                   .request_blocks = 8};

using Chain = std::vector<BlockHash>;

/// A prompt's blocks by one letter each.
Chain chain_of(const std::string& blocks) {
  Chain chain;
  BlockHash parent{};
  for (const char letter : blocks) {
    const auto token = static_cast<std::uint32_t>(letter);
    parent = hash_block(parent, {&token, 1});
    chain.push_back(parent);
  }
  return chain;
}

struct Cache {
  explicit Cache(std::size_t entries = 0) : index(config, entries) {}

  /// A request that reads a prompt, from what is cached on, and leaves its blocks to the index.
  RequestId read(const std::string& prompt) {
    const RequestId id = *tables.open();
    const Chain chain = chain_of(prompt);
    const std::size_t found = index.acquire(tables, id, chain);
    REQUIRE(index.append(tables, id, (prompt.size() - found) * config.block_tokens));
    index.insert(tables, id, chain);
    require_sound();
    return id;
  }
  void end(RequestId id) {
    index.release(id);
    tables.close(id);
    require_sound();
  }
  void require_sound() {
    REQUIRE_NOTHROW(tables.check());
    REQUIRE(index.consistent());
  }
  [[nodiscard]] std::size_t find(const std::string& prompt) { return index.find(chain_of(prompt)); }
  [[nodiscard]] std::size_t free() const { return tables.free_blocks(Tier::device); }

  BlockTables tables{config};
  PrefixIndex index;
};

/// An index of few entries beside a list of idle prefixes, the one released first in front. Blocks
/// are never missing: entries alone are, so the list decides all.
struct Listed {
  static constexpr std::size_t entries = 20;
  static constexpr BlockTablesConfig wide{
      .layers = 2, .block_tokens = 4, .device_blocks = 4000, .requests = 6, .request_blocks = 8};

  explicit Listed(std::uint64_t seed) : samples(seed) {}

  void read() {
    std::string prompt(1 + samples.below(5), 'a');
    for (char& letter : prompt) letter = static_cast<char>('a' + samples.below(3));
    std::size_t cached = 0;
    while (cached < prompt.size() && has(prompt.substr(0, cached + 1))) ++cached;
    const RequestId id = *tables.open();
    const std::size_t found = index.acquire(tables, id, chain_of(prompt));
    REQUIRE(found == cached);
    REQUIRE(tables.append(id, (prompt.size() - found) * wide.block_tokens));
    const std::size_t known = index.insert(tables, id, chain_of(prompt));
    std::size_t length = 0;
    while (length < prompt.size() && use(prompt.substr(0, length + 1))) ++length;
    REQUIRE(known == length);
    open[id] = prompt.substr(0, known);
  }

  [[nodiscard]] bool has(const std::string& prefix) const {
    return users.contains(prefix) || std::find(idle.begin(), idle.end(), prefix) != idle.end();
  }

  /// False when there is no room for the prefix.
  bool use(const std::string& prefix) {
    const bool cached = has(prefix);
    idle.remove(prefix);
    if (!cached && users.size() + idle.size() == entries) {
      if (idle.empty()) return false;
      idle.pop_front();
    }
    ++users[prefix];
    return true;
  }

  void end() {
    auto ended = open.begin();
    std::advance(ended, samples.below(open.size()));
    index.release(ended->first);
    tables.close(ended->first);
    for (std::string prefix = ended->second; !prefix.empty(); prefix.pop_back()) {
      if (--users[prefix] != 0) continue;
      users.erase(prefix);
      idle.push_back(prefix);
    }
    open.erase(ended);
  }

  BlockTables tables{wide};
  PrefixIndex index{wide, entries};
  Samples samples;
  std::list<std::string> idle{};
  std::map<std::string, int> users{};
  std::map<RequestId, std::string> open{};
};

}  // namespace

TEST_CASE("a prompt begins with the blocks of one that had the same beginning") {
  Cache cache;
  const RequestId one = cache.read("abcd");
  CHECK(cache.free() == 24 - 8);
  CHECK(cache.find("abxd") == 2);
  CHECK(cache.find("xbcd") == 0);
  CHECK(cache.find("abcde") == 4);
  const RequestId two = cache.read("abx");
  CHECK(cache.free() == 24 - 8 - 2);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    CHECK(cache.tables.tokens(two, layer) == 12);
    CHECK(std::equal(cache.tables.table(two, layer).begin(),
                     cache.tables.table(two, layer).begin() + 2,
                     cache.tables.table(one, layer).begin()));
  }
  cache.end(one);
  cache.end(two);
  CHECK(cache.index.size() == 5);
  CHECK(cache.free() == 24 - 10);
  CHECK(cache.find("abcd") == 4);
  CHECK(cache.find("abx") == 3);
}

TEST_CASE("blocks of two that read the same prompt at once are known once") {
  Cache cache;
  const RequestId one = *cache.tables.open();
  const RequestId two = *cache.tables.open();
  REQUIRE(cache.tables.append(one, 8));
  REQUIRE(cache.tables.append(two, 12));
  CHECK(cache.index.insert(cache.tables, one, chain_of("ab")) == 2);
  CHECK(cache.index.insert(cache.tables, two, chain_of("abc")) == 3);
  cache.require_sound();
  CHECK(cache.index.size() == 3);
  cache.end(one);
  CHECK(cache.index.idle() == 0);
  cache.end(two);
  CHECK(cache.index.idle() == 3);
  CHECK(cache.free() == 24 - 6);
}

TEST_CASE("the prompt released first makes way first, its last block before its first") {
  Cache cache;
  const RequestId one = cache.read("abc");
  const RequestId two = cache.read("uvw");
  cache.end(two);
  cache.end(one);
  CHECK(cache.index.evictable_blocks(Tier::device) == 12);
  REQUIRE(cache.index.evict(cache.tables, Tier::device, cache.free() + 1));
  CHECK(cache.find("uvw") == 2);
  REQUIRE(cache.index.evict(cache.tables, Tier::device, cache.free() + 4));
  CHECK(cache.find("uvw") == 0);
  CHECK(cache.find("abc") == 3);
  // Use makes young again.
  cache.end(cache.read("uv"));
  cache.end(cache.read("ab"));
  REQUIRE(cache.index.evict(cache.tables, Tier::device, cache.free() + 2));
  CHECK(cache.find("abc") == 2);
  REQUIRE(cache.index.evict(cache.tables, Tier::device, cache.free() + 2));
  CHECK(cache.find("uv") == 1);
  cache.require_sound();
}

TEST_CASE("what a request uses is not evicted") {
  Cache cache;
  const RequestId one = cache.read("abcd");
  CHECK_FALSE(cache.index.evict(cache.tables, Tier::device, 24));
  CHECK(cache.find("abcd") == 4);
  cache.end(cache.read("abxy"));
  CHECK(cache.index.evictable_blocks(Tier::device) == 4);
  // Not enough together: nothing is evicted in vain.
  CHECK_FALSE(cache.index.evict(cache.tables, Tier::device, 17));
  CHECK(cache.find("abxy") == 4);
  REQUIRE(cache.index.evict(cache.tables, Tier::device, 16));
  CHECK(cache.find("abxy") == 2);
  cache.end(one);
  REQUIRE(cache.index.evict(cache.tables, Tier::device, 24));
  CHECK(cache.index.size() == 0);
}

TEST_CASE("append evicts what it needs, and no more") {
  Cache cache;
  cache.end(cache.read("abcd"));
  cache.end(cache.read("uvw"));
  const RequestId id = *cache.tables.open();
  REQUIRE(cache.index.append(cache.tables, id, 24));
  CHECK(cache.find("abcd") == 3);
  CHECK(cache.find("uvw") == 3);
  CHECK(cache.free() == 0);
  REQUIRE(cache.index.append(cache.tables, id, 8, Tier::host));
  CHECK_FALSE(cache.index.append(cache.tables, *cache.tables.open(), 32));
  CHECK(cache.index.size() == 6);
  cache.require_sound();
}

TEST_CASE("an index that is full makes room, or takes no more") {
  Cache cache(3);
  const RequestId one = cache.read("ab");
  const RequestId two = cache.read("uv");
  CHECK(cache.index.size() == 3);
  CHECK(cache.find("ab") == 2);
  CHECK(cache.find("uv") == 1);
  cache.end(two);
  const RequestId three = cache.read("xy");
  CHECK(cache.find("xy") == 1);
  CHECK(cache.find("uv") == 0);
  cache.end(one);
  CHECK(cache.index.insert(cache.tables, three, chain_of("xy")) == 2);
  CHECK(cache.find("ab") == 1);
  cache.end(three);
}

TEST_CASE("a layer on the host is found there, and frees blocks there") {
  Cache cache;
  const RequestId one = *cache.tables.open();
  REQUIRE(cache.tables.append(one, 0, 8));
  REQUIRE(cache.tables.append(one, 1, 8, Tier::host));
  cache.index.insert(cache.tables, one, chain_of("ab"));
  cache.end(one);
  CHECK(cache.index.evictable_blocks(Tier::device) == 2);
  CHECK(cache.index.evictable_blocks(Tier::host) == 2);
  const RequestId two = cache.read("ab");
  CHECK(cache.tables.tier(two, 0) == Tier::device);
  CHECK(cache.tables.tier(two, 1) == Tier::host);
  cache.end(two);
  CHECK(cache.tables.free_blocks(Tier::host) == 10);
  REQUIRE(cache.index.evict(cache.tables, Tier::host, 12));
  CHECK(cache.free() == 24);
}

TEST_CASE("a request that is released lets its layers leave the device") {
  Cache cache;
  const RequestId id = cache.read("abc");
  cache.index.release(id);
  cache.index.release(id);
  cache.require_sound();
  const auto migration = cache.tables.begin_migration(id, 0, Tier::host);
  cache.tables.finish_migration(*migration);
  CHECK(cache.free() == 24 - 6);
  // The index alone holds the layer's blocks; the other layer's are the request's too.
  CHECK(cache.index.evict(cache.tables, Tier::device, 24 - 3));
  CHECK(cache.free() == 24 - 3);
  CHECK_FALSE(cache.index.evict(cache.tables, Tier::device, 24));
  cache.end(id);
  CHECK(cache.free() == 24);
}

TEST_CASE("hashes tell apart tokens, their order and what comes before") {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  std::vector<BlockHash> parents{BlockHash{}};
  const auto add = [&](BlockHash hash) {
    CHECK(seen.insert({hash.low, hash.high}).second);
    parents.push_back(hash);
  };
  Samples samples(2);
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const std::uint32_t tokens[] = {i, i + 1, i};
    const BlockHash parent = parents[samples.below(parents.size())];
    if (i % 100 != 0) add(hash_block(parent, tokens));
    if (i % 100 == 0) {
      const std::uint32_t swapped[] = {i + 1, i, i};
      add(hash_block(parent, swapped));
      add(hash_block(parent, std::span<const std::uint32_t>(tokens).first(2)));
      add(hash_block(parent, std::span<const std::uint32_t>(tokens).first(1)));
      add(hash_block(BlockHash{parent.low, parent.high + 1}, tokens));
      add(hash_block(BlockHash{parent.low + 1, parent.high}, tokens));
    }
  }
}

TEST_CASE(
    "64-bit numbers of blocks do as hashes, also when they say nothing of what comes before") {
  Cache cache;
  const auto numbered = [](std::vector<std::uint64_t> numbers) {
    Chain chain;
    for (const std::uint64_t number : numbers) chain.push_back({number, 0});
    return chain;
  };
  const RequestId one = *cache.tables.open();
  REQUIRE(cache.tables.append(one, 12));
  cache.index.insert(cache.tables, one, numbered({1, 2, 1}));
  CHECK(cache.index.find(numbered({1, 2, 1, 2})) == 3);
  CHECK(cache.index.find(numbered({1, 1})) == 1);
  CHECK(cache.index.find(numbered({2})) == 0);
  cache.end(one);
  // One entry, one bucket: what comes before is looked at.
  Cache narrow(1);
  const RequestId two = *narrow.tables.open();
  REQUIRE(narrow.tables.append(two, 4));
  narrow.index.insert(narrow.tables, two, numbered({5}));
  CHECK(narrow.index.find(numbered({5, 5})) == 1);
}

TEST_CASE("random prompts are evicted in the order of a list") {
  Listed listed(11);
  for (int i = 0; i < 4000; ++i) {
    if (listed.open.size() < Listed::wide.requests && listed.samples.below(2) == 0) {
      listed.read();
    } else if (!listed.open.empty()) {
      listed.end();
    }
    REQUIRE(listed.index.idle() == listed.idle.size());
    if (i % 50 == 0) REQUIRE(listed.index.consistent());
  }
  CHECK(listed.index.size() == Listed::entries);
}

TEST_CASE("an index of 2^31 entries is refused") {
  CHECK_THROWS_WITH(PrefixIndex(config, std::size_t{1} << 31),
                    Catch::Contains("entries = 2147483648"));
}

// Every setting that cannot be is refused with its name, its value and what to do.
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "samples.hpp"

namespace {

using lethe::PrunerConfig;
namespace policies = lethe::policies;

PrunerConfig good() { return {.layers = 4, .capacity = 64}; }

/// What construction says; empty when it says nothing.
template <class Make>
std::string refusal(Make&& make) {
  try {
    make();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

/// "lethe: field = value: remedy", with a remedy in words.
void check_names(const std::string& message, const std::string& field, const std::string& value) {
  const std::string start = "lethe: " + field + " = " + value + ": ";
  CHECK(message.substr(0, start.size()) == start);
  CHECK(message.size() > start.size() + 10);
}

void refuses(const std::function<void(PrunerConfig&)>& change, const std::string& field,
             const std::string& value) {
  PrunerConfig config = good();
  change(config);
  check_names(refusal([&] { policies::H2O pruner(config); }), field, value);
}

lethe::DeferredConfig deferred() {
  return {.queries = 8, .heads = 8, .kv_heads = 4, .head_dimension = 16};
}

}  // namespace

TEST_CASE("sizes that cannot be are refused") {
  refuses([](auto& c) { c.layers = 0; }, "layers", "0");
  refuses([](auto& c) { c.layers = 0xFFFFFFFFu; }, "layers", "4294967295");
  refuses([](auto& c) { c.capacity = 0; }, "capacity", "0");
  refuses([](auto& c) { c.capacity = 1; }, "capacity", "1");
  refuses([](auto& c) { c.capacity = 0xFFFFFFFFu; }, "capacity", "4294967295");
  refuses([](auto& c) { c.capacity = ~std::size_t{0}; }, "capacity", "18446744073709551615");
  refuses([](auto& c) { c.groups = 0; }, "groups", "0");
  refuses([](auto& c) { c.groups = std::size_t{1} << 60; }, "groups", "1152921504606846976");
  refuses([](auto& c) { c.total_capacity = 7; }, "total_capacity", "7");
  refuses([](auto& c) { c.draft_tokens = 64; }, "draft_tokens", "64");
  refuses(
      [](auto& c) {
        c.scope = lethe::Scope::sequence;
        c.max_move_bytes = 1000;
      },
      "max_move_bytes", "1000");
  refuses(
      [](auto& c) {
        c.deferred = deferred();
        c.deferred.queries = std::size_t{1} << 44;
      },
      "deferred.heads", "8");
}

TEST_CASE("shares outside their range, NaN included, are refused") {
  for (const float share : {-0.01f, 1.0f, 7.0f, infinity, not_a_number}) {
    const std::string value = std::to_string(share);
    refuses([=](auto& c) { c.slack_ratio = share; }, "slack_ratio", value);
  }
  for (const float share : {-0.01f, 1.01f, infinity, not_a_number}) {
    const std::string value = std::to_string(share);
    refuses([=](auto& c) { c.max_lost_mass = share; }, "max_lost_mass", value);
    check_names(refusal([&] { policies::H2O pruner(good(), {.recent_ratio = share}); }),
                "recent_ratio", value);
  }
  for (const float share : {-0.01f, 1.0f, infinity, not_a_number}) {
    check_names(refusal([&] { policies::Lethe pruner(good(), {.recent_ratio = share}); }),
                "recent_ratio", std::to_string(share));
  }
}

TEST_CASE("deferred queries need their heads, and groups that fit them") {
  const auto refuses_deferred = [](auto change, const char* field, const char* value) {
    refuses(
        [&](PrunerConfig& c) {
          c.deferred = deferred();
          change(c);
        },
        field, value);
  };
  refuses_deferred([](auto& c) { c.deferred.heads = 0; }, "deferred.heads", "0");
  refuses_deferred([](auto& c) { c.deferred.kv_heads = 0; }, "deferred.kv_heads", "0");
  refuses_deferred([](auto& c) { c.deferred.kv_heads = 3; }, "deferred.kv_heads", "3");
  refuses_deferred([](auto& c) { c.deferred.head_dimension = 0; }, "deferred.head_dimension", "0");
  refuses_deferred([](auto& c) { c.groups = 3; }, "groups", "3");
  // Divides the heads, but a group would straddle two KV heads.
  refuses_deferred(
      [](auto& c) {
        c.deferred.heads = 6;
        c.deferred.kv_heads = 2;
        c.groups = 3;
      },
      "groups", "3");
}

TEST_CASE("deferred settings are not looked at while they are off") {
  PrunerConfig config = good();
  config.deferred = {.queries = 0, .heads = 3, .kv_heads = 2};
  CHECK_NOTHROW(policies::H2O(config));
}

TEST_CASE("protected tokens that a round could not keep are refused") {
  PrunerConfig config{.layers = 1, .capacity = 16, .slack_ratio = 0.5f};
  check_names(refusal([&] { policies::Lethe pruner(config, {.first_tokens = 8}); }), "first_tokens",
              "8");
  CHECK_NOTHROW(policies::Lethe(config, {.first_tokens = 7}));
  policies::Lethe pruner(config);
  check_names(refusal([&] { pruner.pin(8); }), "pin", "8");
  CHECK_NOTHROW(pruner.pin(7));
  CHECK_NOTHROW(pruner.pin(0));
}

TEST_CASE("settings of policies that cannot be are refused") {
  check_names(refusal([] { policies::Lethe p(good(), {.decay = 0.0f}); }), "decay", "0.000000");
  check_names(refusal([] { policies::Lethe p(good(), {.decay = 1.5f}); }), "decay", "1.500000");
  check_names(refusal([] { policies::Lethe p(good(), {.sparsity_ratio = 1.0f}); }),
              "sparsity_ratio", "1.000000");
  check_names(refusal([] { policies::Lethe p(good(), {.segments = 0}); }), "segments", "0");
  check_names(refusal([] { policies::SnapKV p(good(), {.window = 0}); }), "window", "0");
  const std::size_t huge = std::size_t{1} << 62;
  check_names(refusal([=] { policies::SnapKV p(good(), {.window = huge}); }), "window",
              "4611686018427387904");
  check_names(refusal([=] { policies::Lethe p(good(), {.segments = huge}); }), "segments",
              "4611686018427387904");
  check_names(refusal([] { policies::SnapKV p(good(), {.pool = 6}); }), "pool", "6");
  check_names(refusal([] { policies::StreamingLLM p(good(), {.first_tokens = 56}); }),
              "first_tokens", "56");
  check_names(refusal([] { policies::StreamingLLM p(good(), {.budget = 4}); }), "budget", "4");
}

TEST_CASE("limits in bytes that leave a layer no two tokens are refused where they are met") {
  PrunerConfig config = good();
  config.layers = 1;
  config.capacity_bytes = 100;
  policies::H2O pruner(config);
  std::vector<float> keys(64 * 16);
  lethe::ContiguousCache<float> cache(
      {{.keys = keys.data(), .dimension = 16, .key_strides = {.token = 16}, .capacity = 64}});
  check_names(refusal([&] { pruner.make_room(cache, 1); }), "capacity_bytes", "100");
}

TEST_CASE("a cache that does not fit the settings is refused") {
  struct Plain {
    std::size_t count = 1;
    std::size_t tokens = 0;
    std::size_t layers() const { return count; }
    std::size_t size(std::size_t) const { return tokens; }
    void apply(std::span<const lethe::EvictionPlan>) {}
  };
  const PrunerConfig one{.layers = 1, .capacity = 64};
  Plain cache;
  const auto told = [&](const PrunerConfig& config, std::size_t tokens) {
    policies::H2O pruner(config);
    return refusal([&] { pruner.make_room(cache, tokens); });
  };
  CHECK(told(one, 1).empty());
  check_names(told(one, 65), "make_room tokens", "65");
  cache.tokens = 3;
  check_names(told(one, 1), "cache.size", "3");
  cache.tokens = 0;
  cache.count = 2;
  check_names(told(one, 1), "layers", "2");
  cache.count = 1;
  check_names(told({.layers = 1, .capacity = 64, .scope = lethe::Scope::head}, 1), "scope", "head");
  for (const PrunerConfig& bytes :
       {PrunerConfig{.layers = 1, .capacity = 64, .capacity_bytes = 1000},
        PrunerConfig{.layers = 1, .capacity = 64, .total_bytes = 1000},
        PrunerConfig{.layers = 1, .capacity = 64, .max_move_bytes = 1000}}) {
    check_names(told(bytes, 1), "capacity_bytes, total_bytes or max_move_bytes", "set");
  }
}

TEST_CASE("misuse of the verbs is refused before anything is recorded") {
  struct Plain {
    std::size_t layers() const { return 1; }
    std::size_t size(std::size_t) const { return 0; }
    void apply(std::span<const lethe::EvictionPlan>) {}
  };
  Plain cache;
  policies::H2O pruner({.layers = 1, .capacity = 64});
  pruner.make_room(cache, 2);
  const std::vector<float> row(16, 0.1f);
  const lethe::Probabilities<float> three{.data = row.data(), .queries = 3, .columns = 3};
  check_names(refusal([&] { pruner.observe(0, three); }), "observe queries", "3");
  const lethe::Queries<float> queries{.data = row.data(), .lse = row.data(), .head_dimension = 4};
  check_names(refusal([&] { pruner.observe(0, queries); }), "deferred.queries", "0");
  const std::vector<std::uint32_t> beyond{0, 2};
  const std::vector<std::uint32_t> twice{1, 1};
  check_names(refusal([&] { pruner.commit(beyond); }), "commit accepted", "2");
  check_names(refusal([&] { pruner.commit(twice); }), "commit accepted", "1");
  const lethe::Probabilities<float> two{.data = row.data(), .queries = 2, .columns = 2};
  pruner.observe(0, two);
  const std::vector<std::uint32_t> first{0};
  check_names(refusal([&] { pruner.commit(first); }), "draft_tokens", "0");
  CHECK_NOTHROW(pruner.commit());
}

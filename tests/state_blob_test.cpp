#include "lethe/state_blob.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/policies.hpp"
#include "samples.hpp"

namespace {

using Blob = std::vector<std::byte>;
using lethe::detail::StateHeader;

constexpr std::array<std::uint64_t, 7> shape{2, 64, 1, 0, 0, 1, 0};

Blob sealed() {
  const Blob contents(24, std::byte{7});
  return lethe::detail::seal_state("rasr", shape, contents);
}

std::string refusal(std::span<const std::byte> blob, std::string_view policy = "rasr",
                    const std::array<std::uint64_t, 7>& expected = shape) {
  try {
    (void)lethe::detail::open_state(policy, expected, blob);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

/// Changes the header of a sound blob.
template <class Change>
Blob with_header(Change change) {
  Blob blob = sealed();
  StateHeader header;
  std::memcpy(&header, blob.data(), sizeof header);
  change(header);
  std::memcpy(blob.data(), &header, sizeof header);
  return blob;
}

lethe::PrunerConfig small() {
  return {.layers = 2,
          .capacity = 16,
          .draft_tokens = 2,
          .deferred = {.queries = 4, .heads = 2, .kv_heads = 1, .head_dimension = 4}};
}

struct Counter {
  std::size_t tokens[2] = {0, 0};
  std::size_t layers() const { return 2; }
  std::size_t size(std::size_t layer) const { return tokens[layer]; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const auto& plan : plans) tokens[plan.layer] = plan.kept.size();
  }
  void read_keys(std::size_t, std::size_t, std::size_t, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.5f);
  }
};

/// A pruner some steps into a sequence, with a round behind it.
template <class Pruner>
Pruner used() {
  Pruner pruner(small());
  Counter cache;
  for (int step = 0; step < 30; ++step) {
    pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      const std::vector<float> row(++cache.tokens[layer], 0.1f);
      pruner.observe(layer, lethe::Mass<float>{.data = row.data(), .columns = row.size()});
    }
    pruner.commit();
  }
  return pruner;
}

}  // namespace

TEST_CASE("a sealed state opens to its contents") {
  const Blob blob = sealed();
  const auto contents = lethe::detail::open_state("rasr", shape, blob);
  CHECK(Blob(contents.begin(), contents.end()) == Blob(24, std::byte{7}));
  const Blob empty = lethe::detail::seal_state("rasr", shape, {});
  CHECK(lethe::detail::open_state("rasr", shape, empty).empty());
}

TEST_CASE("each reason not to restore is named") {
  using Catch::Contains;
  CHECK_THAT(refusal({}), Contains("too short"));
  CHECK_THAT(refusal(Blob(sizeof(StateHeader) - 1)), Contains("too short"));
  CHECK_THAT(refusal(Blob(4096)), Contains("not one of lethe's"));
  CHECK_THAT(refusal(with_header([](auto& h) { h.magic[7] = 'X'; })),
             Contains("not one of lethe's"));
  CHECK_THAT(refusal(with_header([](auto& h) { h.byte_order = 0x04030201u; })),
             Contains("byte order"));
  CHECK_THAT(refusal(with_header([](auto& h) { h.version = 9; })),
             Contains("version 9") && Contains("reads 2"));
  // A state of version 1 has one count of tokens a layer, not one a head.
  CHECK_THAT(refusal(with_header([](auto& h) { h.version = 1; })),
             Contains("version 1") && Contains("reads 2"));
  CHECK_THAT(refusal(sealed(), "random"), Contains("another score than random"));
  CHECK_THAT(refusal(with_header([](auto& h) { h.bytes = 23; })), Contains("cut short"));
  CHECK_THAT(refusal(with_header([](auto& h) { h.checksum ^= 1; })), Contains("checksum"));
  CHECK_THAT(refusal(sealed()), Catch::Equals(""));
  for (std::size_t i = 0; i < shape.size(); ++i) {
    std::array<std::uint64_t, 7> other = shape;
    ++other[i];
    CHECK_THAT(refusal(sealed(), "rasr", other),
               Contains("other layers, capacity, head_capacity, groups"));
  }
}

TEST_CASE("no bit may change, and no byte be missing or too many") {
  const auto pruner = used<lethe::policies::Lethe>();
  const Blob blob = pruner.save();
  auto target = used<lethe::policies::Lethe>();
  CHECK_NOTHROW(target.restore(blob));
  for (std::size_t i = 0; i < blob.size(); ++i) {
    Blob damaged = blob;
    damaged[i] ^= std::byte{0x10};
    REQUIRE_THROWS_AS(target.restore(damaged), std::invalid_argument);
  }
  for (std::size_t length = 0; length < blob.size(); ++length) {
    REQUIRE_THROWS_AS(target.restore(std::span(blob).first(length)), std::invalid_argument);
  }
  Blob longer = blob;
  longer.push_back(std::byte{0});
  CHECK_THROWS_WITH(target.restore(longer), Catch::Contains("has grown"));
  CHECK(target.save() == blob);
}

TEST_CASE("a state of other settings is refused, and changes nothing") {
  auto pruner = used<lethe::policies::Lethe>();
  const Blob before = pruner.save();
  const auto refused = [&](lethe::PrunerConfig config) {
    CHECK_THROWS_AS(pruner.restore(lethe::policies::Lethe(config).save()), std::invalid_argument);
    CHECK(pruner.save() == before);
  };
  lethe::PrunerConfig config = small();
  config.layers = 3;
  refused(config);
  config = small();
  config.capacity = 17;
  refused(config);
  config = small();
  config.groups = 2;
  refused(config);
  config = small();
  config.scope = lethe::Scope::sequence;
  refused(config);
  config = small();
  config.deferred.kv_heads = 2;
  refused(config);
  config = small();
  config.deferred.queries = 5;
  refused(config);
  config = small();
  config.deferred.head_dimension = 8;
  refused(config);
  CHECK_THROWS_WITH(pruner.restore(used<lethe::policies::TOVA>().save()),
                    Catch::Contains("another score than rasr"));
  CHECK_THROWS_AS(pruner.restore(used<lethe::policies::RandomAttention>().save()),
                  std::invalid_argument);
  CHECK(pruner.save() == before);
}

/// Contents changed at random and sealed anew, as by someone who means harm.
template <class Pruner>
void forge(std::string_view policy) {
  Samples samples(131);
  const Blob blob = used<Pruner>().save();
  StateHeader header;
  std::memcpy(&header, blob.data(), sizeof header);
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    Blob contents(blob.begin() + sizeof header, blob.end());
    for (std::size_t edit = 0; edit <= samples.below(3); ++edit) {
      // The first half holds the counts; the scores behind it may be anything.
      const std::size_t reach =
          samples.below(2) == 0 ? std::min<std::size_t>(contents.size(), 400) : contents.size();
      contents[samples.below(reach)] = static_cast<std::byte>(samples.below(256));
    }
    Pruner pruner(small());
    try {
      pruner.restore(lethe::detail::seal_state(policy, header.shape, contents));
    } catch (const std::invalid_argument& error) {
      CHECK_THAT(error.what(), Catch::Contains("cannot restore the state"));
      ++refused;
      continue;
    }
    // What is accepted can be worked with.
    Counter cache{{pruner.size(0), pruner.size(1)}};
    try {
      for (int step = 0; step < 3; ++step) {
        pruner.make_room(cache, 1);
        const std::vector<float> row(16, 0.1f);
        for (std::size_t layer = 0; layer < 2; ++layer) {
          const std::size_t tokens = ++cache.tokens[layer];
          pruner.observe(layer, lethe::Mass<float>{.data = row.data(), .columns = tokens});
        }
        pruner.commit();
      }
    } catch (const std::invalid_argument&) {
    } catch (const std::length_error&) {
    }
  }
  CHECK(refused > 300);
}

TEST_CASE("forged contents are refused or harmless") {
  forge<lethe::policies::Lethe>("rasr");
  forge<lethe::policies::SnapKV>("window mass");
  forge<lethe::policies::RandomAttention>("random");
}

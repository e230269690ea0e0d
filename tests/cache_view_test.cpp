#include "lethe/cache_view.hpp"

#include <array>
#include <vector>

#include "catch.hpp"
#include "lethe/cache/contiguous.hpp"
#include "lethe/cache/paged.hpp"

namespace {

using lethe::EvictionPlan;
using Plans = std::span<const EvictionPlan>;

/// The least a cache must offer, and nothing more.
struct Least {
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return 0; }
  void apply(Plans) {}
};

struct NoLayers {
  std::size_t size(std::size_t) const { return 0; }
  void apply(Plans) {}
};
struct NoSize {
  std::size_t layers() const { return 1; }
  void apply(Plans) {}
};
struct SizeWithoutLayer {
  std::size_t layers() const { return 1; }
  std::size_t size() const { return 0; }
  void apply(Plans) {}
};
struct NoApply {
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return 0; }
};
struct AppliesOnePlan {
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return 0; }
  void apply(const EvictionPlan&) {}
};
struct SizeNotConst {
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) { return 0; }
  void apply(Plans) {}
};

static_assert(lethe::KVCacheView<Least>);
static_assert(!lethe::KVCacheView<int>);
static_assert(!lethe::KVCacheView<NoLayers> && !lethe::HasLayers<NoLayers>);
static_assert(!lethe::KVCacheView<NoSize> && !lethe::HasSize<NoSize>);
static_assert(!lethe::KVCacheView<SizeWithoutLayer> && !lethe::HasSize<SizeWithoutLayer>);
static_assert(!lethe::KVCacheView<SizeNotConst>);
static_assert(!lethe::KVCacheView<NoApply> && !lethe::HasApply<NoApply>);
static_assert(!lethe::KVCacheView<AppliesOnePlan>);

/// Every refinement, each on top of the least.
struct Stateful : Least {
  lethe::LayerState layer_state = lethe::LayerState::busy;
  lethe::LayerState state(std::size_t) const { return layer_state; }
};
struct ByteSized : Least {
  std::size_t token_bytes(std::size_t) const { return 1; }
};
struct PerHead : Least {
  std::size_t heads(std::size_t) const { return 1; }
};
struct KeyReadable : Least {
  void read_keys(std::size_t, std::size_t, std::size_t, std::span<float>) const {}
};
struct ValueReadable : Least {
  void read_values(std::size_t, std::size_t, std::size_t, std::span<float>) const {}
};
struct SharedPrefix : Least {
  std::size_t shared_prefix(std::size_t) const { return 3; }
};
struct Blocks : Least {
  std::size_t block_tokens(std::size_t) const { return 16; }
};
struct Classes : Least {
  static constexpr std::array<std::size_t, 3> allowed{32, 64, 128};
  std::span<const std::size_t> count_classes(std::size_t) const { return allowed; }
};
struct SameSet : Least {
  static constexpr bool same_set = true;
};
struct Overwritable : Least {
  void overwrite(std::size_t, lethe::Slot) {}
};

static_assert(lethe::StatefulCache<Stateful> && !lethe::StatefulCache<Least>);
static_assert(lethe::ByteSizedCache<ByteSized> && !lethe::ByteSizedCache<Least>);
static_assert(lethe::PerHeadCache<PerHead> && !lethe::PerHeadCache<Least>);
static_assert(lethe::KeyReadableCache<KeyReadable> && !lethe::KeyReadableCache<Least>);
static_assert(lethe::ValueReadableCache<ValueReadable> && !lethe::ValueReadableCache<Least>);
static_assert(!lethe::ValueReadableCache<KeyReadable> && !lethe::KeyReadableCache<ValueReadable>);
static_assert(lethe::SharedPrefixCache<SharedPrefix> && !lethe::SharedPrefixCache<Least>);
static_assert(lethe::BlockCache<Blocks> && !lethe::BlockCache<Least>);
static_assert(lethe::CountClassCache<Classes> && !lethe::CountClassCache<Least>);
static_assert(lethe::SameSetCache<SameSet> && !lethe::SameSetCache<Least>);
static_assert(lethe::OverwritableCache<Overwritable> && !lethe::OverwritableCache<Least>);

/// Near misses: a member of the right name that does not do.
struct StateAsNumber : Least {
  int state(std::size_t) const { return 0; }
};
struct BytesOfAll : Least {
  std::size_t token_bytes() const { return 1; }
};
struct KeysWithoutHead : Least {
  void read_keys(std::size_t, std::size_t, std::span<float>) const {}
};
struct OverwriteOfLayer : Least {
  void overwrite(std::size_t) {}
};
static_assert(!lethe::StatefulCache<StateAsNumber>);
static_assert(!lethe::ByteSizedCache<BytesOfAll>);
static_assert(!lethe::KeyReadableCache<KeysWithoutHead>);
static_assert(!lethe::OverwritableCache<OverwriteOfLayer>);

/// A refinement without the least is none.
struct StateAlone {
  lethe::LayerState state(std::size_t) const { return lethe::LayerState::prunable; }
};
static_assert(!lethe::StatefulCache<StateAlone>);

struct DropBlock {
  void operator()(std::size_t, std::uint32_t) const {}
};
using Paged = lethe::PagedCache<lethe::Half, DropBlock>;
using Contiguous = lethe::ContiguousCache<lethe::Half>;
static_assert(lethe::KVCacheView<Paged> && lethe::KVCacheView<Contiguous>);
static_assert(lethe::ByteSizedCache<Paged> && lethe::ByteSizedCache<Contiguous>);
static_assert(lethe::PerHeadCache<Paged> && lethe::PerHeadCache<Contiguous>);
static_assert(lethe::KeyReadableCache<Paged> && lethe::KeyReadableCache<Contiguous>);
static_assert(lethe::ValueReadableCache<Paged> && lethe::ValueReadableCache<Contiguous>);
static_assert(lethe::BlockCache<Paged> && !lethe::BlockCache<Contiguous>);
static_assert(lethe::SharedPrefixCache<Paged> && !lethe::SharedPrefixCache<Contiguous>);
static_assert(!lethe::SameSetCache<Paged> && !lethe::OverwritableCache<Contiguous>);

}  // namespace

TEST_CASE("a cache that says nothing is prunable and shares nothing") {
  CHECK(lethe::state_of(Least{}, 0) == lethe::LayerState::prunable);
  CHECK(lethe::shared_prefix_of(Least{}, 0) == 0);
  CHECK(lethe::permitted_count(Least{}, 0, 37, 100) == 37);
}

TEST_CASE("a cache that says so is believed") {
  for (const auto state : {lethe::LayerState::prunable, lethe::LayerState::fixed,
                           lethe::LayerState::busy, lethe::LayerState::absent}) {
    Stateful cache;
    cache.layer_state = state;
    CHECK(lethe::state_of(cache, 0) == state);
  }
  CHECK(lethe::shared_prefix_of(SharedPrefix{}, 0) == 3);
}

TEST_CASE("kept counts are rounded up to whole blocks, as far as the limit allows") {
  CHECK(lethe::permitted_count(Blocks{}, 0, 0, 100) == 0);
  CHECK(lethe::permitted_count(Blocks{}, 0, 1, 100) == 16);
  CHECK(lethe::permitted_count(Blocks{}, 0, 16, 100) == 16);
  CHECK(lethe::permitted_count(Blocks{}, 0, 17, 32) == 32);
  CHECK(lethe::permitted_count(Blocks{}, 0, 17, 31) == 17);
}

TEST_CASE("kept counts are rounded up to a class, or down where the limit forbids") {
  CHECK(lethe::permitted_count(Classes{}, 0, 20, 200) == 32);
  CHECK(lethe::permitted_count(Classes{}, 0, 32, 200) == 32);
  CHECK(lethe::permitted_count(Classes{}, 0, 33, 200) == 64);
  CHECK(lethe::permitted_count(Classes{}, 0, 70, 100) == 64);
  CHECK(lethe::permitted_count(Classes{}, 0, 150, 200) == 128);
  CHECK(lethe::permitted_count(Classes{}, 0, 20, 30) == 20);
}

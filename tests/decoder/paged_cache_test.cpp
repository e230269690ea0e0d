#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "catch.hpp"
#include "error.hpp"
#include "paged_cache.hpp"
#include "workbench.hpp"

using namespace decoder;

namespace {

std::vector<std::int32_t> some_tokens(const Workbench& bench, std::size_t count,
                                      std::mt19937& random) {
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens) token = static_cast<std::int32_t>(random() % bench.tokenizer.size());
  return tokens;
}

/// Logits behind each token when one is decoded after another, in a contiguous cache.
std::vector<std::vector<float>> expected_logits(Workbench& bench,
                                                std::span<const std::int32_t> tokens) {
  Sequence sequence{.cache = KVCache(bench.model.config(), bench.cache_type, tokens.size()),
                    .pruner = {}};
  std::vector<std::vector<float>> all;
  for (const std::int32_t token : tokens) {
    const auto logits = bench.decoder.step(sequence, token);
    all.emplace_back(logits.begin(), logits.end());
  }
  return all;
}

/// A sequence whose blocks lie in an order of their own.
class Scattered {
 public:
  Scattered(const Workbench& bench, std::size_t tokens, std::size_t block_tokens,
            std::mt19937& random)
      : cache(bench.model.config(), bench.cache_type, block_tokens),
        memory_((tokens / block_tokens + 1) * cache.layers() * cache.block_bytes()) {
    std::vector<std::byte*> blocks;
    for (std::size_t at = 0; at < memory_.size(); at += cache.block_bytes())
      blocks.push_back(&memory_[at]);
    std::shuffle(blocks.begin(), blocks.end(), random);
    const std::size_t each = blocks.size() / cache.layers();
    for (std::size_t layer = 0; layer < cache.layers(); ++layer)
      cache.place(layer, std::span(blocks).subspan(layer * each, each));
  }

  PagedCache cache;
  std::size_t done = 0;

 private:
  std::vector<std::byte> memory_;
};

}  // namespace

TEST_CASE("steps over paged caches give the logits of decoding alone, bit for bit") {
  std::mt19937 random(7);
  Workbench bench({.file = {}, .threads = 2});
  constexpr std::size_t tokens = 200;  // more than one chunk of attention
  const std::vector<std::int32_t> texts[2] = {some_tokens(bench, tokens, random),
                                              some_tokens(bench, tokens, random)};
  const auto expected = {expected_logits(bench, texts[0]), expected_logits(bench, texts[1])};
  Scattered sequences[2] = {{bench, tokens, 16, random}, {bench, tokens, 32, random}};
  while (sequences[0].done < tokens) {
    std::vector<PagedPart> parts;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t left = tokens - sequences[i].done;
      const std::size_t count = std::min<std::size_t>(left, 1 + random() % 3 * 20);
      if (count == 0) continue;
      parts.push_back({&sequences[i].cache, std::span(texts[i]).subspan(sequences[i].done, count),
                       sequences[i].done});
      sequences[i].done += count;
    }
    const auto logits = bench.decoder.step(parts, {});
    const std::size_t each = logits.size() / parts.size();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::size_t which = parts[i].cache == &sequences[0].cache ? 0 : 1;
      const auto& wanted = expected.begin()[which][sequences[which].done - 1];
      INFO("sequence " << which << ", " << sequences[which].done << " tokens");
      REQUIRE(std::ranges::equal(logits.subspan(i * each, each), wanted));
    }
  }
}

TEST_CASE("the hooks of a step are called around each layer's attention, in order") {
  std::mt19937 random(3);
  Workbench bench({.file = {}, .threads = 1});
  const std::vector<std::int32_t> text = some_tokens(bench, 5, random);
  Scattered sequence(bench, text.size(), 16, random);
  const PagedPart part{&sequence.cache, text, 0};
  std::vector<std::pair<char, std::size_t>> calls, expected;
  bench.decoder.step({&part, 1}, {[&](std::size_t layer) {
                                    CHECK(sequence.cache.size(layer) == 0);
                                    calls.emplace_back('b', layer);
                                  },
                                  [&](std::size_t layer) {
                                    CHECK(sequence.cache.size(layer) == text.size());
                                    calls.emplace_back('a', layer);
                                  }});
  for (std::size_t layer = 0; layer < sequence.cache.layers(); ++layer) {
    expected.emplace_back('b', layer);
    expected.emplace_back('a', layer);
  }
  CHECK(calls == expected);
}

TEST_CASE("a paged cache refuses blocks that attention cannot read") {
  const Workbench bench({.file = {}, .threads = 1});
  for (const std::size_t tokens : {0u, 8u, 24u, 48u, 256u})
    CHECK_THROWS_AS(PagedCache(bench.model.config(), CacheType::f16, tokens), Error);
  CHECK_NOTHROW(PagedCache(bench.model.config(), CacheType::f16, 128));
}

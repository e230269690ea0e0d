#include "lethe/deferred.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"
#include "toy_attention.hpp"

namespace {

using lethe::DeferredQueries;

/// mass[query number, group] -> one entry a slot.
using Received = std::map<std::pair<std::int64_t, std::size_t>, std::vector<double>>;

/// The query of token `first` and of those behind it, packed as an engine would hold them.
template <class Element = float>
struct Step {
  Step(const ToyAttention& toy, std::size_t first, std::size_t count, auto narrow) {
    for (std::size_t head = 0; head < toy.heads; ++head) {
      for (std::size_t q = 0; q < count; ++q) {
        const float* row = toy.query(head, first + q);
        for (std::size_t c = 0; c < toy.dimension; ++c) data.push_back(narrow(row[c]));
        lse.push_back(toy.lse(head, first + q));
      }
    }
    seen = {.data = data.data(),
            .lse = lse.data(),
            .heads = toy.heads,
            .queries = count,
            .head_dimension = toy.dimension,
            .scale = toy.scale,
            .softcap = toy.softcap,
            .base = toy.base};
  }

  std::vector<Element> data;
  std::vector<float> lse;
  lethe::Queries<Element> seen;
};

float as_it_is(float value) { return value; }

lethe::DeferredConfig config_of(const ToyAttention& toy, std::size_t queries) {
  return {.queries = queries,
          .heads = toy.heads,
          .kv_heads = toy.kv_heads,
          .head_dimension = toy.dimension};
}

Received flush(DeferredQueries& ring, const ToyAttention& toy, std::size_t groups,
               std::int64_t committed) {
  Received received;
  ring.flush(
      0, groups, committed,
      [&](std::size_t head, std::size_t first, std::span<float> out) {
        REQUIRE(first * toy.dimension + out.size() <= toy.tokens * toy.dimension);
        std::copy_n(toy.key(head, first), out.size(), out.data());
      },
      [&](std::int64_t query, std::size_t group, std::size_t first, std::span<const float> mass) {
        std::vector<double>& row = received[{query + committed, group}];
        row.resize(std::max(row.size(), first + mass.size()), 0.0);
        for (std::size_t i = 0; i < mass.size(); ++i) {
          row[first + i] += static_cast<double>(mass[i]);
        }
      });
  return received;
}

void require_mass(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE_THAT(found[i], WithinAbs(expected[i], 1e-6 + 2e-4 * expected[i]));
  }
}

/// Keeps the queries of the last `count` tokens, in steps of 3, and scores them all at once.
template <class Element = float>
void check_ring(const ToyAttention& toy, std::size_t count, std::size_t groups, auto narrow) {
  DeferredQueries ring(config_of(toy, count), 1);
  std::size_t token = toy.tokens - count;
  std::vector<std::uint32_t> all{0, 1, 2};
  while (token < toy.tokens) {
    const std::size_t step = std::min<std::size_t>(3, toy.tokens - token);
    const Step<Element> queries(toy, token, step, narrow);
    ring.push(0, queries.seen, token, static_cast<std::int64_t>(token));
    ring.commit(0, token, static_cast<std::int64_t>(token), std::span(all).first(step));
    token += step;
  }
  CHECK(ring.waiting(0) == count);
  const Received received = flush(ring, toy, groups, static_cast<std::int64_t>(toy.tokens));
  CHECK(ring.waiting(0) == 0);
  CHECK(received.size() == count * groups);
  for (const auto& [place, mass] : received) {
    require_mass(mass, toy.mass(static_cast<std::size_t>(place.first), place.second, groups));
  }
}

}  // namespace

TEST_CASE("a ring of queries scores as attention did: grouped heads, every grouping") {
  for (const auto& [heads, kv_heads] :
       {std::pair<std::size_t, std::size_t>{6, 2}, {4, 4}, {5, 1}}) {
    for (const std::size_t tokens : {17u, 64u, 150u}) {
      ToyAttention toy{.heads = heads, .kv_heads = kv_heads, .tokens = tokens};
      Samples samples(101);
      toy.draw(samples);
      for (const std::size_t groups : {std::size_t{1}, kv_heads, heads}) {
        check_ring(toy, 16, groups, as_it_is);
      }
    }
  }
}

TEST_CASE("softcap, either base and any dimension are scored as attention did") {
  Samples samples(102);
  for (const float softcap : {0.0f, 3.0f, 50.0f}) {
    for (const auto base : {lethe::LogBase::e, lethe::LogBase::two}) {
      for (const std::size_t dimension : {1u, 33u, 64u}) {
        ToyAttention toy{.dimension = dimension, .tokens = 70, .softcap = softcap, .base = base};
        toy.draw(samples);
        check_ring(toy, 8, 2, as_it_is);
      }
    }
  }
}

TEST_CASE("a scale of zero is one over the root of the dimension") {
  Samples samples(103);
  ToyAttention toy{.dimension = 16, .tokens = 20};
  toy.draw(samples);
  Step<float> step(toy, 19, 1, as_it_is);
  step.seen.scale = 0;
  DeferredQueries ring(config_of(toy, 1), 1);
  ring.push(0, step.seen, 19, 19);
  const std::uint32_t one = 0;
  ring.commit(0, 19, 19, {&one, 1});
  Received received = flush(ring, toy, 1, 20);
  require_mass(received.at({19, 0}), toy.mass(19, 0, 1));
}

TEST_CASE("queries stored as halves or bfloat16 count for what they hold") {
  Samples samples(104);
  ToyAttention toy{.tokens = 40};
  toy.draw(samples);
  ToyAttention rounded = toy;
  for (float& value : rounded.queries) {
    value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0xFFFF0000u);
  }
  check_ring<lethe::BFloat16>(rounded, 6, 2, [](float value) {
    return lethe::BFloat16{static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16)};
  });
  // Powers of two with a sign: a half holds them exactly.
  for (float& value : toy.queries) value = value < 0 ? -0.5f : 1.0f;
  check_ring<lethe::Half>(toy, 6, 2, [](float value) {
    return lethe::Half{static_cast<std::uint16_t>(value < 0 ? 0xB800 : 0x3C00)};
  });
}

TEST_CASE("strides of queries and of log-sum-exps are obeyed") {
  Samples samples(105);
  ToyAttention toy{.tokens = 30};
  toy.draw(samples);
  // Token by token: heads lie a dimension apart, and so do their log-sum-exps.
  std::vector<float> data(4 * (toy.heads * toy.dimension + 3), not_a_number);
  const std::size_t lse_query_stride = toy.heads + 1;
  std::vector<float> lse(4 * lse_query_stride, not_a_number);
  const std::size_t query_stride = toy.heads * toy.dimension + 3;
  for (std::size_t q = 0; q < 4; ++q) {
    for (std::size_t head = 0; head < toy.heads; ++head) {
      std::copy_n(toy.query(head, 26 + q), toy.dimension,
                  data.data() + q * query_stride + head * toy.dimension);
      lse[q * lse_query_stride + head] = toy.lse(head, 26 + q);
    }
  }
  DeferredQueries ring(config_of(toy, 4), 1);
  ring.push(0,
            lethe::Queries<float>{.data = data.data(),
                                  .lse = lse.data(),
                                  .heads = toy.heads,
                                  .queries = 4,
                                  .head_dimension = toy.dimension,
                                  .head_stride = toy.dimension,
                                  .query_stride = query_stride,
                                  .lse_head_stride = 1,
                                  .lse_query_stride = lse_query_stride,
                                  .scale = toy.scale},
            26, 26);
  const std::vector<std::uint32_t> all{0, 1, 2, 3};
  ring.commit(0, 26, 26, all);
  for (const auto& [place, mass] : flush(ring, toy, 1, 30)) {
    require_mass(mass, toy.mass(static_cast<std::size_t>(place.first), 0, 1));
  }
}

TEST_CASE("rejected queries leave no trace, accepted ones are numbered by rank") {
  Samples samples(106);
  ToyAttention toy{.tokens = 24};
  toy.draw(samples);
  DeferredQueries ring(config_of(toy, 8), 1);
  const Step<float> first(toy, 20, 1, as_it_is);
  ring.push(0, first.seen, 20, 20);
  const std::vector<std::uint32_t> one{0};
  ring.commit(0, 20, 20, one);
  const Step<float> second(toy, 21, 3, as_it_is);
  ring.push(0, second.seen, 21, 21);
  ring.commit(0, 21, 21, one);
  CHECK(ring.waiting(0) == 2);
  const Received received = flush(ring, toy, 1, 22);
  CHECK(received.size() == 2);
  for (const auto& [place, mass] : received) {
    require_mass(mass, toy.mass(static_cast<std::size_t>(place.first), 0, 1));
  }

  ring.push(0, second.seen, 21, 21);
  const std::vector<std::uint32_t> last{2};
  ring.commit(0, 21, 21, last);
  const Received renumbered = flush(ring, toy, 1, 22);
  CHECK(renumbered.size() == 1);
  CHECK(renumbered.at({21, 0}).size() == 22);
}

TEST_CASE("layers wait apart, and reset empties them") {
  Samples samples(107);
  ToyAttention toy{.tokens = 10};
  toy.draw(samples);
  DeferredQueries ring(config_of(toy, 4), 3);
  const Step<float> step(toy, 9, 1, as_it_is);
  ring.push(1, step.seen, 9, 9);
  CHECK(ring.waiting(0) == 0);
  CHECK(ring.waiting(1) == 1);
  CHECK(ring.waiting(2) == 0);
  ring.reset();
  CHECK(ring.waiting(1) == 0);
}

TEST_CASE("restored queries must lie within their layer and the past") {
  Samples samples(108);
  ToyAttention toy{.tokens = 10};
  toy.draw(samples);
  DeferredQueries ring(config_of(toy, 4), 1);
  const Step<float> step(toy, 9, 1, as_it_is);
  ring.push(0, step.seen, 9, 9);
  CHECK(ring.valid(0, 10, 10));
  CHECK_FALSE(ring.valid(0, 9, 10));
  CHECK_FALSE(ring.valid(0, 10, 9));
}

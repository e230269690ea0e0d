// Free blocks some steps ahead, and which layers move before anything stalls.
#include "lethe/layerkv/forecast.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::BlockForecast;
using layerkv::GrowingRequest;
using layerkv::LayerMove;
using layerkv::LowestPoint;
using layerkv::MovableRequest;
using layerkv::Watermarks;
using naive::Random;

namespace {

constexpr std::size_t unknown = std::numeric_limits<std::size_t>::max();

/// Token by token: what is free after each step, and the lowest of it.
LowestPoint naive_lowest(const std::vector<GrowingRequest>& requests, std::size_t block_tokens,
                         std::size_t horizon, std::int64_t free) {
  std::vector<GrowingRequest> live = requests;
  LowestPoint lowest{free, 0};
  for (std::size_t step = 1; step <= horizon; ++step) {
    for (GrowingRequest& request : live) {
      if (request.steps_left == 0) {
        free += static_cast<std::int64_t>(request.device_blocks);
        request = {.steps_left = unknown};
        continue;
      }
      if (request.steps_left != unknown) --request.steps_left;
      if (request.tokens >= request.most_tokens || request.device_layers == 0) continue;
      if (request.tokens++ % block_tokens != 0) continue;
      request.device_blocks += request.device_layers;
      free -= static_cast<std::int64_t>(request.device_layers);
    }
    if (free < lowest.free_blocks) lowest = {free, step};
  }
  return lowest;
}

GrowingRequest random_request(Random& random) {
  GrowingRequest request{.tokens = random.below(100),
                         .device_layers = random.below(9),
                         .device_blocks = random.below(50)};
  if (random.chance(30)) request.most_tokens = request.tokens + random.below(30);
  if (random.chance(10)) request.most_tokens = random.below(20);
  if (random.chance(60)) request.steps_left = random.below(60);
  return request;
}

template <class Make>
std::string refusal(Make make) {
  try {
    make();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

bool begins(const std::string& message, const std::string& start) {
  return message.substr(0, start.size()) == start;
}

std::vector<MovableRequest> random_requests(Random& random) {
  std::vector<MovableRequest> requests(random.below(9));
  for (auto& request : requests) {
    request = {random.below(6), random.below(6), random.below(5)};
  }
  return requests;
}

}  // namespace

TEST_CASE("a forecast is what comes token by token") {
  BlockForecast reused({.block_tokens = 4, .horizon = 40});
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const bool again = random.chance(50);
    const std::size_t block = again ? 4 : random.between(1, 20);
    const std::size_t horizon = again ? 40 : random.between(1, 70);
    BlockForecast fresh({.block_tokens = block, .horizon = horizon});
    BlockForecast& forecast = again ? reused : fresh;
    const std::size_t free = random.below(200);
    std::vector<GrowingRequest> requests(random.below(12));
    forecast.begin(free);
    for (auto& request : requests) {
      request = random_request(random);
      forecast.add(request);
    }
    INFO("seed " << seed);
    CHECK(forecast.lowest() ==
          naive_lowest(requests, block, horizon, static_cast<std::int64_t>(free)));
  }
}

TEST_CASE("every sequence's next block is seen within a block's steps") {
  for (std::size_t tokens = 0; tokens < 64; ++tokens) {
    BlockForecast forecast;
    forecast.begin(100);
    forecast.add({.tokens = tokens, .device_layers = 7});
    CHECK(forecast.lowest().free_blocks == 93);
    CHECK(forecast.lowest().step == (tokens % 16 == 0 ? 1 : 17 - tokens % 16));
  }
}

TEST_CASE("other changes count from their step on, and none beyond the horizon") {
  BlockForecast forecast({.block_tokens = 16, .horizon = 8});
  forecast.begin(10);
  forecast.change(3, -6);
  forecast.change(5, 4);
  forecast.change(8, -5);
  forecast.change(9, -100);
  CHECK(forecast.lowest() == LowestPoint{3, 8});
  forecast.change(0, -8);
  CHECK(forecast.lowest() == LowestPoint{-5, 8});
  forecast.begin(2);
  CHECK(forecast.lowest() == LowestPoint{2, 0});
}

TEST_CASE("between the marks nothing moves") {
  const Watermarks marks({.device_blocks = 1000});
  const auto at = [](std::int64_t free) { return LowestPoint{free, 0}; };
  CHECK(marks.to_offload(at(-5)) == 15);
  CHECK(marks.to_offload(at(9)) == 1);
  CHECK(marks.to_offload(at(10)) == 0);
  CHECK(marks.to_return(at(20)) == 0);
  CHECK(marks.to_return(at(21)) == 1);
  CHECK(marks.to_return(at(-7)) == 0);
}

TEST_CASE("what is offloaded suffices if anything can, and never exceeds the host") {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    const auto requests = random_requests(random);
    const std::size_t wanted = random.below(40);
    const std::size_t host = random.below(40);
    std::vector<LayerMove> moves(random.below(10));
    const auto plan = layerkv::plan_offload(requests, wanted, host, moves);
    // Layer by layer from the latest request on.
    std::vector<LayerMove> expected;
    std::size_t blocks = 0;
    for (std::size_t i = requests.size(); i-- != 0;) {
      LayerMove move{i, 0, 0};
      const std::size_t each = requests[i].layer_blocks;
      while (each != 0 && move.layers < requests[i].device_layers && blocks < wanted &&
             blocks + each <= host && expected.size() < moves.size()) {
        ++move.layers;
        move.blocks += each;
        blocks += each;
      }
      if (move.layers != 0) expected.push_back(move);
    }
    moves.resize(plan.moves);
    INFO("seed " << seed);
    CHECK(moves == expected);
    CHECK(plan.blocks == blocks);
  }
}

TEST_CASE("what returns stays within what is allowed, the oldest first") {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    const auto requests = random_requests(random);
    const std::size_t allowed = random.below(40);
    std::vector<LayerMove> moves(random.below(10));
    const auto plan = layerkv::plan_return(requests, allowed, moves);
    std::vector<LayerMove> expected;
    std::size_t blocks = 0;
    for (std::size_t i = 0; i < requests.size() && expected.size() < moves.size(); ++i) {
      LayerMove move{i, 0, 0};
      const std::size_t each = requests[i].layer_blocks;
      while (each != 0 && move.layers < requests[i].host_layers && blocks + each <= allowed) {
        ++move.layers;
        move.blocks += each;
        blocks += each;
      }
      if (move.layers != 0) expected.push_back(move);
    }
    moves.resize(plan.moves);
    INFO("seed " << seed);
    CHECK(moves == expected);
    CHECK(plan.blocks == blocks);
  }
}

TEST_CASE("settings that cannot be are refused by name") {
  const auto forecast = [](std::size_t block, std::size_t horizon) {
    return refusal([=] { BlockForecast made({block, horizon}); });
  };
  CHECK(begins(forecast(0, 1), "lethe: block_tokens = 0: "));
  CHECK(begins(forecast(1 << 20, 1), "lethe: block_tokens = 1048576: "));
  CHECK(begins(forecast(1, 0), "lethe: horizon = 0: "));
  CHECK(begins(forecast(1, 1 << 21), "lethe: horizon = 2097152: "));
  const auto marks = [](double low, double high) {
    return refusal([=] { Watermarks made({.device_blocks = 1, .low = low, .high = high}); });
  };
  CHECK(begins(marks(-0.5, 1), "lethe: low = -0.500000: "));
  CHECK(begins(marks(1.5, 2), "lethe: low = 1.500000: "));
  CHECK(begins(marks(0.5, 0.25), "lethe: high = 0.250000: "));
  CHECK(begins(marks(0.5, 1.5), "lethe: high = 1.500000: "));
  CHECK(begins(refusal([] { Watermarks made({.device_blocks = unknown}); }),
               "lethe: device_blocks = 18446744073709551615: "));
}

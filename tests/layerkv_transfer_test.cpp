#include "lethe/layerkv/transfer.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "naive/copier.hpp"

namespace {

using namespace std::chrono_literals;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::FinishedTransfer;
using lethe::layerkv::Route;
using lethe::layerkv::Staging;
using lethe::layerkv::TransferId;
using lethe::layerkv::TransferOutcome;
using lethe::layerkv::TransferQueueConfig;
using lethe::layerkv::Urgency;
using Queue = lethe::layerkv::TransferQueue<naive::Copier>;

/// No copiers: the one may throw, the other does not tell what has failed.
struct MayThrow {
  std::optional<lethe::layerkv::CopyTicket> submit(std::span<const ByteCopy>, Route);
  lethe::layerkv::CopyState poll(lethe::layerkv::CopyTicket) noexcept;
  lethe::layerkv::CopyState wait(lethe::layerkv::CopyTicket) noexcept;
};
struct MayLose {
  std::optional<lethe::layerkv::CopyTicket> submit(std::span<const ByteCopy>, Route) noexcept;
  bool poll(lethe::layerkv::CopyTicket) noexcept;
  void wait(lethe::layerkv::CopyTicket) noexcept;
};
static_assert(!lethe::layerkv::Copier<MayThrow> && !lethe::layerkv::Copier<MayLose>);

constexpr TransferQueueConfig small{.transfers = 8, .copies = 16, .slice_bytes = 32, .slices = 2};

/// Two memories of 1 KiB, the one's bytes counted up, and what moves them.
struct Bench {
  explicit Bench(const TransferQueueConfig& config = small)
      : queue(config, copier, {std::span(staging[0]), std::span(staging[1])}) {
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + 1);
  }

  [[nodiscard]] ByteCopy copy(std::size_t from, std::size_t to, std::size_t bytes) {
    return {source.data() + from, target.data() + to, bytes};
  }
  TransferId start(std::vector<ByteCopy> copies, Urgency urgency = Urgency::background,
                   Staging how = Staging::none, Route route = Route::to_host) {
    const auto id = queue.start(
        {.copies = copies, .route = route, .urgency = urgency, .staging = how, .tag = ++tag});
    REQUIRE(id);
    return *id;
  }
  void poll(std::chrono::nanoseconds step = 1us) { queue.poll(now += step); }
  /// The transfer whose source the submission with this number begins in, 64 bytes a transfer.
  [[nodiscard]] std::size_t submitted(std::size_t number) {
    return static_cast<std::size_t>(copier.submissions[number].copies[0].source - source.data()) /
           64;
  }
  [[nodiscard]] bool arrived(std::size_t from, std::size_t to, std::size_t bytes) const {
    return std::equal(&source[from], &source[from] + bytes, &target[to]);
  }

  std::array<std::byte, 1024> source{}, target{};
  std::array<std::array<std::byte, 128>, 2> staging{};
  naive::Copier copier;
  Queue queue;
  std::uint64_t tag = 0;
  std::chrono::nanoseconds now{0};
};

/// Polls until a transfer ends.
FinishedTransfer next_end(Bench& bench) {
  for (int polls = 0; polls < 1000; ++polls) {
    if (const auto finished = bench.queue.take_finished()) return *finished;
    bench.poll();
  }
  FAIL("nothing ended");
  return {};
}

}  // namespace

TEST_CASE("a transfer arrives in slices, and its end is told once") {
  Bench bench;
  const TransferId id = bench.start({bench.copy(0, 100, 50), bench.copy(60, 200, 45)});
  CHECK(bench.queue.live() == 1);
  const FinishedTransfer finished = next_end(bench);
  CHECK(finished.id == id);
  CHECK(finished.tag == 1);
  CHECK(finished.outcome == TransferOutcome::done);
  CHECK(finished.bytes == 95);
  CHECK(finished.copies == 4);
  CHECK(bench.arrived(0, 100, 50));
  CHECK(bench.arrived(60, 200, 45));
  for (const auto& submission : bench.copier.submissions) {
    std::size_t bytes = 0;
    for (const ByteCopy& copy : submission.copies) bytes += copy.bytes;
    CHECK(bytes <= 32);
    CHECK(submission.route == Route::to_host);
  }
  CHECK_FALSE(bench.queue.take_finished());
  CHECK(bench.queue.live() == 0);
  CHECK_FALSE(bench.queue.cancel(id));
}

TEST_CASE("nothing to copy is done at once, and copies of nothing are left out") {
  Bench bench;
  bench.start({});
  bench.start({bench.copy(0, 0, 0)}, Urgency::ahead, Staging::through);
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(bench.copier.submissions.empty());
}

TEST_CASE("a slice holds so many copies, and so many slices are under way") {
  TransferQueueConfig config = small;
  config.slice_copies = 3;
  Bench bench(config);
  bench.copier.most_delay = 2;
  std::vector<ByteCopy> copies;
  for (std::size_t i = 0; i < 10; ++i) copies.push_back(bench.copy(i * 4, i * 6, 2));
  bench.start(copies);
  bench.poll();
  CHECK(bench.queue.under_way() == 2);
  next_end(bench);
  REQUIRE(bench.copier.submissions.size() == 4);
  CHECK(bench.copier.submissions[0].copies.size() == 3);
  CHECK(bench.copier.submissions[3].copies.size() == 1);
}

TEST_CASE("the most urgent goes first, then the one that was started first") {
  Bench bench;
  const auto start = [&](std::size_t number, Urgency urgency) {
    return bench.start({bench.copy(number * 64, number * 64, 64)}, urgency);
  };
  start(0, Urgency::background);
  start(1, Urgency::background);
  bench.poll();  // two slices, all of 0
  start(2, Urgency::ahead);
  start(3, Urgency::awaited);
  start(4, Urgency::awaited);
  while (bench.queue.live() != 0) next_end(bench);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < bench.copier.submissions.size(); ++i) {
    order.push_back(bench.submitted(i));
  }
  CHECK(order == std::vector<std::size_t>{0, 0, 3, 3, 4, 4, 2, 2, 1, 1});
}

TEST_CASE("a fetch that decoding comes to wait for overtakes") {
  Bench bench;
  bench.start({bench.copy(0, 0, 64)});
  bench.start({bench.copy(64, 64, 64)}, Urgency::ahead);
  const TransferId late = bench.start({bench.copy(128, 128, 64)}, Urgency::background);
  CHECK(bench.queue.set_urgency(late, Urgency::awaited));
  for (int polls = 0; polls < 8; ++polls) bench.poll();
  CHECK(bench.submitted(0) == 2);
  CHECK(bench.submitted(2) == 1);
  CHECK(bench.submitted(4) == 0);
  while (bench.queue.live() != 0) next_end(bench);
  CHECK_FALSE(bench.queue.set_urgency(late, Urgency::ahead));
}

TEST_CASE("who is given an urgency goes behind those that have it, buffer or not") {
  Bench bench;
  const TransferId staged =
      bench.start({bench.copy(0, 0, 32)}, Urgency::ahead, Staging::into, Route::to_device);
  bench.start({bench.copy(64, 64, 32)}, Urgency::ahead);
  CHECK(bench.queue.set_urgency(staged, Urgency::ahead));
  bench.poll();
  CHECK(bench.submitted(0) == 1);
  CHECK(bench.submitted(1) == 0);
}

TEST_CASE("with a lane for each direction an offload goes beside a fetch") {
  for (const bool duplex : {false, true}) {
    TransferQueueConfig config = small;
    config.duplex = duplex;
    Bench bench(config);
    bench.start({bench.copy(0, 0, 128)}, Urgency::awaited, Staging::none, Route::to_device);
    bench.start({bench.copy(128, 128, 64)});
    bench.poll();
    CHECK(bench.queue.under_way() == (duplex ? 4 : 2));
    CHECK(bench.copier.submissions[0].route == Route::to_device);
    CHECK(bench.copier.submissions.back().route == (duplex ? Route::to_host : Route::to_device));
  }
}

TEST_CASE("the link is asked for before each submission, and kept off while it is taken") {
  Bench bench;
  bench.start({bench.copy(0, 0, 128)});
  int asked = 0;
  const auto once = [&] { return ++asked <= 1; };
  bench.queue.poll(1us, once);
  CHECK(asked == 2);
  CHECK(bench.copier.submissions.size() == 1);
  for (int polls = 2; polls < 10; ++polls) {
    bench.queue.poll(polls * 1us, [] { return false; });
    CHECK(bench.copier.submissions.size() == 1);
  }
  CHECK(bench.queue.under_way() == 0);
  CHECK(next_end(bench).bytes == 128);
  asked = 0;
  bench.queue.poll(20us, once);
  CHECK(asked == 0);  // nothing to submit
}

TEST_CASE("what fails is tried again so often, then its transfer alone has failed") {
  Bench bench;
  bench.start({bench.copy(0, 0, 32)});
  bench.start({bench.copy(64, 64, 32)});
  bench.copier.fail_percent = 100;
  bench.poll();
  bench.poll();
  bench.copier.fail_percent = 0;  // the third attempts succeed
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(bench.copier.submissions.size() == 6);
  CHECK(bench.arrived(0, 0, 32));

  bench.copier.submissions.clear();
  bench.copier.fail_percent = 100;
  bench.start({bench.copy(0, 0, 96)});
  const FinishedTransfer failed = next_end(bench);
  CHECK(failed.outcome == TransferOutcome::failed);
  CHECK(bench.copier.submissions.size() == 6);  // two slices, three attempts each
  bench.copier.fail_percent = 0;
  bench.start({bench.copy(0, 0, 96)});
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(bench.arrived(0, 0, 96));
}

TEST_CASE("a copier that is full is asked again, which is no failure") {
  Bench bench;
  bench.copier.most_batches = 0;
  bench.start({bench.copy(0, 0, 32)});
  for (int polls = 0; polls < 20; ++polls) bench.poll();
  CHECK(bench.queue.live() == 1);
  bench.copier.most_batches = 1;
  CHECK(next_end(bench).outcome == TransferOutcome::done);
  CHECK(bench.arrived(0, 0, 32));
}

TEST_CASE("a cancelled transfer ends when its copies under way have") {
  Bench bench;
  bench.copier.most_delay = 3;
  const TransferId queued = bench.start({bench.copy(0, 0, 200)});
  CHECK(bench.queue.cancel(queued));
  const auto at_once = bench.queue.take_finished();
  REQUIRE(at_once);
  CHECK(at_once->outcome == TransferOutcome::cancelled);
  CHECK(bench.copier.submissions.empty());

  const TransferId begun = bench.start({bench.copy(0, 0, 200)});
  bench.poll();
  CHECK(bench.queue.under_way() == 2);
  CHECK(bench.queue.cancel(begun));
  CHECK_FALSE(bench.queue.cancel(begun));
  while (bench.copier.under_way() != 0) {
    CHECK_FALSE(bench.queue.take_finished());
    bench.poll();
  }
  CHECK(next_end(bench).outcome == TransferOutcome::cancelled);
  CHECK(bench.copier.submissions.size() == 2);
}

TEST_CASE("a cancelled transfer whose copies fail is not tried again") {
  Bench bench;
  bench.copier.fail_percent = 100;
  const TransferId id = bench.start({bench.copy(0, 0, 32)});
  SECTION("while under way") { bench.poll(); }
  SECTION("while it waits to be tried again") {
    bench.poll();
    bench.queue.poll(bench.now, [] { return false; });
    CHECK(bench.queue.under_way() == 1);
  }
  CHECK(bench.queue.cancel(id));
  CHECK(next_end(bench).outcome == TransferOutcome::cancelled);
  CHECK(bench.copier.submissions.size() == 1);
  CHECK(bench.queue.under_way() == 0);
}

TEST_CASE("what was started and not taken is limited; an old id means nothing") {
  TransferQueueConfig config = small;
  config.transfers = 1;
  Bench bench(config);
  const TransferId id = bench.start({bench.copy(0, 0, 8)});
  CHECK_FALSE(bench.queue.start({}));
  bench.poll();
  bench.poll();
  CHECK_FALSE(bench.queue.start({}));
  CHECK_FALSE(bench.queue.cancel(id));
  CHECK(next_end(bench).id == id);
  const TransferId next = bench.start({bench.copy(0, 0, 8)});
  CHECK(next != id);
  CHECK_FALSE(bench.queue.cancel(id));
  CHECK_FALSE(bench.queue.cancel(next + 1));
  CHECK(bench.queue.cancel(next));
}

TEST_CASE("two buffers: one is read while the other is filled, and the third waits") {
  Bench bench;
  for (std::size_t layer = 0; layer < 3; ++layer) {
    bench.start({{bench.source.data() + layer * 64, nullptr, 20},
                 {bench.source.data() + layer * 64 + 30, nullptr, 30}},
                Urgency::ahead, Staging::into, Route::to_device);
  }
  const FinishedTransfer first = next_end(bench);
  const FinishedTransfer second = next_end(bench);
  CHECK(first.tag == 1);
  CHECK(second.tag == 2);
  CHECK(first.buffer != second.buffer);
  for (int polls = 0; polls < 20; ++polls) bench.poll();
  CHECK_FALSE(bench.queue.take_finished());
  CHECK(bench.queue.buffers_in_use() == 2);
  REQUIRE(first.staged.size() == 50);
  CHECK(first.staged.data() == bench.staging[first.buffer].data());
  CHECK(std::equal(first.staged.begin(), first.staged.begin() + 20, bench.source.begin()));
  CHECK(std::equal(first.staged.begin() + 20, first.staged.end(), bench.source.begin() + 30));
  bench.queue.release(first.buffer);
  const FinishedTransfer third = next_end(bench);
  CHECK(third.buffer == first.buffer);
  CHECK(std::equal(third.staged.begin(), third.staged.begin() + 20, bench.source.begin() + 128));
  bench.queue.release(second.buffer);
  bench.queue.release(third.buffer);
  CHECK(bench.queue.buffers_in_use() == 0);
}

TEST_CASE("who waits for a buffer lets pass who needs none") {
  Bench bench;
  for (int i = 0; i < 3; ++i) {
    bench.start({bench.copy(0, 0, 16)}, Urgency::awaited, Staging::into, Route::to_device);
  }
  const std::size_t buffers[] = {next_end(bench).buffer, next_end(bench).buffer};
  bench.start({bench.copy(64, 64, 16)});
  CHECK(next_end(bench).tag == 4);
  CHECK(bench.arrived(64, 64, 16));
  for (const std::size_t buffer : buffers) bench.queue.release(buffer);
  CHECK(next_end(bench).tag == 3);
}

TEST_CASE("through a buffer, neighbours on either side are joined, and the buffer comes back") {
  Bench bench;
  // Two runs on one side, two on the other, no two blocks neighbours on both.
  std::vector<ByteCopy> copies;
  for (const std::size_t pair : {0u, 1u, 2u, 3u}) {
    copies.push_back(bench.copy(pair * 8 + (pair >= 2 ? 40 : 0), pair * 8 + pair % 2 * 40, 8));
  }
  bench.start(copies, Urgency::background, Staging::through);
  const FinishedTransfer finished = next_end(bench);
  CHECK(finished.outcome == TransferOutcome::done);
  CHECK(finished.buffer == lethe::layerkv::no_buffer);
  CHECK(finished.bytes == 32);
  CHECK(finished.copies == 4);  // of the hop from the buffer, which is on the device, to the host
  REQUIRE(bench.copier.submissions.size() == 2);
  CHECK(bench.copier.submissions[0].copies.size() == 2);
  CHECK(bench.copier.submissions[1].copies.size() == 4);
  for (const std::size_t pair : {0u, 1u, 2u, 3u}) {
    CHECK(bench.arrived(pair * 8 + (pair >= 2 ? 40 : 0), pair * 8 + pair % 2 * 40, 8));
  }
  CHECK(bench.queue.buffers_in_use() == 0);
}

TEST_CASE("nothing leaves a buffer before all of it has come") {
  Bench bench;
  bench.copier.most_delay = 5;
  bench.copier.on_copy = [&](const ByteCopy& copy) {
    const bool leaves = copy.target >= bench.target.data() &&
                        copy.target < bench.target.data() + bench.target.size();
    if (!leaves) return;
    bool come = false;
    for (const auto& buffer : bench.staging) {
      come = come || std::equal(buffer.begin(), buffer.begin() + 100, bench.source.begin());
    }
    CHECK(come);
  };
  bench.start({bench.copy(0, 300, 100)}, Urgency::awaited, Staging::through, Route::to_device);
  next_end(bench);
  CHECK(bench.arrived(0, 300, 100));
}

TEST_CASE("only the hop across the link is counted and slowed down") {
  for (const bool on_device : {false, true}) {
    for (const Route route : {Route::to_host, Route::to_device}) {
      TransferQueueConfig config = small;
      config.staging_on_device = on_device;
      config.link = {.bytes_per_second = 1e9};
      Bench bench(config);
      bench.start({bench.copy(0, 0, 20), bench.copy(30, 20, 20)}, Urgency::ahead, Staging::through,
                  route);
      const FinishedTransfer finished = next_end(bench);
      CHECK(finished.bytes == 40);
      // Towards the buffer there are two runs, from it one, cut into slices of 32 bytes.
      CHECK(finished.copies == ((route == Route::to_device) == on_device ? 3 : 2));
    }
  }
}

TEST_CASE("a stated speed is kept to the clock's tick, whatever the copier's") {
  TransferQueueConfig config{.transfers = 4, .copies = 1, .slice_bytes = 10};
  config.link = {.bytes_per_second = 1e9, .seconds_per_copy = 5e-9};
  Bench bench(config);
  bench.poll();
  bench.poll(1h);  // nothing is saved up while nothing is sent
  const auto begin = bench.now;
  bench.start({bench.copy(0, 0, 1000)});  // 100 slices of 10 ns and a copy's 5
  bench.queue.poll(bench.now);
  while (bench.queue.live() != 0) {
    CHECK(bench.queue.due().value() <= 15e-9 + 1e-15);
    bench.poll(1ns);
    if (const auto finished = bench.queue.take_finished()) {
      CHECK(bench.now - begin == 1500ns);
      CHECK_THAT(finished->seconds, WithinRel(1500e-9, 1e-12));
    }
  }
  CHECK_FALSE(bench.queue.due());
}

TEST_CASE("a clock that jumps loses and wins nothing") {
  TransferQueueConfig config{.transfers = 4, .copies = 1, .slice_bytes = 10};
  config.link = {.bytes_per_second = 1e9};
  Bench bench(config);
  using Limits = std::numeric_limits<std::chrono::nanoseconds::rep>;
  bench.now = std::chrono::nanoseconds(Limits::max());
  bench.queue.poll(bench.now);
  bench.start({bench.copy(0, 0, 1000)});
  bench.queue.poll(bench.now);
  std::chrono::nanoseconds passed{0};
  naive::Random random(3);
  while (!bench.queue.take_finished()) {
    // Back by up to 52 days: stands still. Then on by one.
    bench.now -= std::chrono::nanoseconds(1 + static_cast<std::int64_t>(random.next() >> 12));
    bench.queue.poll(bench.now);
    bench.poll(1ns);
    ++passed;
    REQUIRE(passed <= 1000ns);
  }
  CHECK(passed == 1000ns);
  // Forward by any amount: at most what was under way is through.
  bench.start({bench.copy(0, 0, 1000)});
  bench.now = std::chrono::nanoseconds(Limits::min());
  bench.queue.poll(bench.now);
  bench.now = std::chrono::nanoseconds(Limits::max());
  bench.queue.poll(bench.now);
  CHECK(bench.copier.submissions.size() == 100 + 4);
  CHECK(bench.queue.live() == 1);
}

TEST_CASE("waiting blocks for the oldest slice, and the queue's end for all") {
  naive::Copier copier;
  std::array<std::byte, 64> source{}, target{};
  source.fill(std::byte{9});
  {
    Queue queue(small, copier);
    CHECK_FALSE(queue.wait());
    const ByteCopy copy[] = {{source.data(), target.data(), 64}};
    copier.most_delay = 100;
    REQUIRE(queue.start({.copies = copy}));
    queue.poll(0ns);
    CHECK(copier.under_way() == 2);
    CHECK(queue.wait());
    CHECK(target[0] == source[0]);
    CHECK(target[32] != source[0]);
    CHECK(copier.under_way() == 1);
  }
  CHECK(copier.under_way() == 0);
  CHECK(target == source);
}

TEST_CASE("settings that cannot be are refused by name") {
  naive::Copier copier;
  std::array<std::byte, 8> memory{};
  const auto refuses = [&](auto change, const char* field) {
    TransferQueueConfig config = small;
    change(config);
    CHECK_THROWS_AS(Queue(config, copier), std::invalid_argument);
    CHECK_THROWS_WITH(Queue(config, copier), Catch::Contains(field));
  };
  refuses([](auto& c) { c.transfers = 0; }, "transfers = 0");
  refuses([](auto& c) { c.copies = 0; }, "copies = 0");
  refuses([](auto& c) { c.slice_bytes = 0; }, "slice_bytes = 0");
  refuses([](auto& c) { c.slice_copies = 0; }, "slice_copies = 0");
  refuses([](auto& c) { c.slices = 0; }, "slices = 0");
  refuses([](auto& c) { c.attempts = 0; }, "attempts = 0");
  refuses([](auto& c) { c.link.bytes_per_second = -1; }, "bytes_per_second = -1");
  refuses([](auto& c) { c.link.bytes_per_second = std::numeric_limits<double>::quiet_NaN(); },
          "bytes_per_second = ");
  refuses([](auto& c) { c.link.seconds_per_copy = std::numeric_limits<double>::infinity(); },
          "seconds_per_copy = inf");
  CHECK_THROWS_WITH(Queue(small, copier, {std::span(memory), std::span(memory).first(4)}),
                    Catch::Contains("staging = 4"));
}

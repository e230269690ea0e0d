// Queries that waited, scored in one pass over the keys of all layers.
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launches.hpp"
#include "layouts.hpp"
#include "lethe/gpu/query_ring.hpp"
#include "plain_kernels.hpp"
#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

using lethe::BFloat16;
using Ring = lethe::gpu::QueryRing<BFloat16>;
using lethe::gpu::QueryWeight;

constexpr std::uint32_t waiting = 16;
constexpr float weight = 1.25f;
constexpr float log_sum = 9.0f;

lethe::gpu::RingShape ring_shape(const Case& sizes) {
  return {.queries = waiting,
          .heads = sizes.query_heads,
          .kv_heads = sizes.heads,
          .head_dimension = sizes.channels};
}

std::size_t ring_bytes(const World& world, const Case& sizes) {
  std::size_t bytes = 0;
  Ring ring;
  require(lethe::gpu::place_ring(world.state().shape, ring_shape(sizes), nullptr, bytes, ring));
  return bytes;
}

/// Full rings of every layer and sequence: in all layers the same queries, [row][head][query].
class Waiting {
 public:
  Waiting(const Bench& bench, bool paged)
      : bench_(&bench),
        world_(bench),
        memory_(ring_bytes(world_, bench.sizes())),
        queries_(items() * bench.sizes().channels),
        lse_(std::vector<float>(items(), log_sum)),
        weights_(std::vector<QueryWeight>(std::size_t{bench.sizes().batch} * waiting,
                                          {.weight = weight, .factor = 1.0f})),
        counts_(std::vector<std::uint32_t>(numbers(), waiting)) {
    std::size_t bytes = memory_.bytes();
    require(lethe::gpu::place_ring(world_.state().shape, ring_shape(bench.sizes()), memory_.get(),
                                   bytes, flush_.ring));
    describe_keys(paged);
    push();
  }

  void flush() const { require(launches::flush_queries(flush_, bench_->stream())); }
  /// Scores as they were made, and full rings; enqueued.
  void restore() const {
    world_.restore();
    require(cudaMemcpyAsync(flush_.ring.counts, counts_.get(), counts_.bytes(),
                            cudaMemcpyDeviceToDevice, bench_->stream()),
            "cudaMemcpyAsync");
  }
  /// Some tokens of the first and the last layer, beside double precision.
  void check() const {
    restore();
    flush();
    bench_->finish();
    for (const std::size_t number : {std::size_t{0}, numbers() - 1}) {
      for (std::uint32_t token = 0; token < tokens(); token += tokens() / 3 - 1) {
        check(number, token);
      }
      check(number, tokens() - 1);
    }
  }

 private:
  [[nodiscard]] std::uint32_t tokens() const { return bench_->sizes().tokens; }
  [[nodiscard]] std::size_t numbers() const {
    return std::size_t{bench_->sizes().layers} * bench_->sizes().batch;
  }
  [[nodiscard]] std::size_t items() const {
    return std::size_t{bench_->sizes().batch} * bench_->sizes().query_heads * waiting;
  }

  void describe_keys(bool paged) {
    flush_.state = world_.state();
    flush_.batch = world_.batch();
    lethe::gpu::Compaction layout{};
    if (paged) {
      pages_.emplace(*bench_);
      pages_->add_to(layout);
      flush_.pages = layout.pages[0];
      flush_.tables = layout.tables;
    } else {
      add_strips(*bench_, false, layout);
      flush_.strips = layout.strips[0];
    }
  }

  void push() {
    bench_->fill();
    require(fill_bfloat16(queries_.get(), queries_.bytes() / 2, 3, bench_->stream()),
            "bfloat16_kernel");
    require(launches::start_rings(flush_.ring, flush_.batch, bench_->stream()));
    lethe::Queries<BFloat16> seen{};
    seen.data = reinterpret_cast<const BFloat16*>(queries_.get());
    seen.lse = lse_.get();
    seen.heads = bench_->sizes().query_heads;
    seen.queries = waiting;
    seen.head_dimension = bench_->sizes().channels;
    for (std::uint32_t layer = 0; layer < bench_->sizes().layers; ++layer) {
      require(launches::push_queries<BFloat16>({flush_.state, flush_.batch, layer, weights_.get()},
                                               flush_.ring, {.first = seen}, bench_->stream()));
    }
    bench_->finish();
  }

  [[nodiscard]] std::vector<double> numbers_at(const std::byte* memory) const {
    std::vector<double> read;
    const std::vector<std::byte> bytes = bytes_at(memory, bench_->sizes().row_bytes());
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      const auto bits = static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[i]) |
                                                   std::to_integer<unsigned>(bytes[i + 1]) << 8);
      read.push_back(static_cast<double>(lethe::to_float(BFloat16{bits})));
    }
    return read;
  }
  [[nodiscard]] const std::byte* key(std::size_t number, std::uint32_t token) const {
    const std::size_t size = std::size_t{bench_->sizes().heads} * bench_->sizes().row_bytes();
    return pages_ ? pages_->key(number, token, true)
                  : bench_->keys() + (number * tokens() + token) * size;
  }
  /// The mass that the waiting queries give a token of a row.
  [[nodiscard]] double mass(std::size_t number, std::uint32_t token) const {
    const Case& sizes = bench_->sizes();
    const std::size_t row = number % sizes.batch;
    double sum = 0;
    for (std::uint32_t head = 0; head < sizes.query_heads; ++head) {
      const std::uint32_t kv_head = head / (sizes.query_heads / sizes.heads);
      const auto keys = numbers_at(key(number, token) + std::size_t{kv_head} * sizes.row_bytes());
      for (std::uint32_t query = 0; query < waiting; ++query) {
        // The step's last query sees all tokens, those before it one less each.
        if (token + (waiting - 1 - query) >= tokens()) continue;
        const std::size_t item = (row * sizes.query_heads + head) * waiting + query;
        const auto* data = reinterpret_cast<const std::byte*>(queries_.get());
        const auto channels = numbers_at(data + item * sizes.row_bytes());
        double product = 0;
        for (std::size_t i = 0; i < keys.size(); ++i) product += keys[i] * channels[i];
        sum += std::exp(product / std::sqrt(static_cast<double>(sizes.channels)) - log_sum);
      }
    }
    return sum;
  }
  void check(std::size_t number, std::uint32_t token) const {
    const std::size_t at = number * world_.state().shape.capacity + token;
    float score = 0;
    require(cudaMemcpy(&score, world_.state().scores + at, sizeof score, cudaMemcpyDeviceToHost),
            "cudaMemcpy");
    const double expected = static_cast<double>(world_.scores()[at]) + mass(number, token) * weight;
    require(std::abs(static_cast<double>(score) - expected) <= 1e-4 * expected,
            "the score of token " + std::to_string(token));
  }

  const Bench* bench_;
  World world_;
  Items<std::byte> memory_;
  Items<std::uint16_t> queries_;
  Items<float> lse_;
  Items<QueryWeight> weights_;
  Items<std::uint32_t> counts_;
  std::optional<Pages> pages_;
  lethe::gpu::Flush<BFloat16> flush_{};
};

Row measure(const std::string& name, const Bench& bench, bool paged) {
  const Waiting waiting_queries(bench, paged);
  waiting_queries.check();
  const std::uint64_t bytes = bench.sizes().cache_bytes() / 2;
  const Turns turns =
      bench.turns({[&] { bench.read(bytes); }},
                  {[&] { waiting_queries.flush(); }, [&] { waiting_queries.restore(); }});
  return row_of(name, turns, {Limit::most_ratio, 1.2}, static_cast<double>(bytes));
}

}  // namespace

Entries deferred_entries() {
  const auto entry = [](bool paged) {
    return [=](const std::string& name, const Bench& bench) { return measure(name, bench, paged); };
  };
  return {{"deferred/flush of 16 queries", entry(false)},
          {"deferred/flush over pages", entry(true)}};
}

}  // namespace gpu_bench

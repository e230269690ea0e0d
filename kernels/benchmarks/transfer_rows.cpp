// One layer of one sequence to the device or the host, in fragments, by each of the copy calls.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "lethe/gpu/pinned_memory.hpp"
#include "lethe/gpu/runtime_calls.hpp"
#include "lethe/gpu/stream_copier.hpp"
#include "rows.hpp"
#include "samples.hpp"

namespace gpu_bench {
namespace {

using lethe::gpu::RuntimeCalls;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::Route;

enum class Call : std::uint8_t { pitched, batch, single };

struct Kind {
  Route route;
  Call call;
  std::size_t fragment;
};

/// Fragments of a layer: contiguous on the host, on the device with a gap behind each; in order for
/// pitched copies, else shuffled, so that no two follow suit.
class Layer {
 public:
  Layer(const Bench& bench, const Kind& kind)
      : fragment_(std::min<std::size_t>(kind.fragment, bench.sizes().layer_bytes())),
        count_(bench.sizes().layer_bytes() / fragment_),
        device_(bench.cache()),
        pinned_({.blocks = count_, .block_bytes = fragment_}, calls_) {
    require(pinned_.status());
    Samples samples(9);
    for (std::byte& byte : pinned_.bytes()) byte = static_cast<std::byte>(samples.word());
    for (std::size_t i = 0; i < count_; ++i) {
      std::byte* there = device_ + 2 * i * fragment_;
      std::byte* here = pinned_.block(i).data();
      const bool in = kind.route == Route::to_device;
      copies_.push_back({in ? here : there, in ? there : here, fragment_});
    }
    for (std::size_t i = count_; i > 1 && kind.call != Call::pitched; --i) {
      std::swap(copies_[i - 1], copies_[samples.below(i)]);
    }
  }

  [[nodiscard]] const std::vector<ByteCopy>& copies() const { return copies_; }
  [[nodiscard]] std::size_t bytes() const { return count_ * fragment_; }
  [[nodiscard]] std::byte* host() const { return pinned_.bytes().data(); }
  [[nodiscard]] std::byte* device() const { return device_; }

  /// What is copied to is poisoned first; in both directions the fragments are then the same.
  void poison(Route route) const {
    if (route == Route::to_host) {
      std::fill(pinned_.bytes().begin(), pinned_.bytes().end(), std::byte{0xAB});
      return;
    }
    require(cudaMemset(device_, 0xAB, 2 * bytes()), "cudaMemset");
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  void check() const {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::vector<std::byte> there = bytes_at(device_ + 2 * i * fragment_, fragment_);
      const std::span<std::byte> here = pinned_.block(i);
      require(std::equal(there.begin(), there.end(), here.begin()),
              "fragment " + std::to_string(i));
    }
  }

 private:
  std::size_t fragment_;
  std::size_t count_;
  std::byte* device_;
  RuntimeCalls calls_{};
  lethe::gpu::PinnedMemory<RuntimeCalls> pinned_;
  std::vector<ByteCopy> copies_;
};

lethe::gpu::StreamCopierConfig config_of(Call call, std::size_t copies) {
  return {.batches = 2,
          .batch_copies = copies,
          .pitched_rows = call == Call::pitched ? std::size_t{2} : copies + 2,
          .batch_calls = call != Call::single};
}

/// One batch at a time, ordered with the bench's stream on both sides.
class Copier {
 public:
  Copier(const Bench& bench, const Layer& layer, const Kind& kind)
      : bench_(&bench),
        layer_(&layer),
        route_(kind.route),
        copier_(config_of(kind.call, layer.copies().size()), calls_) {
    require(copier_.take_error());
  }
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  ~Copier() {
    if (ticket_) static_cast<void>(copier_.wait(*ticket_));
  }

  void run() {
    end();
    require(copier_.follow(bench_->stream()));
    ticket_ = copier_.submit(layer_->copies(), route_);
    require(copier_.lead(bench_->stream(), route_));
  }
  /// Throws where the batch failed.
  void end() {
    if (!ticket_) return;
    const auto state = copier_.wait(*std::exchange(ticket_, std::nullopt));
    require(copier_.take_error());
    require(state == lethe::layerkv::CopyState::done, "a transfer failed");
  }

 private:
  const Bench* bench_;
  const Layer* layer_;
  Route route_;
  RuntimeCalls calls_{};
  lethe::gpu::StreamCopier<RuntimeCalls> copier_;
  std::optional<lethe::layerkv::CopyTicket> ticket_;
};

Row measure(const std::string& name, const Bench& bench, const Kind& kind) {
  const Layer layer(bench, kind);
  Copier copier(bench, layer, kind);
  layer.poison(kind.route);
  copier.run();
  copier.end();
  bench.finish();
  layer.check();
  const bool in = kind.route == Route::to_device;
  const auto plain = [&] {
    require(cudaMemcpyAsync(in ? layer.device() : layer.host(), in ? layer.host() : layer.device(),
                            layer.bytes(), cudaMemcpyDefault, bench.stream()),
            "cudaMemcpyAsync");
  };
  const Turns turns = bench.turns({plain}, {[&] { copier.run(); }});
  copier.end();
  return row_of(name, turns, {Limit::least_speed, 0.9}, static_cast<double>(layer.bytes()));
}

std::string name_of(const Kind& kind) {
  const char* calls[] = {"pitched", "batch", "one each"};
  return std::string("transfer/to ") + (kind.route == Route::to_device ? "device" : "host") + ", " +
         calls[static_cast<std::size_t>(kind.call)] + ", " + std::to_string(kind.fragment >> 10) +
         " KiB";
}

}  // namespace

Entries transfer_entries() {
  Entries entries;
  for (const Route route : {Route::to_device, Route::to_host}) {
    for (const Call call : {Call::pitched, Call::batch, Call::single}) {
      for (const std::size_t fragment : {32u << 10, 128u << 10, 512u << 10, 2048u << 10}) {
        const Kind kind{route, call, fragment};
        entries.push_back({name_of(kind), [=](const std::string& name, const Bench& bench) {
                             return measure(name, bench, kind);
                           }});
      }
    }
  }
  return entries;
}

}  // namespace gpu_bench

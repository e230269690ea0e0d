/// StreamCopier over the simulation, with the settings and callbacks of naive::Copier.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "lethe/gpu/stream_copier.hpp"
#include "simulated_cuda.hpp"

namespace naive {

class SimulatedCopier {
 public:
  using Copies = std::vector<lethe::layerkv::ByteCopy>;
  using Inner = lethe::gpu::StreamCopier<SimulatedCalls>;

  explicit SimulatedCopier(std::uint64_t seed = 0)
      : random_(seed), cuda_(seed), copier_(setting(random_), calls_) {
    cuda_.offers_batches = random_.chance(50);
    cuda_.on_copy = [this](const lethe::layerkv::ByteCopy& copy) {
      if (on_copy) on_copy(copy);
    };
  }

  std::size_t most_delay = 0;
  std::size_t fail_percent = 0;
  std::size_t refuse_percent = 0;
  std::function<void(std::span<const lethe::layerkv::ByteCopy>, lethe::layerkv::Route)> on_submit;
  std::function<void(const lethe::layerkv::ByteCopy&)> on_copy;
  std::function<void(std::span<const lethe::layerkv::ByteCopy>)> on_failure;
  bool keep_submissions = true;

  [[nodiscard]] std::size_t under_way() const { return batches_.size(); }

  std::optional<lethe::layerkv::CopyTicket> submit(std::span<const lethe::layerkv::ByteCopy> batch,
                                                   lethe::layerkv::Route route) noexcept {
    if (random_.chance(refuse_percent)) return std::nullopt;
    behave();
    const auto ticket = copier_.submit(batch, route);
    if (!ticket) return ticket;
    if (on_submit) on_submit(batch, route);
    batches_[*ticket] = Copies(batch.begin(), batch.end());
    return ticket;
  }
  lethe::layerkv::CopyState poll(lethe::layerkv::CopyTicket ticket) noexcept {
    behave();
    return told(ticket, copier_.poll(ticket));
  }
  lethe::layerkv::CopyState wait(lethe::layerkv::CopyTicket ticket) noexcept {
    behave();
    return told(ticket, copier_.wait(ticket));
  }

 private:
  static Inner::Config setting(Random& random) {
    return {.batches = 64,
            .batch_copies = 64,
            .pitched_rows = random.between(2, 6),
            .batch_calls = random.chance(80)};
  }
  /// A refusal of questions is rare, for a wait asks until there is none.
  void behave() {
    cuda_.most_work = 8 / (most_delay + 1) + 1;
    cuda_.fail_percent = fail_percent / 4;
    cuda_.refuse_percent = refuse_percent;
  }
  lethe::layerkv::CopyState told(lethe::layerkv::CopyTicket ticket,
                                 lethe::layerkv::CopyState state) {
    if (state == lethe::layerkv::CopyState::pending) return state;
    const auto found = batches_.find(ticket);
    if (found == batches_.end()) std::abort();
    if (state == lethe::layerkv::CopyState::failed) {
      // Nothing of it moves any more: what it wrote may be overwritten.
      const lethe::layerkv::ByteCopy& copy = found->second[random_.below(found->second.size())];
      std::memset(copy.target, 0xEE, copy.bytes);
      if (on_failure) on_failure(found->second);
    }
    batches_.erase(found);
    return state;
  }

  Random random_;
  SimulatedCuda cuda_;
  SimulatedCalls calls_{&cuda_};
  std::map<lethe::layerkv::CopyTicket, Copies> batches_;
  Inner copier_;
};
static_assert(lethe::layerkv::Copier<SimulatedCopier>);

}  // namespace naive

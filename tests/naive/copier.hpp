/// A Copier without threads that fails, delays and reorders as it is told, and writes while it
/// runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lethe/layerkv/copier.hpp"
#include "naive/random.hpp"

namespace naive {

class Copier {
 public:
  using Copies = std::vector<lethe::layerkv::ByteCopy>;

  explicit Copier(std::uint64_t seed = 0) : random_(seed) {}

  // ---- how it behaves; as it stands, a batch is done at the first poll
  /// Polls that a batch takes at most, its copies spread over them.
  std::size_t most_delay = 0;
  std::size_t fail_percent = 0;
  std::size_t refuse_percent = 0;
  /// Batches under way at most.
  std::size_t most_batches = 64;
  /// Told of each batch that is taken on, and of each copy just before it is made.
  std::function<void(std::span<const lethe::layerkv::ByteCopy>, lethe::layerkv::Route)> on_submit;
  std::function<void(const lethe::layerkv::ByteCopy&)> on_copy;
  /// Told of each batch that fails.
  std::function<void(std::span<const lethe::layerkv::ByteCopy>)> on_failure;

  // ---- what it has done
  struct Submission {
    Copies copies;
    lethe::layerkv::Route route;
  };
  std::vector<Submission> submissions;
  std::size_t failures = 0;
  bool keep_submissions = true;

  [[nodiscard]] std::size_t under_way() const { return batches_.size(); }

  std::optional<lethe::layerkv::CopyTicket> submit(std::span<const lethe::layerkv::ByteCopy> batch,
                                                   lethe::layerkv::Route route) noexcept {
    if (batches_.size() == most_batches || random_.chance(refuse_percent)) return std::nullopt;
    if (on_submit) on_submit(batch, route);
    const Copies copies(batch.begin(), batch.end());
    if (keep_submissions) submissions.push_back({copies, route});
    batches_.push_back(
        {++last_, copies, random_.below(most_delay + 1), random_.chance(fail_percent)});
    return last_;
  }

  lethe::layerkv::CopyState poll(lethe::layerkv::CopyTicket ticket) noexcept {
    Batch& batch = find(ticket);
    if (batch.polls_left == 0) return end(batch);
    --batch.polls_left;
    make(batch, random_.below(batch.copies.size() + 1));
    return lethe::layerkv::CopyState::pending;
  }

  lethe::layerkv::CopyState wait(lethe::layerkv::CopyTicket ticket) noexcept {
    return end(find(ticket));
  }

 private:
  struct Batch {
    lethe::layerkv::CopyTicket ticket;
    Copies copies;
    std::size_t polls_left;
    bool fails;
    std::size_t made = 0;
  };

  /// A ticket that is spent, or was never given, ends the test.
  Batch& find(lethe::layerkv::CopyTicket ticket) {
    const auto found = std::find_if(batches_.begin(), batches_.end(),
                                    [&](const Batch& batch) { return batch.ticket == ticket; });
    if (found == batches_.end()) std::abort();
    return *found;
  }

  void make(Batch& batch, std::size_t end) {
    for (; batch.made < end; ++batch.made) {
      const lethe::layerkv::ByteCopy& copy = batch.copies[batch.made];
      if (on_copy) on_copy(copy);
      std::memcpy(copy.target, copy.source, copy.bytes);
    }
  }

  /// A batch that fails leaves rubbish behind.
  lethe::layerkv::CopyState end(Batch& batch) {
    make(batch, batch.copies.size());
    const bool fails = batch.fails;
    if (fails) {
      ++failures;
      const lethe::layerkv::ByteCopy& copy = batch.copies[random_.below(batch.copies.size())];
      std::memset(copy.target, 0xEE, copy.bytes);
      if (on_failure) on_failure(batch.copies);
    }
    batches_.erase(batches_.begin() + (&batch - batches_.data()));
    return fails ? lethe::layerkv::CopyState::failed : lethe::layerkv::CopyState::done;
  }

  Random random_;
  std::vector<Batch> batches_;
  lethe::layerkv::CopyTicket last_ = 0;
};
static_assert(lethe::layerkv::Copier<Copier>);

}  // namespace naive

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <lethe/layerkv/admission.hpp>
#include <lethe/layerkv/block_tables.hpp>
#include <lethe/layerkv/forecast.hpp>
#include <lethe/layerkv/output_length.hpp>
#include <span>
#include <vector>

#include "layered_settings.hpp"
#include "link.hpp"
#include "live.hpp"
#include "results.hpp"
#include "scheduler.hpp"

namespace serving {

/// A request that runs, as its layers lie.
struct LayeredLive {
  Live live;
  std::vector<bool> on_host;  ///< by layer; a layer that is on its way still counts as where it was
  std::size_t host_layers = 0;
  std::size_t moving_out = 0;  ///< layers on their way
  std::size_t moving_in = 0;
  std::uint32_t room = 0;  ///< tokens that its tables have room for, before bounds
  std::uint32_t most = 0;  ///< tokens that it may come to, as far as the engine knows
  double arrival = 0;
  double first = -1;          ///< when its first token came
  bool has_room = false;      ///< its pruner has made room for its next step
  bool awaits_round = false;  ///< a round is due, and some of its layers are not on the device
};

/// What has become of a layer on its way.
enum class MoveState { under_way, there, failed };

/// Carries layers from tier to tier in reality. Without functions nothing is copied, and a layer is
/// there when the model of the link says so.
struct Carrier {
  /// Begins the copies of a migration: of a layer of a request that has computed so many tokens.
  std::function<void(lethe::layerkv::MigrationId, lethe::layerkv::RequestId, std::size_t layer,
                     std::size_t tokens, bool to_host)>
      begin;
  /// Asked of each until it is no longer under way.
  std::function<MoveState(lethe::layerkv::MigrationId)> state;
};

/// Prunes requests in reality. Without functions nothing is dropped, and layers are taken to hold
/// all tokens up to their bounds.
struct Pruning {
  std::function<void(lethe::layerkv::RequestId)> begin;
  /// Whether a round comes before so many tokens more; it needs all layers on the device.
  std::function<bool(lethe::layerkv::RequestId, std::size_t tokens)> is_due;
  /// Prunes what is due; the tables have given back its blocks then.
  std::function<void(lethe::layerkv::RequestId, std::size_t tokens)> make_room;
  /// Tokens of each layer.
  std::function<std::span<const std::uint32_t>(lethe::layerkv::RequestId)> held;
};

/// Decides what each step computes, with the library's layer-wise allocation, admission, placement
/// and forecast; the rules are otherwise Scheduler's. A prompt takes all of its blocks when it is
/// admitted. When a running request lacks a block it waits for layers that are on their way to the
/// host, and where there are none, the one admitted last is preempted. A request with a round due
/// waits until all of its layers are on the device; they come first, and nobody is admitted
/// meanwhile.
class LayeredScheduler {
 public:
  LayeredScheduler(const LayeredSettings& settings, RunResults& results, Carrier carrier = {},
                   Pruning pruning = {});

  void arrive(std::uint32_t index, const Request& request);
  void schedule(double now, std::vector<StepItem>& items);
  void finish(double now, const std::vector<StepItem>& items);
  /// When a step ends that begins at `begin` and computes for so many seconds.
  double end_of_step(double begin, double seconds, const std::vector<StepItem>& items);
  /// The next moment at which blocks come free without a step; none: infinity.
  double next_event() const;

  /// Tokens that attention reads of a request's cache, the mean over layers.
  double context(std::uint32_t slot, double tokens) const;
  bool fits(const Request& request) const;
  std::size_t running() const { return running_.size(); }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t finished() const { return finished_; }
  double device_share() const;
  double host_share() const;
  const lethe::layerkv::BlockTables& tables() const { return tables_; }
  lethe::layerkv::BlockTables& tables() { return tables_; }
  /// A request by the slot of its items.
  const Live& live(std::uint32_t slot) const { return lives_[slot].live; }
  /// Takes note of layers that have come to where they go; one whose copy failed stays where it
  /// was.
  void end_moves(double now);

 private:
  /// A layer on its way.
  struct Move {
    double end;  ///< by the model of the link
    lethe::layerkv::MigrationId id;
    std::uint32_t slot;
    std::uint32_t layer;
    bool to_host;
  };

  std::size_t layers() const { return settings_.shape.layers; }
  std::uint32_t bounded(std::size_t layer, std::size_t tokens) const;
  bool prunes() const { return static_cast<bool>(pruning_.held); }
  /// Tokens of the next step, 0 when it finds none within the budget.
  std::size_t step_tokens(const Live& live, std::size_t budget) const;
  /// Tokens that a layer's table needs room for, for `tokens` of the request in all.
  std::size_t rows(const LayeredLive& request, std::size_t layer, std::size_t tokens) const;
  /// Blocks of a layer of the request: of unequal ones the most.
  std::size_t layer_blocks(const LayeredLive& request) const;
  /// Tokens that a layer of the request holds.
  std::size_t held(const LayeredLive& request, std::size_t layer) const;
  MoveState state(const Move& move, double now) const;
  void end_move(const Move& move, bool is_there);
  bool is_all_on_device(const LayeredLive& request) const;
  /// Rounds that are due, of requests whose layers are all on the device.
  void prune_due();
  void return_awaited(double now);
  /// Nothing can be computed before a round, and nothing is on its way: those admitted last give
  /// way until the layers that it needs find room.
  void unblock(double now);
  void open_step(LayeredLive& request, std::size_t tokens);
  void rebalance(double now);
  lethe::layerkv::LowestPoint forecast();
  lethe::layerkv::MovableRequest movable(const LayeredLive& request) const;
  void move(double now, std::span<const lethe::layerkv::LayerMove> moves, bool to_host);
  bool move_one(double now, std::uint32_t slot, bool to_host);
  void schedule_running(double now, std::vector<StepItem>& items, std::size_t& budget);
  /// The first request that can be computed, whatever its fetch takes: an empty step would hide
  /// nothing either, so that all might wait for ever.
  void schedule_unhidden(std::vector<StepItem>& items, std::size_t& budget);
  bool is_hidden(double now, const LayeredLive& request);
  bool is_returning_enough(double now) const;
  bool grow(LayeredLive& request, std::size_t tokens);
  bool make_room(std::size_t position, std::size_t tokens);
  void preempt_last();
  void admit(double now, std::vector<StepItem>& items, std::size_t& budget);
  double look_at_running(double now);
  lethe::layerkv::AdmissionDecision decide(double now, std::size_t budget);
  bool place(double now, const lethe::layerkv::AdmittedRequest& admitted,
             std::vector<StepItem>& items, std::size_t& budget);
  bool allocate(LayeredLive& request, std::size_t retained);
  void add_item(std::uint32_t slot, std::size_t tokens, std::vector<StepItem>& items,
                std::size_t& budget);
  void release(LayeredLive& request);
  void end(double now, std::uint32_t slot);

  LayeredSettings settings_;
  RunResults& results_;
  Carrier carrier_;
  Pruning pruning_;
  lethe::layerkv::BlockTables tables_;
  lethe::layerkv::LayerwiseAdmission layerwise_;
  lethe::layerkv::WholeRequestAdmission whole_;
  lethe::layerkv::OutputLengths lengths_;
  lethe::layerkv::BlockForecast forecast_;
  lethe::layerkv::Watermarks watermarks_;
  std::vector<LayeredLive> lives_;
  std::vector<std::uint32_t> unused_;
  std::vector<std::uint32_t> running_;
  std::deque<std::uint32_t> waiting_;
  std::vector<Move> moves_;
  std::vector<lethe::layerkv::MovableRequest> movable_;
  std::vector<lethe::layerkv::LayerMove> plan_;
  std::vector<lethe::layerkv::DecodingRequest> decoding_;
  std::vector<lethe::layerkv::AdmittedRequest> admitted_;
  StepCopies copies_;
  LinkWay in_;
  LinkWay out_;
  double last_return_ = 0;         ///< when the last layer on its way back will be there
  double step_seconds_ = 0;        ///< what a token takes now
  double compute_seconds_ = 0;     ///< of the step decided last
  double fetch_seconds_ = 0;       ///< of the step that is being decided
  std::size_t largest_bound_ = 0;  ///< 0: none
  std::size_t finished_ = 0;
  bool has_preempted_ = false;
  bool are_awaiting_ = false;  ///< some running requests, a round
};

}  // namespace serving

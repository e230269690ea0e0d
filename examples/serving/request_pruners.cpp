#include "request_pruners.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace serving {

std::byte* BlockRows::row(RowPlace place, std::size_t layer, std::size_t head,
                          std::size_t kind) const {
  return memory_->at(place.block, layer) + shape_->strip_offset(head, kind) +
         place.row * shape_->row_bytes();
}

void BlockRows::copy_rows(std::size_t layer, std::uint32_t head, RowPlace from, RowPlace to,
                          std::size_t rows) {
  const bool is_each = head == lethe::all_heads;
  const std::size_t last = is_each ? shape_->heads() : head + 1;
  for (std::size_t each = is_each ? 0 : head; each < last; ++each)
    for (std::size_t kind = 0; kind < 2; ++kind)
      std::memmove(row(to, layer, each, kind), row(from, layer, each, kind),
                   rows * shape_->row_bytes());
}

/// A request's view, of the tokens that it holds: not of the room that its tables have beside them.
class RequestPruners::HeldTokens {
 public:
  HeldTokens(lethe::layerkv::BlockTables& tables, RequestId id, Pruned& request)
      : tables_(tables), id_(id), request_(request) {}

  std::size_t layers() const { return request_.view.layers(); }
  std::size_t size(std::size_t layer) const { return request_.held[layer]; }
  lethe::LayerState state(std::size_t layer) const { return request_.view.state(layer); }
  std::size_t block_tokens(std::size_t layer) const { return request_.view.block_tokens(layer); }
  std::size_t heads(std::size_t layer) const { return request_.view.heads(layer); }
  std::size_t token_bytes(std::size_t layer) const { return request_.view.token_bytes(layer); }
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const {
    request_.view.read_keys(layer, head, first, out);
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    request_.view.read_values(layer, head, first, out);
  }

  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans)
      tables_.truncate(id_, plan.layer, request_.held[plan.layer]);
    request_.view.apply(plans);
    // A layer may have a plan a head, all of which keep as many: only the first finds a table to
    // fill.
    for (const lethe::EvictionPlan& plan : plans) {
      request_.held[plan.layer] = static_cast<std::uint32_t>(plan.kept.size());
      fill_last_block(plan.layer);
    }
  }

 private:
  /// Tables have room for whole blocks, so that nothing is ever appended to a block on its way.
  void fill_last_block(std::size_t layer) {
    const std::size_t each = block_tokens(layer);
    const std::size_t left = (each - request_.view.size(layer) % each) % each;
    if (left > 0 && !tables_.append(id_, layer, left))
      throw std::logic_error("a block that is there already was not free");
  }

  lethe::layerkv::BlockTables& tables_;
  RequestId id_;
  Pruned& request_;
};

RequestPruners::RequestPruners(const decoder::Pruner& pruner, lethe::layerkv::BlockTables& tables,
                               BlockMemory& memory, const decoder::PagedCache& shape)
    : tables_(tables), count_([this](const lethe::RoundStatistics& round) {
        dropped_ += round.tokens_before - round.tokens_after;
      }) {
  const std::size_t requests = tables.config().requests;
  for (RequestId id = 0; id < requests; ++id)
    requests_.push_back({.pruner = pruner.copy(),
                         .view = View(tables, id, BlockRows(memory, shape)),
                         .held = std::vector<std::uint32_t>(tables.config().layers, 0)});
}

void RequestPruners::begin(RequestId id) {
  requests_[id].pruner.reset();
  std::fill(requests_[id].held.begin(), requests_[id].held.end(), 0);
}

bool RequestPruners::is_due(RequestId id, std::size_t tokens) {
  HeldTokens cache(tables_, id, requests_[id]);
  return requests_[id].pruner.is_due(cache, tokens);
}

void RequestPruners::make_room(RequestId id, std::size_t tokens) {
  HeldTokens cache(tables_, id, requests_[id]);
  requests_[id].pruner.make_room(cache, tokens, count_);
}

void RequestPruners::advance(RequestId id, std::size_t tokens) {
  for (std::uint32_t& held : requests_[id].held) held += static_cast<std::uint32_t>(tokens);
}

}  // namespace serving

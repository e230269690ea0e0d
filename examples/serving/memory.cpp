#include "memory.hpp"

#include <algorithm>
#include <lethe/numeric.hpp>
#include <utility>

namespace serving {
namespace {

using lethe::layerkv::Tier;

lethe::layerkv::BlockTablesConfig tables_config(const EngineSettings& settings,
                                                std::size_t device_blocks, std::size_t longest,
                                                std::size_t host_blocks) {
  return {.layers = 1,
          .block_tokens = settings.block_tokens,
          .device_blocks = device_blocks,
          .host_blocks = host_blocks,
          .requests = settings.sequences,
          .request_blocks = settings.blocks_of(longest) + 1,
          .migrations = host_blocks > 0 ? settings.sequences : 0};
}

}  // namespace

Memory::Memory(const Trace& trace, const EngineSettings& settings, std::size_t device_blocks,
               std::size_t longest, std::size_t host_blocks)
    : trace_(trace),
      settings_(settings),
      tables_(tables_config(settings, device_blocks, longest, host_blocks)),
      chains_(settings.sequences) {
  if (settings.has_prefix_cache) index_.emplace(tables_.config());
}

std::size_t Memory::available() const {
  return tables_.free_blocks(Tier::device) + (index_ ? index_->evictable_blocks(Tier::device) : 0);
}

Memory::Hash Memory::hash(const Live& live, std::size_t block) const {
  using lethe::detail::mix;
  const Request& request = trace_.requests[live.index];
  const std::size_t each = std::max<std::size_t>(1, trace_.hash_tokens / settings_.block_tokens);
  if (block / each < request.hashes) return {trace_.prompt(request)[block / each], block % each};
  // What nobody else has: the rest of the prompt and what was generated.
  return {mix(live.index), ~static_cast<std::uint64_t>(block)};
}

std::span<const Memory::Hash> Memory::chain(const Live& live, std::size_t blocks) {
  const bool runs = live.id != lethe::layerkv::no_id;
  std::vector<Hash>& hashes = runs ? chains_[live.id] : next_chain_;
  if (!runs && std::exchange(next_index_, live.index) != live.index) hashes.clear();
  while (hashes.size() < blocks) hashes.push_back(hash(live, hashes.size()));
  return std::span(hashes).first(blocks);
}

bool Memory::has_room(const Live& live, std::size_t found, std::size_t budget, bool whole) const {
  const std::size_t reused = found * settings_.block_tokens;
  const std::size_t first = std::min<std::size_t>(live.known - reused, budget);
  const std::size_t tokens = whole ? live.known : reused + first;
  return settings_.blocks_of(tokens) - found <= available();
}

bool Memory::admit(Live& live, std::size_t budget, bool whole) {
  // The last token is computed again, for what follows it.
  const std::size_t full = index_ ? (live.known - 1) / settings_.block_tokens : 0;
  const std::span<const Hash> hashes = chain(live, full);
  const std::size_t found = index_ ? index_->find(hashes) : 0;
  if (!has_room(live, found, budget, whole)) return false;
  live.id = tables_.open().value();
  if (index_) index_->acquire(tables_, live.id, hashes);
  // What was acquired is no longer there to be evicted.
  if (!has_room(live, found, budget, whole)) {
    release(live);
    return false;
  }
  chains_[live.id].swap(next_chain_);
  next_chain_.clear();
  live.published = static_cast<std::uint32_t>(found);
  live.computed = static_cast<std::uint32_t>(found * settings_.block_tokens);
  return grow(live, live.computed + std::min<std::size_t>(live.known - live.computed, budget));
}

bool Memory::grow(Live& live, std::size_t tokens) {
  const std::size_t held = tables_.tokens(live.id, 0);
  if (tokens <= held) return true;
  if (index_) return index_->append(tables_, live.id, tokens - held);
  return tables_.append(live.id, tokens - held);
}

void Memory::publish(Live& live) {
  const std::size_t full = std::min(live.computed, live.known) / settings_.block_tokens;
  if (!index_ || full <= live.published) return;
  index_->insert(tables_, live.id, chain(live, full));
  live.published = static_cast<std::uint32_t>(full);
}

std::optional<lethe::layerkv::MigrationId> Memory::begin_move(Live& live, Tier to) {
  const std::size_t blocks = tables_.table(live.id, 0).size();
  if (index_ && to == Tier::host) {
    index_->release(live.id);
    live.published = 0;
  }
  if (index_ && !index_->evict(tables_, to, blocks)) return std::nullopt;
  return tables_.begin_migration(live.id, 0, to);
}

void Memory::release(Live& live) {
  if (index_) {
    publish(live);
    index_->release(live.id);
  }
  chains_[live.id].clear();
  tables_.close(live.id);
  live.id = lethe::layerkv::no_id;
  live.published = 0;
}

}  // namespace serving

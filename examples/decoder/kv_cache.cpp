#include "kv_cache.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "error.hpp"
#include "kernels.hpp"
#include "round_up.hpp"

namespace decoder {
namespace {

struct NamedType {
  std::string_view name;
  CacheType type;
};
constexpr std::array<NamedType, 3> named_types{
    {{"f32", CacheType::f32}, {"f16", CacheType::f16}, {"q8_0", CacheType::q8_0}}};

std::size_t page_bytes() noexcept {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t whole_pages(std::size_t bytes) noexcept { return round_up(bytes, page_bytes()); }

[[noreturn]] void refuse(std::size_t capacity) {
  throw Error("no memory for a KV cache of " + std::to_string(capacity) +
              " tokens: give a smaller -n, or --cache-type q8_0");
}

// Huge pages would keep memory that a prune has freed.
AddressSpace reserve(std::size_t bytes, std::size_t capacity) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) refuse(capacity);
#ifdef MADV_NOHUGEPAGE
  madvise(memory, bytes, MADV_NOHUGEPAGE);
#endif
  return {static_cast<std::byte*>(memory), Unmap{bytes}};
}

}  // namespace

void Unmap::operator()(std::byte* memory) const noexcept { munmap(memory, bytes); }

std::string_view name(CacheType type) noexcept {
  return named_types[static_cast<std::size_t>(type)].name;
}

CacheType parse_cache_type(std::string_view name) {
  for (const NamedType& named : named_types) {
    if (named.name == name) return named.type;
  }
  throw Error("unknown cache type '" + std::string(name) + "': choose f32, f16 or q8_0");
}

KVCache::KVCache(const ModelConfig& config, CacheType type, std::size_t capacity)
    : head_dim_(config.head_dim),
      channels_(round_up(config.head_dim, 32)),
      capacity_(capacity),
      heads_(config.kv_heads),
      type_(type),
      sizes_(config.layers * heads_, 0) {
  row_bytes_ = decoder::row_bytes(type, channels_);
  const std::size_t strips = sizes_.size() * 2;
  const std::size_t most = std::numeric_limits<std::size_t>::max() / 2;
  if (capacity == 0 || capacity > (most / strips - page_bytes()) / row_bytes_) refuse(capacity);
  strip_bytes_ = whole_pages(capacity * row_bytes_);
  memory_ = reserve(strips * strip_bytes_, capacity);
}

// Pages that hold no token are left untouched, so that they take no memory.
KVCache::KVCache(const KVCache& other)
    : memory_(reserve(other.memory_.get_deleter().bytes, other.capacity_)),
      strip_bytes_(other.strip_bytes_),
      row_bytes_(other.row_bytes_),
      head_dim_(other.head_dim_),
      channels_(other.channels_),
      capacity_(other.capacity_),
      heads_(other.heads_),
      type_(other.type_),
      sizes_(other.sizes_) {
  for (std::size_t i = 0; i < sizes_.size() * 2; ++i) {
    std::memcpy(strip(0, 0, i), other.strip(0, 0, i), sizes_[i / 2] * row_bytes_);
  }
}

KVCache KVCache::copy() const { return KVCache(*this); }

std::size_t KVCache::size(std::size_t layer) const noexcept {
  const std::span<const std::size_t> own = std::span(sizes_).subspan(layer * heads_, heads_);
  return *std::max_element(own.begin(), own.end());
}

std::size_t KVCache::mean_size(std::size_t layer) const noexcept {
  const std::span<const std::size_t> own = std::span(sizes_).subspan(layer * heads_, heads_);
  return (std::accumulate(own.begin(), own.end(), std::size_t{0}) + heads_ - 1) / heads_;
}

void KVCache::apply(std::span<const lethe::EvictionPlan> plans) {
  for (const lethe::EvictionPlan& plan : plans) {
    const bool all = plan.head == lethe::all_heads;
    const std::size_t first = all ? 0 : plan.head;
    const std::size_t last = all ? heads_ : first + 1;
    for (std::size_t head = first; head < last; ++head) {
      pack(plan, head);
      sizes_[plan.layer * heads_ + head] = plan.kept.size();
      release(plan.layer, head, plan.tokens);
    }
  }
}

// Moves runs of neighbouring survivors at once; a run never moves right, so nothing is overwritten
// before it has moved.
void KVCache::pack(const lethe::EvictionPlan& plan, std::size_t head) noexcept {
  std::size_t to = plan.first_move;
  while (to < plan.kept.size()) {
    const std::size_t from = plan.kept[to];
    std::size_t run = 1;
    while (to + run < plan.kept.size() && plan.kept[to + run] == from + run) ++run;
    for (std::size_t kind = 0; kind < 2; ++kind) {
      std::byte* rows = strip(plan.layer, head, kind);
      std::memmove(rows + to * row_bytes_, rows + from * row_bytes_, run * row_bytes_);
    }
    to += run;
  }
}

void KVCache::release(std::size_t layer, std::size_t head, std::size_t tokens_before) noexcept {
  const std::size_t first = whole_pages(size(layer, head) * row_bytes_);
  const std::size_t last = whole_pages(tokens_before * row_bytes_);
  if (last <= first) return;
  for (std::size_t kind = 0; kind < 2; ++kind) {
    madvise(strip(layer, head, kind) + first, last - first, MADV_DONTNEED);
  }
}

void KVCache::append(std::size_t layer, std::size_t tokens, const float* keys,
                     const float* values) {
  extend(layer, tokens);
  float key[kernels::max_head_dim] = {};
  float value[kernels::max_head_dim] = {};
  for (std::size_t row = 0; row < tokens * heads_; ++row) {
    std::copy_n(keys + row * head_dim_, head_dim_, key);
    std::copy_n(values + row * head_dim_, head_dim_, value);
    const std::size_t head = row % heads_;
    store(layer, head, size(layer, head) - tokens + row / heads_, key, value);
  }
}

std::size_t KVCache::extend(std::size_t layer, std::size_t tokens) {
  const std::size_t first = size(layer, 0);
  if (tokens > capacity_ - size(layer)) {
    throw Error("the KV cache is full at " + std::to_string(capacity_) +
                " tokens: ask for a longer context, or for a policy that prunes");
  }
  for (std::size_t head = 0; head < heads_; ++head) sizes_[layer * heads_ + head] += tokens;
  return first;
}

void KVCache::store(std::size_t layer, std::size_t head, std::size_t slot, const float* key,
                    const float* value) noexcept {
  kernels::store_row(type_, key, channels_, strip(layer, head, 0) + slot * row_bytes_);
  kernels::store_row(type_, value, channels_, strip(layer, head, 1) + slot * row_bytes_);
}

void KVCache::read(const std::byte* rows, std::size_t first, std::span<float> out) const noexcept {
  const std::byte* row = rows + first * row_bytes_;
  for (std::size_t i = 0; i < out.size(); i += head_dim_, row += row_bytes_) {
    kernels::load_row(type_, row, channels_, out.subspan(i, head_dim_));
  }
}

void KVCache::clear() noexcept {
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    release(i / heads_, i % heads_, std::exchange(sizes_[i], 0));
  }
}

std::size_t KVCache::token_bytes(std::size_t) const noexcept { return heads_ * 2 * row_bytes_; }

std::size_t KVCache::resident_bytes() const noexcept {
  std::size_t bytes = 0;
  for (const std::size_t size : sizes_) bytes += 2 * whole_pages(size * row_bytes_);
  return bytes;
}

}  // namespace decoder

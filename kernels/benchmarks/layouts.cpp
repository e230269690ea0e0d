#include "layouts.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "samples.hpp"

namespace gpu_bench {
namespace {

/// For each layer the numbers of its pool's blocks, shuffled, dealt out to the sequences.
std::vector<std::uint32_t> shuffled_tables(const Case& sizes, std::uint32_t blocks) {
  Samples samples(7);
  const std::size_t of_layer = std::size_t{sizes.batch} * blocks;
  std::vector<std::uint32_t> tables(sizes.layers * of_layer);
  for (std::size_t layer = 0; layer < sizes.layers; ++layer) {
    std::uint32_t* pool = tables.data() + layer * of_layer;
    std::iota(pool, pool + of_layer, 0u);
    for (std::size_t i = of_layer; i > 1; --i) std::swap(pool[i - 1], pool[samples.below(i)]);
  }
  return tables;
}

void copy_items(const Items<std::uint32_t>& to, const Items<std::uint32_t>& from,
                cudaStream_t stream) {
  require(cudaMemcpyAsync(to.get(), from.get(), to.bytes(), cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync");
}

}  // namespace

void add_strips(const Bench& bench, bool heads_first, lethe::gpu::Compaction& compaction) {
  const Case& sizes = bench.sizes();
  const std::uint32_t row = sizes.row_bytes();
  lethe::gpu::StripArray array{.row_bytes = row, .heads = sizes.heads};
  array.token_stride = heads_first ? row : std::size_t{row} * sizes.heads;
  array.head_stride = heads_first ? std::size_t{row} * sizes.tokens : row;
  array.slot_stride = std::size_t{row} * sizes.heads * sizes.tokens;
  array.layer_stride = array.slot_stride * sizes.batch;
  for (std::byte* base : {bench.keys(), bench.values()}) {
    array.base = base;
    compaction.strips[compaction.strip_count++] = array;
  }
}

Pages::Pages(const Bench& bench)
    : bench_(&bench),
      made_(shuffled_tables(bench.sizes(), blocks())),
      saved_(made_),
      tables_(made_),
      saved_entries_(std::vector<std::uint32_t>(numbers(), blocks())),
      entries_(std::vector<std::uint32_t>(numbers(), blocks())),
      freed_(made_.size()),
      workspace_(made_.size()),
      told_(3 * numbers()) {}

lethe::gpu::PageArray Pages::array(std::byte* base) const {
  const Case& sizes = bench_->sizes();
  const std::size_t token = std::size_t{sizes.row_bytes()} * sizes.heads;
  return {.base = base,
          .row_bytes = sizes.row_bytes(),
          .heads = sizes.heads,
          .token_stride = token,
          .head_stride = sizes.row_bytes(),
          .block_stride = token * block_tokens,
          .layer_stride = token * sizes.tokens * sizes.batch};
}

void Pages::add_to(lethe::gpu::Compaction& compaction) const {
  compaction.pages[compaction.page_count++] = array(bench_->keys());
  compaction.pages[compaction.page_count++] = array(bench_->values());
  compaction.tables = {.tables = tables_.get(),
                       .entries = entries_.get(),
                       .capacity = blocks(),
                       .block_tokens = block_tokens,
                       .freed = freed_.get(),
                       .freed_counts = told_.get(),
                       .fresh_used = told_.get() + numbers(),
                       .begins = told_.get() + 2 * numbers(),
                       .workspace = workspace_.get()};
}

void Pages::restore(const Bench& bench) const {
  copy_items(tables_, saved_, bench.stream());
  copy_items(entries_, saved_entries_, bench.stream());
}

const std::byte* Pages::key(std::size_t number, std::uint32_t token, bool made) const {
  const std::vector<std::uint32_t> tables = made ? made_ : read_tables();
  const lethe::gpu::PageArray keys = array(bench_->keys());
  const std::uint32_t block = tables[number * blocks() + token / block_tokens];
  return keys.base + number / bench_->sizes().batch * keys.layer_stride +
         block * keys.block_stride + token % block_tokens * keys.token_stride;
}

}  // namespace gpu_bench

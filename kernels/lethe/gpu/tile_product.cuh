/// The product of two small matrices that a warp holds in its registers: by tensor cores on the
/// device, by scalars on a host that tests what surrounds it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lethe/gpu/block.cuh"
#include "lethe/numeric.hpp"

namespace lethe::gpu {

/// A fragment as mma.m16n8k16 of the PTX manual spreads it over the lanes of a warp, two elements
/// of 16 bits a word. With group = lane / 4 and part = lane % 4, words hold
///   of 16 rows: row group + 8 (w % 2), columns 2 part + 8 (w / 2) and the next, for w of 4;
///   of 8 columns: column group, rows 2 part + 8 w and the next, for w of 2;
/// and floats i of 4 of a sum: row group + 8 (i / 2), column 2 part + i % 2.
template <class Block>
using RowFragment = typename Block::template Registers<std::uint32_t, 4>;
template <class Block>
using ColumnFragment = typename Block::template Registers<std::uint32_t, 2>;

/// Column tiles that share one row fragment, and the floats of their sums that a lane holds.
inline constexpr unsigned column_tiles = 4;
template <class Block>
using TileSums = typename Block::template Registers<float, 4 * column_tiles>;

/// multiply: every warp of the block adds rows x columns to column tile number `tile` of sums; no
/// barrier. exponential: what is summed over heads.
template <class Product, class Block>
concept TileProduct = requires(const Block& block, const RowFragment<Block>& rows,
                               const ColumnFragment<Block>& columns, TileSums<Block>& sums) {
  Product::multiply(block, rows, columns, sums, 0u);
  { Product::exponential(1.0f) } -> std::same_as<float>;
};

#if !defined(__CUDACC__)

/// The host's model: the words of all lanes of a warp are put together as matrices.
template <class Element>
struct ScalarProduct {
  template <class Block>
  static void multiply(const Block&, const RowFragment<Block>& rows,
                       const ColumnFragment<Block>& columns, TileSums<Block>& sums, unsigned tile) {
    for (unsigned lane = 0; lane < Block::threads; ++lane) {
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane % 32 / 4 + 8 * (i / 2);
        const unsigned column = 2 * (lane % 4) + i % 2;
        float& sum = sums(lane, 4 * tile + i);
        for (unsigned k = 0; k < 16; ++k) {
          const unsigned holder = lane / 32 * 32 + k % 8 / 2;
          const std::uint32_t a = rows(holder + 4 * (row % 8), row / 8 + 2 * (k / 8));
          const std::uint32_t b = columns(holder + 4 * column, k / 8);
          sum += element(a, k % 2) * element(b, k % 2);
        }
      }
    }
  }

  [[nodiscard]] static float exponential(float x) { return exact_exp(x); }

 private:
  [[nodiscard]] static float element(std::uint32_t word, unsigned half) {
    return to_float(Element{static_cast<std::uint16_t>(word >> (16 * half))});
  }
};
static_assert(TileProduct<ScalarProduct<BFloat16>, HostBlock<32>>);
static_assert(TileProduct<ScalarProduct<Half>, HostBlock<32>>);

#else

/// The device's model: mma.sync, from sm_80 on, sums in fp32. Not the bits of a scalar sum, but the
/// same from run to run.
template <class Element>
struct TensorProduct {
  template <class Block>
  __device__ static void multiply(const Block&, const RowFragment<Block>& rows,
                                  const ColumnFragment<Block>& columns, TileSums<Block>& sums,
                                  unsigned tile) {
    const unsigned lane = threadIdx.x;
    const std::uint32_t a[4] = {rows(lane, 0), rows(lane, 1), rows(lane, 2), rows(lane, 3)};
    const std::uint32_t b[2] = {columns(lane, 0), columns(lane, 1)};
    if constexpr (std::is_same_v<Element, BFloat16>) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
          "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(sums(lane, 4 * tile)), "+f"(sums(lane, 4 * tile + 1)),
            "+f"(sums(lane, 4 * tile + 2)), "+f"(sums(lane, 4 * tile + 3))
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
      static_assert(std::is_same_v<Element, Half>);
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
          "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(sums(lane, 4 * tile)), "+f"(sums(lane, 4 * tile + 1)),
            "+f"(sums(lane, 4 * tile + 2)), "+f"(sums(lane, 4 * tile + 3))
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
  }

  /// exact_exp takes some 40 instructions; one for every query and query head would take longer
  /// than the keys take to arrive.
  [[nodiscard]] __device__ static float exponential(float x) { return __expf(x); }
};

#endif

}  // namespace lethe::gpu

#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "error.hpp"
#include "file_mapping.hpp"

namespace decoder::gguf {

/// Storage formats of tensors that this decoder computes with; the values are GGUF's own.
enum class TensorType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q8_0 = 8,
  Q4_K = 12,
  Q6_K = 14,
  BF16 = 30,
};

/// How a format packs elements: `elements` consecutive ones of a row take `bytes` bytes.
struct BlockLayout {
  std::uint32_t elements = 0;
  std::uint32_t bytes = 0;
};

/// Block layout of a tensor type; {0, 0} for a type that is not in TensorType. O(1).
///
/// Little-endian layouts, d and m being IEEE half floats (ggml's block_* structs):
/// Q4_0 d, 16 bytes of nibbles (element j low, j + 16 high); Q4_1 d, m, then as Q4_0;
/// Q8_0 d, 32 signed bytes; Q4_K d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles;
/// Q6_K 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d.
constexpr BlockLayout block_layout(TensorType type) noexcept {
  switch (type) {
    case TensorType::F32:
      return {1, 4};
    case TensorType::F16:
      return {1, 2};
    case TensorType::BF16:
      return {1, 2};
    case TensorType::Q4_0:
      return {32, 18};
    case TensorType::Q4_1:
      return {32, 20};
    case TensorType::Q8_0:
      return {32, 34};
    case TensorType::Q4_K:
      return {256, 144};
    case TensorType::Q6_K:
      return {256, 210};
  }
  return {};
}

/// Name of a tensor type, such as "Q4_1"; "type <number>" for one that is not in TensorType.
std::string type_name(TensorType type);

/// One tensor of a mapped file; valid as long as the File it came from.
struct Tensor {
  std::string name;
  TensorType type = TensorType::F32;
  std::vector<std::uint64_t> shape;  ///< elements per dimension, 1 to 4 of them, fastest first
  const std::byte* data = nullptr;  ///< aligned to the file's alignment; null for unsupported types
  std::size_t bytes = 0;            ///< 0 for unsupported types

  /// Elements of one row (the fastest dimension); a multiple of the type's block.
  std::size_t row_elements() const noexcept { return shape[0]; }
  /// Bytes of one row.
  std::size_t row_bytes() const noexcept {
    const BlockLayout layout = block_layout(type);
    return layout.elements == 0 ? 0 : shape[0] / layout.elements * layout.bytes;
  }
  /// Rows: the product of all dimensions but the fastest.
  std::size_t rows() const noexcept {
    std::size_t product = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) product *= shape[i];
    return product;
  }
};

/// Array value of a metadata key: numbers as they lie in the file, or strings.
struct Array {
  std::uint32_t element_type = 0;         ///< GGUF's number for the element type
  std::uint64_t count = 0;                ///< elements
  const std::byte* data = nullptr;        ///< unaligned little-endian elements; null for strings
  std::vector<std::string_view> strings;  ///< elements of a string array
};

/// Value of a metadata key; views point into the mapped file.
using Value = std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, Array>;

/// A GGUF file, version 2 or 3, little endian: typed metadata and tensors that lie in the mapping.
///
/// Nothing the file says is believed before it is checked against the file's size. Every failure
/// is an Error of one line that begins with the file's name.
class File {
 public:
  /// Maps and checks the file at `path`.
  ///
  /// Throws Error when it cannot be read, is not GGUF v2/v3, is truncated or contradicts itself.
  /// A tensor of an unsupported type is refused only by find() and require(). O(metadata + tensors
  /// log tensors).
  static File open(const std::filesystem::path& path);
  /// Checks a file that is in memory for good, aligned to 64 bytes; as open().
  ///
  /// name: what errors and path() call it.
  static File in_memory(std::span<const std::byte> bytes, const std::filesystem::path& name);

  /// The tensor called `name`, or null; throws Error when its type is unsupported. O(log tensors).
  const Tensor* find(std::string_view name) const;
  /// The tensor called `name` with exactly this shape (elements, fastest first).
  ///
  /// Throws Error when it is absent, its type is unsupported or its shape differs. O(log tensors).
  const Tensor& require(std::string_view name, std::initializer_list<std::uint64_t> shape) const;
  /// All tensors by name, those of unsupported types too (their data is null).
  const std::map<std::string, Tensor, std::less<>>& tensors() const noexcept { return tensors_; }

  /// Whether the metadata has `key`.
  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }

  // Metadata by key. Without a fallback an absent key is an Error; with one it is the answer.
  // A value of another kind is an Error either way. Each O(log keys), arrays O(elements).

  /// A whole number of any width; a negative one is an Error.
  std::uint64_t integer(std::string_view key) const;
  std::uint64_t integer(std::string_view key, std::uint64_t fallback) const;
  /// A finite floating-point number, or a whole one; NaN and infinities are Errors.
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  /// The bytes of a string as stored, valid as long as the File.
  std::string_view string(std::string_view key) const;
  std::string_view string(std::string_view key, std::string_view fallback) const;
  /// An array of strings, valid as long as the File.
  const std::vector<std::string_view>& strings(std::string_view key) const;
  /// An array of whole numbers of any width that each fit 32 signed bits.
  std::vector<std::int32_t> integers(std::string_view key) const;
  /// An array of f32 numbers.
  std::vector<float> numbers(std::string_view key) const;

  const std::filesystem::path& path() const noexcept { return path_; }
  /// Bytes of the whole file.
  std::size_t size() const noexcept { return mapping_.size(); }

  /// An Error about this file: "<file name>: <message>", its control characters made '?'.
  Error error(std::string_view message) const;

 private:
  friend class Parser;

  File(const std::filesystem::path& path, FileMapping mapping);
  const Value& value(std::string_view key) const;

  std::filesystem::path path_;
  FileMapping mapping_;
  std::map<std::string_view, Value> values_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace decoder::gguf

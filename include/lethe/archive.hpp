/// State as bytes: one function lists an object's members for writing and for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::detail {

/// Appends values to a growing blob.
class StateWriter {
 public:
  template <class Value>
  requires std::is_trivially_copyable_v<Value>
  void operator()(const Value& value) { append(&value, 1); }

  template <class Value>
  void operator()(const std::vector<Value>& values) {
    (*this)(static_cast<std::uint64_t>(values.size()));
    append(values.data(), values.size());
  }

  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {bytes_.data(), bytes_.size()}; }

 private:
  template <class Value>
  void append(const Value* values, std::size_t count) {
    if (count == 0) return;
    const std::size_t before = bytes_.size();
    bytes_.resize(before + count * sizeof(Value));
    std::memcpy(bytes_.data() + before, values, count * sizeof(Value));
  }

  std::vector<std::byte> bytes_;
};

/// Reads values back; a vector must have the length it already has, so a blob never makes it grow.
class StateReader {
 public:
  explicit StateReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class Value>
  requires std::is_trivially_copyable_v<Value>
  void operator()(Value& value) { take(&value, sizeof value); }

  template <class Value>
  void operator()(std::vector<Value>& values) {
    std::uint64_t count = 0;
    (*this)(count);
    if (count != values.size()) good_ = false;
    if (good_) take(values.data(), values.size() * sizeof(Value));
  }

  /// Whether everything so far was there and of the expected shape.
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool at_end() const { return good_ && rest_.empty(); }

 private:
  void take(void* data, std::size_t count) {
    good_ = good_ && count <= rest_.size();
    if (!good_ || count == 0) return;
    std::memcpy(data, rest_.data(), count);
    rest_ = rest_.subspan(count);
  }

  std::span<const std::byte> rest_;
  bool good_ = true;
};

/// Lists a setting without which the state means nothing: it is compared, not taken over. Returns
/// whether what was read is the same; true when writing.
template <class Archive, class Value>
[[nodiscard]] bool archive_setting(Archive& archive, Value setting) {
  Value found = setting;
  archive(found);
  return found == setting;
}

/// FNV-1a over bytes, folded from eight at a time.
[[nodiscard]] inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);
    hash = (hash ^ word) * 0x100000001B3u;
    hash ^= hash >> 32;
  }
  for (; i < bytes.size(); ++i) {
    hash = (hash ^ static_cast<std::uint64_t>(bytes[i])) * 0x100000001B3u;
  }
  return hash;
}

}  // namespace lethe::detail

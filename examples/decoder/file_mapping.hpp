#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace decoder {

/// Read-only memory mapping of a whole file; movable, unmapped on destruction.
class FileMapping {
 public:
  FileMapping() = default;
  /// Maps `path`; throws Error when it is missing, no regular file, empty or cannot be mapped.
  explicit FileMapping(const std::filesystem::path& path);
  /// Bytes that are in memory for good; nothing is unmapped.
  explicit FileMapping(std::span<const std::byte> bytes) noexcept
      : data_(bytes.data()), size_(bytes.size()) {}
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;
  ~FileMapping();

  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool is_mapped_ = false;
};

}  // namespace decoder

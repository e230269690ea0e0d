/// Files of named tensors in the safetensors format: a header in JSON, then raw numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"
#include "file_mapping.hpp"

namespace decoder::safetensors {

using Metadata = std::map<std::string, std::string, std::less<>>;

/// One tensor; its numbers belong to the File it came from, or to whoever writes it.
struct Tensor {
  std::string type;                  ///< as the file says: "F32", "F16", "BF16", ...
  std::vector<std::uint64_t> shape;  ///< slowest dimension first
  std::span<const std::byte> data;   ///< little endian, not aligned

  /// The product of the shape.
  [[nodiscard]] std::size_t elements() const noexcept;
};

/// A safetensors file. Nothing it says is believed before it is checked against its size; every
/// failure is an Error of one line that begins with the file's name.
class File {
 public:
  /// Maps and checks the file at `path`. O(header).
  static File open(const std::filesystem::path& path);

  /// The tensor of that name; null when there is none.
  [[nodiscard]] const Tensor* find(std::string_view name) const;
  /// The tensor of that name and shape in F32, F16 or BF16; throws Error for any other.
  [[nodiscard]] const Tensor& require(const std::string& name,
                                      const std::vector<std::uint64_t>& shape) const;
  /// What the file says of itself; empty where it says nothing.
  [[nodiscard]] const Metadata& metadata() const noexcept { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// An Error that names the file.
  [[nodiscard]] Error error(const std::string& message) const;

 private:
  explicit File(const std::filesystem::path& path);
  void read_header(std::string_view header, std::span<const std::byte> data);

  std::filesystem::path path_;
  FileMapping mapping_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  Metadata metadata_;
};

/// Widens elements of an F32, F16 or BF16 tensor, out.size() of them from `first` on.
void read(const Tensor& tensor, std::size_t first, std::span<float> out);

/// Writes a file; throws Error when that fails.
///
/// data: little endian, shape and type as they are to be read.
void write(const std::string& path, const Metadata& metadata,
           const std::map<std::string, Tensor, std::less<>>& tensors);

}  // namespace decoder::safetensors

#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gguf.hpp"
#include "gguf_types.hpp"

namespace decoder::test {

/// Little-endian bytes under construction.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    const std::size_t at = data_.size();
    data_.resize(at + sizeof value);
    std::memcpy(data_.data() + at, &value, sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view text) {
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    data_.insert(data_.end(), first, first + text.size());
    return *this;
  }
  /// A string as GGUF stores it: 64 bits of length, then the bytes.
  Bytes& string(std::string_view text) { return put(std::uint64_t{text.size()}).raw(text); }
  Bytes& append(const std::vector<std::byte>& bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  void pad_to(std::size_t unit) { data_.resize((data_.size() + unit - 1) / unit * unit); }

  std::size_t size() const noexcept { return data_.size(); }
  const std::vector<std::byte>& data() const noexcept { return data_; }

 private:
  std::vector<std::byte> data_;
};

/// Builds GGUF files in memory: metadata in order of the calls, tensors packed at `alignment`
/// bytes.
class GgufWriter {
 public:
  explicit GgufWriter(std::size_t alignment = 32) : alignment_(alignment) {}

  GgufWriter& integer(std::string_view key, std::uint32_t value) {
    return plain(key, gguf::value_type::u32, value);
  }
  GgufWriter& number(std::string_view key, float value) {
    return plain(key, gguf::value_type::f32, value);
  }
  GgufWriter& boolean(std::string_view key, bool value) {
    return plain(key, gguf::value_type::boolean, static_cast<std::uint8_t>(value));
  }
  /// A value of any fixed-size type by GGUF's number of that type.
  template <class T>
  GgufWriter& plain(std::string_view key, std::uint32_t type, T value) {
    entry(key, type).put(value);
    return *this;
  }
  GgufWriter& string(std::string_view key, std::string_view value) {
    entry(key, gguf::value_type::string).string(value);
    return *this;
  }
  GgufWriter& strings(std::string_view key, const std::vector<std::string>& values) {
    Bytes& out = array(key, gguf::value_type::string, values.size());
    for (const std::string& value : values) out.string(value);
    return *this;
  }
  GgufWriter& integers(std::string_view key, const std::vector<std::int32_t>& values) {
    return numbers_of(key, gguf::value_type::i32, values);
  }
  GgufWriter& numbers(std::string_view key, const std::vector<float>& values) {
    return numbers_of(key, gguf::value_type::f32, values);
  }
  template <class T>
  GgufWriter& numbers_of(std::string_view key, std::uint32_t type, const std::vector<T>& values) {
    Bytes& out = array(key, type, values.size());
    for (const T value : values) out.put(value);
    return *this;
  }

  /// A tensor whose data are `data`; its shape is in elements, fastest first.
  GgufWriter& tensor(std::string_view name, gguf::TensorType type,
                     const std::vector<std::uint64_t>& shape, const std::vector<std::byte>& data) {
    return tensor_at(name, static_cast<std::uint32_t>(type), shape, next_offset(), data);
  }
  /// A tensor with a type number and an offset of the caller's, right or wrong.
  GgufWriter& tensor_at(std::string_view name, std::uint32_t type,
                        const std::vector<std::uint64_t>& shape, std::uint64_t offset,
                        const std::vector<std::byte>& data) {
    infos_.string(name).put(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t extent : shape) infos_.put(extent);
    infos_.put(type).put(offset);
    data_.pad_to(alignment_);
    data_.append(data);
    ++tensors_;
    return *this;
  }

  /// The whole file.
  std::vector<std::byte> bytes(std::uint32_t version = 3) const {
    Bytes out;
    out.raw("GGUF").put(version).put(tensors_).put(values_);
    out.append(metadata_.data()).append(infos_.data());
    if (tensors_ > 0) out.pad_to(alignment_);
    return out.append(data_.data()).data();
  }

 private:
  Bytes& entry(std::string_view key, std::uint32_t type) {
    ++values_;
    return metadata_.string(key).put(type);
  }
  Bytes& array(std::string_view key, std::uint32_t type, std::size_t count) {
    return entry(key, gguf::value_type::array).put(type).put(std::uint64_t{count});
  }
  std::uint64_t next_offset() const {
    return (data_.size() + alignment_ - 1) / alignment_ * alignment_;
  }

  std::size_t alignment_;
  std::uint64_t values_ = 0;
  std::uint64_t tensors_ = 0;
  Bytes metadata_;
  Bytes infos_;
  Bytes data_;
};

/// A file in the system's temporary folder that is gone at the end of its scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<std::byte>& bytes) : path_(fresh_path()) {
    write(bytes);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  /// Replaces the content.
  void write(const std::vector<std::byte>& bytes) {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    out.close();
    if (!out) throw std::runtime_error("cannot write " + path_.string());
  }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  static std::filesystem::path fresh_path() {
    static int count = 0;
    return std::filesystem::temp_directory_path() /
           ("lethe_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++) + ".gguf");
  }

  std::filesystem::path path_;
};

/// Opens bytes as a GGUF file; the mapping outlives the temporary file.
inline gguf::File open_bytes(const std::vector<std::byte>& bytes) {
  const TemporaryFile file(bytes);
  return gguf::File::open(file.path());
}

/// A byte in GPT-2's spelling.
inline std::string spelled_byte(unsigned byte) {
  const auto prints = [](unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  unsigned code = byte;
  if (!prints(byte)) {
    code = 256;
    for (unsigned before = 0; before < byte; ++before) code += prints(before) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Adds the metadata of a byte-level tokenizer: all 256 bytes, `merges`, `control`.
///
/// Each of `merges` is "left right" in GPT-2's spelling. Token ids: bytes 0 to 255 in the order of
/// their values, then one per merge, then one per control token.
inline GgufWriter& add_byte_level_tokenizer(GgufWriter& writer, std::string_view pre,
                                            const std::vector<std::string>& merges,
                                            const std::vector<std::string>& control) {
  std::vector<std::string> tokens;
  for (unsigned byte = 0; byte < 256; ++byte) tokens.push_back(spelled_byte(byte));
  for (const std::string& merge : merges) {
    const std::size_t space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  std::vector<std::int32_t> kinds(tokens.size(), 1);
  tokens.insert(tokens.end(), control.begin(), control.end());
  kinds.resize(tokens.size(), 3);
  return writer.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", pre)
      .strings("tokenizer.ggml.tokens", tokens)
      .integers("tokenizer.ggml.token_type", kinds)
      .strings("tokenizer.ggml.merges", merges);
}

}  // namespace decoder::test

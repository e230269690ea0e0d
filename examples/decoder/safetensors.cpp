#include "safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "half.hpp"
#include "one_line.hpp"
#include "output.hpp"

namespace decoder::safetensors {
namespace {

using nlohmann::json;

constexpr std::size_t length_bytes = 8;
// The format's own limit; a header that claims more is damaged.
constexpr std::uint64_t longest_header = 100'000'000;
constexpr std::uint64_t most_elements = std::uint64_t{1} << 48;

std::size_t bytes_of(std::string_view type) {
  if (type == "F32") return 4;
  if (type == "F16" || type == "BF16") return 2;
  return 0;
}

std::uint64_t little_endian(const std::byte* from) {
  std::uint64_t value = 0;
  for (std::size_t i = length_bytes; i-- > 0;)
    value = value << 8 | std::to_integer<unsigned>(from[i]);
  return value;
}

/// The product of a shape, or nothing where it is no number of elements that memory could hold.
std::optional<std::uint64_t> product(const std::vector<std::uint64_t>& shape) {
  std::uint64_t elements = 1;
  for (const std::uint64_t size : shape) {
    if (size != 0 && elements > most_elements / size) return {};
    elements *= size;
  }
  return elements;
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "a scalar" : text;
}

std::vector<std::uint64_t> unsigned_numbers(const json& array) {
  std::vector<std::uint64_t> numbers;
  for (const json& each : array) {
    if (!each.is_number_unsigned()) return {};
    numbers.push_back(each.get<std::uint64_t>());
  }
  return numbers;
}

/// A tensor as the header describes it, or nothing where that cannot be.
std::optional<Tensor> tensor_of(const json& entry, std::span<const std::byte> data) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    return {};
  const json &type = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!type.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2)
    return {};
  Tensor tensor{.type = type.get<std::string>(), .shape = unsigned_numbers(shape), .data = {}};
  const std::vector<std::uint64_t> range = unsigned_numbers(offsets);
  if (tensor.shape.size() != shape.size() || range.size() != 2) return {};
  if (range[0] > range[1] || range[1] > data.size()) return {};
  tensor.data = data.subspan(range[0], range[1] - range[0]);
  const std::size_t each = bytes_of(tensor.type);
  const std::optional<std::uint64_t> elements = product(tensor.shape);
  if (!elements || (each != 0 && *elements * each != tensor.data.size())) return {};
  return tensor;
}

template <class Bits>
Bits bits_at(const Tensor& tensor, std::size_t index) {
  Bits bits;
  std::memcpy(&bits, tensor.data.data() + index * sizeof bits, sizeof bits);
  return bits;
}

}  // namespace

std::size_t Tensor::elements() const noexcept {
  std::size_t count = 1;
  for (const std::uint64_t size : shape) count *= size;
  return count;
}

File File::open(const std::filesystem::path& path) { return File(path); }

File::File(const std::filesystem::path& path) : path_(path), mapping_(path) {
  const std::span<const std::byte> all(mapping_.data(), mapping_.size());
  if (all.size() < length_bytes) throw error("is too short to be a safetensors file");
  const std::uint64_t length = little_endian(all.data());
  if (length > longest_header || length > all.size() - length_bytes)
    throw error("is no safetensors file, or is cut short: its header would take " +
                std::to_string(length) + " bytes");
  const auto* text = reinterpret_cast<const char*>(all.data()) + length_bytes;
  read_header({text, length}, all.subspan(length_bytes + length));
}

void File::read_header(std::string_view header, std::span<const std::byte> data) {
  const json entries = json::parse(header, nullptr, false);
  if (!entries.is_object()) throw error("is no safetensors file: its header is no JSON object");
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) throw error("has a damaged header: __metadata__ is no object");
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) metadata_[key] = value.get<std::string>();
      continue;
    }
    std::optional<Tensor> tensor = tensor_of(entry, data);
    if (!tensor) throw error("has a damaged header, or is cut short, at tensor " + one_line(name));
    tensors_.emplace(name, std::move(*tensor));
  }
}

Error File::error(const std::string& message) const {
  return Error(one_line(path_.string()) + ": " + message);
}

const Tensor* File::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const Tensor& File::require(const std::string& name,
                            const std::vector<std::uint64_t>& shape) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) throw error("has no tensor " + name);
  if (bytes_of(tensor->type) == 0)
    throw error("tensor " + name + " is in " + one_line(tensor->type) +
                ": write it in F32, F16 or BF16");
  if (tensor->shape != shape)
    throw error("tensor " + name + " is " + shape_text(tensor->shape) + ", not " +
                shape_text(shape));
  return *tensor;
}

void read(const Tensor& tensor, std::size_t first, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (tensor.type == "F32") {
      out[i] = std::bit_cast<float>(bits_at<std::uint32_t>(tensor, first + i));
    } else {
      const auto bits = bits_at<std::uint16_t>(tensor, first + i);
      out[i] = tensor.type == "F16" ? half_to_float(bits) : bfloat16_to_float(bits);
    }
  }
}

void write(const std::string& path, const Metadata& metadata,
           const std::map<std::string, Tensor, std::less<>>& tensors) {
  json header{{"__metadata__", metadata}};
  std::size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = end;
    end += tensor.data.size();
    header[name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (std::size_t i = 0; i < length_bytes; ++i)
    length += static_cast<char>((std::uint64_t{text.size()} >> (8 * i)) & 0xFF);
  std::vector<std::string_view> parts{length, text};
  for (const auto& [name, tensor] : tensors)
    parts.emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  write_file(path, parts);
}

}  // namespace decoder::safetensors

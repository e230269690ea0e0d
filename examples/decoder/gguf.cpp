#include "gguf.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "gguf_types.hpp"
#include "one_line.hpp"

namespace decoder::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");

namespace {

constexpr std::uint64_t default_alignment = 32;
constexpr const char* damaged = "; the file is damaged, download it again";

/// Product of two counts, or false when it does not fit.
bool multiply(std::uint64_t a, std::uint64_t b, std::uint64_t& product) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return false;
  product = a * b;
  return true;
}

std::string shape_text(const std::uint64_t* first, std::size_t count) {
  std::string text = "[";
  for (std::size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ", ") + std::to_string(first[i]);
  return text + "]";
}

}  // namespace

std::string type_name(TensorType type) {
  switch (type) {
    case TensorType::F32:
      return "F32";
    case TensorType::F16:
      return "F16";
    case TensorType::Q4_0:
      return "Q4_0";
    case TensorType::Q4_1:
      return "Q4_1";
    case TensorType::Q8_0:
      return "Q8_0";
    case TensorType::Q4_K:
      return "Q4_K";
    case TensorType::Q6_K:
      return "Q6_K";
    case TensorType::BF16:
      return "BF16";
  }
  return "type " + std::to_string(static_cast<std::uint32_t>(type));
}

/// Reads a mapped file from front to back into a File.
class Parser {
 public:
  explicit Parser(File& file)
      : file_(file), data_(file.mapping_.data()), size_(file.mapping_.size()) {}

  void run() {
    const auto [tensor_count, value_count] = header();
    for (std::uint64_t i = 0; i < value_count; ++i) metadata_entry();
    for (std::uint64_t i = 0; i < tensor_count; ++i) tensor_entry();
    place_tensors();
  }

 private:
  struct Placed {
    std::uint64_t offset;
    Tensor* tensor;
  };

  std::uint64_t left() const noexcept { return size_ - at_; }

  [[noreturn]] void fail(const std::string& message) const { throw file_.error(message + damaged); }

  /// Moves past `bytes` bytes and returns where they begin.
  const std::byte* take(std::uint64_t bytes) {
    if (bytes > left()) {
      fail("ends at byte " + std::to_string(size_) + " where " + std::to_string(bytes) +
           " more bytes should follow byte " + std::to_string(at_));
    }
    const std::byte* begin = data_ + at_;
    at_ += bytes;
    return begin;
  }

  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

  std::string_view read_string() {
    const auto length = read<std::uint64_t>();
    return {reinterpret_cast<const char*>(take(length)), static_cast<std::size_t>(length)};
  }

  std::pair<std::uint64_t, std::uint64_t> header() {
    if (size_ < 4 || std::memcmp(take(4), "GGUF", 4) != 0) {
      throw file_.error("is not a GGUF file; give a model converted to GGUF");
    }
    const auto version = read<std::uint32_t>();
    if (version == 0x02000000u || version == 0x03000000u) {
      throw file_.error("is a big-endian GGUF file; convert it to little endian first");
    }
    if (version != 2 && version != 3) {
      throw file_.error("is GGUF version " + std::to_string(version) +
                        "; only 2 and 3 can be read, convert the model again");
    }
    const auto tensor_count = read<std::uint64_t>();
    return {tensor_count, read<std::uint64_t>()};
  }

  void metadata_entry() {
    const std::string_view key = read_string();
    const auto type = read<std::uint32_t>();
    if (!file_.values_.try_emplace(key, read_value(key, type)).second) {
      fail("metadata key '" + one_line(key) + "' appears twice");
    }
  }

  Value read_value(std::string_view key, std::uint32_t type) {
    switch (type) {
      case value_type::f32:
        return double{read<float>()};
      case value_type::f64:
        return read<double>();
      case value_type::boolean:
        return read<std::uint8_t>() != 0;
      case value_type::string:
        return read_string();
      case value_type::array:
        return read_array(key);
      default:
        return read_whole(key, type);
    }
  }

  Value read_whole(std::string_view key, std::uint32_t type) {
    switch (type) {
      case value_type::u8:
        return std::uint64_t{read<std::uint8_t>()};
      case value_type::u16:
        return std::uint64_t{read<std::uint16_t>()};
      case value_type::u32:
        return std::uint64_t{read<std::uint32_t>()};
      case value_type::u64:
        return read<std::uint64_t>();
      case value_type::i8:
        return std::int64_t{read<std::int8_t>()};
      case value_type::i16:
        return std::int64_t{read<std::int16_t>()};
      case value_type::i32:
        return std::int64_t{read<std::int32_t>()};
      case value_type::i64:
        return read<std::int64_t>();
      default:
        break;
    }
    fail("metadata key '" + one_line(key) + "' has unknown type " + std::to_string(type));
  }

  Array read_array(std::string_view key) {
    Array array;
    array.element_type = read<std::uint32_t>();
    array.count = read<std::uint64_t>();
    const bool strings = array.element_type == value_type::string;
    // A string takes at least the 8 bytes of its length, so the check also bounds the allocation.
    const std::size_t element = strings ? 8 : value_bytes(array.element_type);
    check_array(key, array, element);
    if (!strings) {
      array.data = take(array.count * element);
      return array;
    }
    array.strings.reserve(array.count);
    for (std::uint64_t i = 0; i < array.count; ++i) array.strings.push_back(read_string());
    return array;
  }

  void check_array(std::string_view key, const Array& array, std::size_t element) const {
    const std::string name = "metadata key '" + one_line(key) + "'";
    if (element == 0) {
      fail(name + " is an array of type " + std::to_string(array.element_type) +
           ", which is unknown or nested");
    }
    if (array.count > left() / element) {
      fail(name + " claims " + std::to_string(array.count) +
           " elements, more than the file can hold");
    }
  }

  void tensor_entry() {
    Tensor tensor;
    tensor.name = read_string();
    tensor.shape = read_shape(tensor.name);
    tensor.type = static_cast<TensorType>(read<std::uint32_t>());
    tensor.bytes = tensor_bytes(tensor);
    const auto offset = read<std::uint64_t>();
    std::string name = tensor.name;
    const auto [entry, fresh] = file_.tensors_.try_emplace(std::move(name), std::move(tensor));
    if (!fresh) fail("tensor '" + one_line(entry->first) + "' appears twice");
    placed_.push_back({offset, &entry->second});
  }

  std::vector<std::uint64_t> read_shape(std::string_view name) {
    const auto dimensions = read<std::uint32_t>();
    if (dimensions < 1 || dimensions > 4) {
      fail("tensor '" + one_line(name) + "' has " + std::to_string(dimensions) +
           " dimensions, not 1 to 4");
    }
    std::vector<std::uint64_t> shape(dimensions);
    std::uint64_t elements = 1;
    for (std::uint64_t& extent : shape) {
      extent = read<std::uint64_t>();
      if (extent == 0 || !multiply(elements, extent, elements)) {
        fail("tensor '" + one_line(name) + "' has an impossible dimension " +
             std::to_string(extent));
      }
    }
    return shape;
  }

  /// Bytes by shape and type, 0 for a type this decoder does not know.
  std::size_t tensor_bytes(const Tensor& tensor) const {
    const BlockLayout layout = block_layout(tensor.type);
    if (layout.elements == 0) return 0;
    if (tensor.shape[0] % layout.elements != 0) {
      fail("tensor '" + one_line(tensor.name) + "' has rows of " + std::to_string(tensor.shape[0]) +
           " elements, which " + type_name(tensor.type) + " blocks do not fill");
    }
    std::uint64_t bytes = 0;
    if (!multiply(tensor.shape[0] / layout.elements * tensor.rows(), layout.bytes, bytes)) {
      fail("tensor '" + one_line(tensor.name) + "' is larger than memory");
    }
    return bytes;
  }

  std::uint64_t alignment() const {
    const std::uint64_t bytes = file_.integer("general.alignment", default_alignment);
    if (bytes < 8 || bytes > (std::uint64_t{1} << 30) || !std::has_single_bit(bytes)) {
      fail("general.alignment is " + std::to_string(bytes) + ", not a power of two from 8 to 2^30");
    }
    return bytes;
  }

  void place_tensors() {
    const std::uint64_t unit = alignment();
    // Below 2^63 + 2^30, so rounding up cannot wrap.
    const std::uint64_t begin = (at_ + unit - 1) / unit * unit;
    const std::uint64_t room = begin < size_ ? size_ - begin : 0;
    for (const Placed& item : placed_) check_place(item, unit, room);
    std::sort(placed_.begin(), placed_.end(), [](const Placed& a, const Placed& b) {
      return std::pair(a.offset, a.tensor->bytes) < std::pair(b.offset, b.tensor->bytes);
    });
    const Placed* before = nullptr;
    for (const Placed& item : placed_) {
      if (item.tensor->bytes == 0) continue;
      if (before != nullptr && before->offset + before->tensor->bytes > item.offset) {
        fail("tensors '" + one_line(before->tensor->name) + "' and '" +
             one_line(item.tensor->name) + "' overlap");
      }
      item.tensor->data = data_ + begin + item.offset;
      before = &item;
    }
  }

  void check_place(const Placed& item, std::uint64_t unit, std::uint64_t room) const {
    const std::string name = "tensor '" + one_line(item.tensor->name) + "'";
    if (item.offset % unit != 0) {
      fail(name + " starts at " + std::to_string(item.offset) + ", not a multiple of " +
           std::to_string(unit));
    }
    if (item.offset > room || item.tensor->bytes > room - item.offset) {
      fail(name + " reaches beyond the end of the file");
    }
  }

  File& file_;
  const std::byte* data_;
  std::uint64_t size_;
  std::uint64_t at_ = 0;
  std::vector<Placed> placed_;
};

File File::open(const std::filesystem::path& path) { return File(path, FileMapping(path)); }

File File::in_memory(std::span<const std::byte> bytes, const std::filesystem::path& name) {
  return File(name, FileMapping(bytes));
}

File::File(const std::filesystem::path& path, FileMapping mapping)
    : path_(path), mapping_(std::move(mapping)) {
  Parser(*this).run();
}

const Tensor* File::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return nullptr;
  const Tensor& tensor = found->second;
  if (block_layout(tensor.type).elements != 0) return &tensor;
  throw error("tensor '" + one_line(name) + "' is of " + type_name(tensor.type) +
              ", which is not supported; use a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K "
              "or Q6_K");
}

const Tensor& File::require(std::string_view name,
                            std::initializer_list<std::uint64_t> shape) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) {
    throw error("tensor '" + one_line(name) +
                "' is missing; convert the whole model again, or choose another file");
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    throw error("tensor '" + one_line(name) + "' has shape " +
                shape_text(tensor->shape.data(), tensor->shape.size()) +
                " where its metadata asks for " + shape_text(shape.begin(), shape.size()) +
                "; convert the model again");
  }
  return *tensor;
}

Error File::error(std::string_view message) const {
  return Error(without_controls(path_.string() + ": " + std::string(message)));
}

}  // namespace decoder::gguf

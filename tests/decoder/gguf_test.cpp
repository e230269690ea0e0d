#include "gguf.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "chat.hpp"
#include "expect_error.hpp"
#include "gguf_writer.hpp"
#include "tokenizer.hpp"

namespace {

using namespace decoder;
using gguf::TensorType;
using test::Bytes;
using test::GgufWriter;

constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();

std::vector<std::byte> pattern(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 37 + 11);
  return bytes;
}

/// The message with which opening fails, checked to be one line that names the file; none when it
/// opens.
std::optional<std::string> failure(const std::vector<std::byte>& bytes) {
  const test::TemporaryFile file(bytes);
  try {
    gguf::File::open(file.path());
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.starts_with(file.path().string() + ": "));
    CHECK(message.find('\n') == message.npos);
    return message;
  }
  return std::nullopt;
}

void check_refused(const std::vector<std::byte>& bytes, std::string_view why) {
  const auto message = failure(bytes);
  REQUIRE(message);
  INFO(*message);
  CHECK(message->find(why) != message->npos);
}

void check_refused(const GgufWriter& writer, std::string_view why) {
  check_refused(writer.bytes(), why);
}

Bytes header(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
  Bytes out;
  out.raw("GGUF").put(version).put(tensors).put(values);
  return out;
}

GgufWriter with_tokenizer() {
  GgufWriter writer;
  writer.string("general.architecture", "llama").integer("llama.block_count", 2);
  test::add_byte_level_tokenizer(writer, "smollm", {"a b"}, {"<|im_end|>"});
  return writer.string("tokenizer.chat_template", "<|im_start|>");
}

}  // namespace

TEST_CASE("metadata of every type is read") {
  GgufWriter writer;
  writer.plain("u8", 0, std::uint8_t{200})
      .plain("i8", 1, std::int8_t{-5})
      .plain("u16", 2, std::uint16_t{60000});
  writer.plain("i16", 3, std::int16_t{-300})
      .integer("u32", 4000000000u)
      .plain("i32", 5, std::int32_t{-7});
  writer.number("f32", 0.5f)
      .boolean("yes", true)
      .boolean("no", false)
      .string("text", "h\xC3\xA9llo");
  writer.plain("u64", 10, huge).plain("i64", 11, std::int64_t{-1}).plain("f64", 12, 0.1);
  writer.strings("names", {"a", "", "ccc"})
      .integers("ids", {3, -4})
      .numbers("scores", {1.5f, -2.f});
  writer.plain("positive", 11, std::int64_t{9}).plain("nan", 12, std::nan(""));
  const gguf::File file = test::open_bytes(writer.bytes());

  CHECK(file.integer("u8") == 200);
  CHECK(file.integer("u16") == 60000);
  CHECK(file.integer("u32") == 4000000000u);
  CHECK(file.integer("u64") == huge);
  CHECK(file.integer("positive") == 9);
  CHECK(file.number("i8") == -5);
  CHECK(file.number("i16") == -300);
  CHECK(file.number("i32") == -7);
  CHECK(file.number("f32") == 0.5);
  CHECK(file.number("f64") == 0.1);
  CHECK(file.number("u8") == 200);
  CHECK(file.boolean("yes", false));
  CHECK_FALSE(file.boolean("no", true));
  CHECK(file.string("text") == "h\xC3\xA9llo");
  CHECK(file.strings("names") == std::vector<std::string_view>{"a", "", "ccc"});
  CHECK(file.integers("ids") == std::vector<std::int32_t>{3, -4});
  CHECK(file.numbers("scores") == std::vector<float>{1.5f, -2.f});
  CHECK(file.has("u8"));
  CHECK_FALSE(file.has("u9"));
}

TEST_CASE("absent metadata gives the fallback, and metadata of another kind never does") {
  GgufWriter writer;
  writer.string("text", "x").plain("negative", 11, std::int64_t{-1}).plain("nan", 12, std::nan(""));
  const gguf::File file = test::open_bytes(writer.bytes());
  CHECK(file.integer("none", 5) == 5);
  CHECK(file.number("none", 2.5) == 2.5);
  CHECK(file.boolean("none", true));
  CHECK(file.string("none", "d") == "d");
  CHECK_THROWS_AS(file.integer("none"), Error);
  CHECK_THROWS_AS(file.number("none"), Error);
  CHECK_THROWS_AS(file.string("none"), Error);
  CHECK_THROWS_AS(file.strings("none"), Error);
  CHECK_THROWS_AS(file.integers("none"), Error);
  CHECK_THROWS_AS(file.numbers("none"), Error);
  CHECK_THROWS_AS(file.integer("text", 5), Error);
  CHECK_THROWS_AS(file.integer("negative", 5), Error);
  CHECK_THROWS_AS(file.number("nan", 1), Error);
  CHECK_THROWS_AS(file.number("text", 1), Error);
  CHECK_THROWS_AS(file.boolean("text", true), Error);
  CHECK_THROWS_AS(file.string("nan", "d"), Error);
  CHECK_THROWS_AS(file.strings("text"), Error);
  CHECK_THROWS_AS(file.integers("text"), Error);
  CHECK_THROWS_AS(file.numbers("text"), Error);
}

TEST_CASE("whole numbers of arrays of any width must fit 32 bits") {
  GgufWriter writer;
  writer.numbers_of<std::uint8_t>("u8", 0, {255}).numbers_of<std::int8_t>("i8", 1, {-128});
  writer.numbers_of<std::uint16_t>("u16", 2, {65535}).numbers_of<std::int16_t>("i16", 3, {-2});
  writer.numbers_of<std::uint32_t>("u32", 4, {7, 0x80000000u})
      .numbers_of<std::int64_t>("i64", 11, {-9});
  writer.numbers_of<std::uint64_t>("u64", 10, {huge}).numbers_of<double>("f64", 12, {1.0});
  const gguf::File file = test::open_bytes(writer.bytes());
  CHECK(file.integers("u8") == std::vector<std::int32_t>{255});
  CHECK(file.integers("i8") == std::vector<std::int32_t>{-128});
  CHECK(file.integers("u16") == std::vector<std::int32_t>{65535});
  CHECK(file.integers("i16") == std::vector<std::int32_t>{-2});
  CHECK(file.integers("i64") == std::vector<std::int32_t>{-9});
  CHECK_THROWS_AS(file.integers("u32"), Error);
  CHECK_THROWS_AS(file.integers("u64"), Error);
  CHECK_THROWS_AS(file.integers("f64"), Error);
  CHECK_THROWS_AS(file.numbers("f64"), Error);
}

TEST_CASE("tensors of every type are found where they lie") {
  struct Case {
    TensorType type;
    std::size_t bytes;
  };
  // Bytes of 2 rows of 256 elements, from the formats' definitions.
  const std::array cases{Case{TensorType::F32, 2048},  Case{TensorType::F16, 1024},
                         Case{TensorType::BF16, 1024}, Case{TensorType::Q8_0, 544},
                         Case{TensorType::Q4_0, 288},  Case{TensorType::Q4_1, 320},
                         Case{TensorType::Q4_K, 288},  Case{TensorType::Q6_K, 420}};
  GgufWriter writer;
  for (const Case& one : cases)
    writer.tensor(type_name(one.type), one.type, {256, 2}, pattern(one.bytes));
  for (const std::uint32_t version : {2u, 3u}) {
    const gguf::File file = test::open_bytes(writer.bytes(version));
    CHECK(file.tensors().size() == cases.size());
    for (const Case& one : cases) {
      const gguf::Tensor& tensor = file.require(type_name(one.type), {256, 2});
      const auto expected = pattern(one.bytes);
      CHECK(tensor.type == one.type);
      CHECK(tensor.bytes == one.bytes);
      CHECK(tensor.row_bytes() * tensor.rows() == one.bytes);
      CHECK(std::equal(expected.begin(), expected.end(), tensor.data));
      CHECK(reinterpret_cast<std::uintptr_t>(tensor.data) % 32 == 0);
    }
  }
}

TEST_CASE(
    "a tensor that is absent, of another shape or of an unsupported type is refused when asked "
    "for") {
  GgufWriter writer;
  writer.tensor("good", TensorType::F32, {4, 2}, pattern(32));
  writer.tensor_at("odd", 20, {huge}, 32, pattern(32));
  const gguf::File file = test::open_bytes(writer.bytes());
  CHECK(file.find("good") != nullptr);
  CHECK(file.find("none") == nullptr);
  CHECK_THROWS_AS(file.find("odd"), Error);
  CHECK_THROWS_AS(file.require("odd", {huge}), Error);
  CHECK_THROWS_AS(file.require("none", {4, 2}), Error);
  CHECK_THROWS_AS(file.require("good", {2, 4}), Error);
  CHECK_THROWS_AS(file.require("good", {4}), Error);
  CHECK_THROWS_AS(file.require("good", {4, 2, 1}), Error);
  CHECK(file.tensors().at("odd").data == nullptr);
  CHECK(file.tensors().at("odd").bytes == 0);
}

TEST_CASE("a moved file keeps its mapping") {
  gguf::File first = test::open_bytes(with_tokenizer().bytes());
  const gguf::File second = std::move(first);
  CHECK(second.string("general.architecture") == "llama");
  CHECK(second.strings("tokenizer.ggml.tokens").size() == 258);
}

TEST_CASE("what is no GGUF file is refused") {
  CHECK_THROWS_AS(gguf::File::open("/nonexistent/model.gguf"), Error);
  test::check_error([&] { gguf::File::open(std::filesystem::temp_directory_path()); },
                    "is a directory");
  test::check_error([&] { gguf::File::open("/dev/null"); }, "not a regular file");
  check_refused(std::vector<std::byte>{}, "is empty");
  check_refused(Bytes().raw("GG").data(), "not a GGUF file");
  check_refused(Bytes().raw("PK\x03\x04 something else").data(), "not a GGUF file");
  check_refused(header(0, 0, 1).data(), "version 1");
  check_refused(header(0, 0, 4).data(), "version 4");
  check_refused(header(0, 0, 0x03000000).data(), "big-endian");
  CHECK_FALSE(failure(header(0, 0).data()));
}

TEST_CASE("counts and lengths beyond the file are refused") {
  check_refused(header(huge, 0).data(), "ends at byte");
  check_refused(header(0, huge).data(), "ends at byte");
  check_refused(header(0, 1).put(huge).data(), "ends at byte");
  check_refused(header(0, 1).put(std::uint64_t{1} << 63).raw("key").data(), "ends at byte");
  check_refused(header(0, 1).string("k").put(8u).put(huge - 3).raw("text").data(), "ends at byte");
  for (const std::uint32_t element : {0u, 4u, 8u, 10u}) {
    for (const std::uint64_t count : {huge, huge / 8 + 1, std::uint64_t{1} << 40}) {
      check_refused(header(0, 1).string("k").put(9u).put(element).put(count).raw("12345678").data(),
                    "more than the file can hold");
    }
  }
}

TEST_CASE("metadata of unknown or nested type, or given twice, is refused") {
  check_refused(header(0, 1).string("k").put(13u).put(0u).data(), "unknown type 13");
  check_refused(
      header(0, 1).string("k").put(9u).put(9u).put(std::uint64_t{1}).put(4u).put(huge).data(),
      "unknown or nested");
  check_refused(header(0, 1).string("k").put(9u).put(99u).put(std::uint64_t{0}).data(),
                "unknown or nested");
  check_refused(GgufWriter().integer("k", 1).string("k", "x"), "'k' appears twice");
}

TEST_CASE("control characters of hostile names do not reach the message") {
  GgufWriter writer;
  writer.integer("a\n\x1b[31mb", 1).integer("a\n\x1b[31mb", 1);
  check_refused(writer, "'a??[31mb' appears twice");
  const gguf::File file = test::open_bytes(test::GgufWriter().bytes());
  CHECK(std::string(file.error("architecture 'a\nb'").what()).ends_with("'a?b'"));
  check_refused(GgufWriter().plain(std::string(100000, 'x'), 77, 0), "...");
}

TEST_CASE("impossible tensor shapes are refused") {
  const auto one = [](const std::vector<std::uint64_t>& shape, TensorType type = TensorType::F32) {
    return GgufWriter().tensor("t", type, shape, pattern(64));
  };
  check_refused(one({}), "0 dimensions");
  check_refused(one({1, 1, 1, 1, 1}), "5 dimensions");
  check_refused(one({0}), "impossible dimension 0");
  check_refused(one({4, 0}), "impossible dimension 0");
  check_refused(one({huge, 2}), "impossible dimension");
  check_refused(one({1u << 31, 1u << 31, 1u << 31}), "impossible dimension");
  check_refused(one({huge}), "larger than memory");
  check_refused(one({std::uint64_t{1} << 62}), "larger than memory");
  check_refused(one({31}, TensorType::Q4_0), "do not fill");
  check_refused(one({128, 2}, TensorType::Q4_K), "do not fill");
  check_refused(GgufWriter()
                    .tensor("t", TensorType::F32, {1}, pattern(4))
                    .tensor("t", TensorType::F32, {1}, pattern(4)),
                "'t' appears twice");
}

TEST_CASE("tensor data outside the file, misaligned or overlapping are refused") {
  const auto at = [](std::uint64_t offset, std::uint64_t elements = 8) {
    return GgufWriter().tensor_at("t", 0, {elements}, offset, pattern(64));
  };
  CHECK_FALSE(failure(at(32).bytes()));
  check_refused(at(64), "beyond the end");
  check_refused(at(32, 9), "beyond the end");
  check_refused(at(0, 17), "beyond the end");
  check_refused(at(huge - 31), "beyond the end");
  check_refused(at(std::uint64_t{1} << 63), "beyond the end");
  check_refused(at(4), "not a multiple of 32");
  check_refused(at(0).tensor_at("u", 0, {8}, 0, {}), "overlap");
  check_refused(at(0, 9).tensor_at("u", 0, {8}, 32, {}), "overlap");
}

TEST_CASE("the alignment key moves the data and must make sense") {
  const auto with = [](std::uint32_t value, std::size_t alignment) {
    GgufWriter writer(alignment);
    return writer.integer("general.alignment", value).tensor("t", TensorType::F32, {2}, pattern(8));
  };
  for (const std::uint32_t alignment : {8u, 64u, 4096u}) {
    const gguf::File file = test::open_bytes(with(alignment, alignment).bytes());
    const auto expected = pattern(8);
    CHECK(std::equal(expected.begin(), expected.end(), file.require("t", {2}).data));
  }
  for (const std::uint32_t alignment : {0u, 1u, 4u, 24u, 0xFFFFFFFFu, 0x80000000u}) {
    check_refused(with(alignment, 32), "general.alignment is");
  }
  check_refused(GgufWriter().string("general.alignment", "32"), "general.alignment");
}

TEST_CASE("a file cut anywhere is refused") {
  GgufWriter writer = with_tokenizer();
  writer.tensor("a", TensorType::Q8_0, {32, 2}, pattern(68))
      .tensor("b", TensorType::F32, {3}, pattern(12));
  const std::vector<std::byte> whole = writer.bytes();
  REQUIRE_FALSE(failure(whole));
  std::size_t opened = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    opened += failure({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}) ? 0 : 1;
  }
  CHECK(opened == 0);
}

TEST_CASE("a file with any byte changed opens or is refused, and so does all that reads it") {
  GgufWriter writer = with_tokenizer();
  writer.tensor("a", TensorType::Q8_0, {32, 2}, pattern(68))
      .tensor("b", TensorType::F32, {3}, pattern(12));
  const std::vector<std::byte> whole = writer.bytes();
  std::size_t refused = 0;
  std::size_t accepted = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const unsigned mask : {0x01u, 0x80u, 0xFFu}) {
      std::vector<std::byte> changed = whole;
      changed[at] ^= static_cast<std::byte>(mask);
      try {
        const gguf::File file = test::open_bytes(changed);
        const Tokenizer tokenizer(file);
        tokenizer.decode(tokenizer.encode("abc <|im_end|> 12\n", true));
        apply_chat_template(file, "hello");
        ++accepted;
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 0);
  CHECK(accepted > 0);
}

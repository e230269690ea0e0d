// Feeds bytes to everything that reads a model file before its weights are used: whatever they are,
// the answer is a result or decoder::Error.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "chat.hpp"
#include "error.hpp"
#include "gguf.hpp"
#include "model_config.hpp"
#include "tokenizer.hpp"

namespace {

using namespace decoder;

/// A file in memory that the reader can map by its path.
const std::string& file_with(const std::uint8_t* data, std::size_t size) {
  static const int descriptor = ::memfd_create("gguf", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  if (::ftruncate(descriptor, 0) != 0) std::abort();
  if (::pwrite(descriptor, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  return path;
}

/// Reads every byte of every tensor, so that one outside the mapping is seen.
std::size_t touch(const gguf::File& file) {
  std::size_t sum = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    if (tensor.data == nullptr) continue;
    if (tensor.row_bytes() * tensor.rows() != tensor.bytes) std::abort();
    for (std::size_t i = 0; i < tensor.bytes; ++i)
      sum += std::to_integer<std::size_t>(tensor.data[i]);
  }
  return sum;
}

void use_tokenizer(const gguf::File& file) {
  const Tokenizer tokenizer(file);
  const std::string text = "Hi  there 123\n\t<|im_end|> \xC3\xA9\xE2\x82\xAC \xFF don't";
  for (const bool special : {false, true}) {
    const std::vector<std::int32_t> ids = tokenizer.encode(text, special);
    tokenizer.decode(ids);
    for (const std::int32_t id : ids) tokenizer.is_end(id);
  }
  tokenizer.encode_prompt(text);
}

/// Runs one reader; a refusal by Error is as good as success, anything else ends the process.
template <class Read>
void attempt(Read read) {
  try {
    read();
  } catch (const Error& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& path = file_with(data, size);
  attempt([&] {
    const gguf::File file = gguf::File::open(path);
    touch(file);
    attempt([&] { use_tokenizer(file); });
    attempt([&] {
      apply_chat_template(file, "hello", "be brief");
      later_chat_turn(file, "more");
    });
    attempt([&] { ModelConfig::read(file); });
  });
  return 0;
}

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace cuda_decode {

/// `cuda_decode time`.
struct TimeOptions {
  std::string model = "llama-3.1-8b";
  std::vector<std::uint32_t> batches{1, 4, 16, 64};
  std::vector<std::uint32_t> contexts{2048, 8192, 16384, 32768, 65536};
  std::uint32_t bound = 2048;  ///< a quarter of 8k
  std::uint32_t room = 16;     ///< few launches for rounds, little of the bound unused
  std::uint32_t steps = 64;    ///< some tenths of a second
  std::string json{};          ///< empty: none
};

/// `cuda_decode generate`.
struct GenerateOptions {
  std::string model{};  ///< empty: the embedded reasoner
  std::string prompt{};
  std::string policy = "none";
  std::string budget = "25%";  ///< as for `decoder generate`
  std::string numbers = "fp32";
  std::size_t tokens = 256;
  bool is_raw = false;
};

/// `cuda_decode check`.
struct CheckOptions {
  std::string model{};
  std::size_t budget = 128;  ///< a fraction of what is read, so that rounds come
  std::size_t tokens = 200;
  std::uint32_t batch = 4;
  std::string numbers = "fp32";
  std::string json{};
};

/// Adds a command's options to the parser; they are filled in when it parses.
void add_options(CLI::App& app, TimeOptions& options);
void add_options(CLI::App& app, GenerateOptions& options);
void add_options(CLI::App& app, CheckOptions& options);

}  // namespace cuda_decode

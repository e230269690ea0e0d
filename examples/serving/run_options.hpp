#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
}

namespace serving {

/// `serving run`.
struct RunOptions {
  std::string model;     ///< a GGUF file; empty: the embedded reasoner
  std::string text;      ///< a file whose pieces are the prompts; empty: programs for the reasoner
  unsigned threads = 0;  ///< 0: one per core
  std::size_t requests = 24;
  double rate = 10;                                     ///< arrivals a second
  std::pair<std::size_t, std::size_t> input{100, 400};  ///< tokens of a prompt, least and most
  std::pair<std::size_t, std::size_t> output{30, 80};   ///< tokens that are generated
  std::uint64_t seed = 1;
  std::size_t blocks = 60;        ///< of 16 tokens in all layers, on the device
  std::size_t host_blocks = 400;  ///< the same, on the host
  double link_gigabytes = 1;      ///< a second, each way
  std::size_t sequences = 16;     ///< in a step
  std::size_t batch_tokens = 512;
  double each_token = 0.2;       ///< the TPOT that layerkv's admission keeps to
  std::string pruner = "lethe";  ///< as the decoder's --policy; of the policies that prune
  std::size_t bound = 128;       ///< most tokens of a layer there
  std::vector<std::string> policies{"unlimited", "vllm", "layerkv"};
  std::string json;
};

void add_options(CLI::App& app, RunOptions& options);

}  // namespace serving

#include "shared_prefixes.hpp"

#include <algorithm>

#include "csv.hpp"
#include "workloads.hpp"

namespace serving {

std::span<const SharedPrefix> known_prefixes(std::string_view dataset) {
  if (dataset == sharegpt_300_hash) return sharegpt_300_prefixes;
  return {};
}

std::vector<SharedPrefix> read_shared_prefixes(const std::string& path, const Trace& trace) {
  CsvReader csv(path);
  const std::size_t request = csv.column("request");
  const std::size_t continues = csv.column("continues");
  const std::size_t tokens = csv.column("tokens");
  std::vector<SharedPrefix> shared;
  std::size_t least = 2;
  while (csv.next()) {
    const std::size_t later = csv.count(request, least, trace.requests.size());
    const std::size_t earlier = csv.count(continues, 1, later - 1);
    const std::size_t most =
        std::min(trace.requests[later - 1].input, trace.requests[earlier - 1].input);
    const std::size_t count = csv.count(tokens, 1, most);
    shared.push_back({static_cast<std::uint32_t>(later), static_cast<std::uint32_t>(earlier),
                      static_cast<std::uint32_t>(count)});
    least = later + 1;
  }
  return shared;
}

bool are_of(std::span<const SharedPrefix> shared, const Trace& trace) {
  const auto is_long_enough = [&](std::uint32_t request, std::uint32_t tokens) {
    return request <= trace.requests.size() && tokens <= trace.requests[request - 1].input;
  };
  return std::all_of(shared.begin(), shared.end(), [&](const SharedPrefix& each) {
    return is_long_enough(each.request, each.tokens) && is_long_enough(each.continues, each.tokens);
  });
}

void share_prefixes(std::span<const SharedPrefix> shared, std::size_t block_tokens, Trace& trace) {
  trace.hashes.clear();
  trace.hash_tokens = block_tokens;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    Request& request = trace.requests[i];
    request.first_hash = static_cast<std::uint32_t>(trace.hashes.size());
    request.hashes = static_cast<std::uint32_t>(request.input / block_tokens);
    if (!shared.empty() && shared.front().request == i + 1) {
      const std::size_t from = trace.requests[shared.front().continues - 1].first_hash;
      for (std::size_t block = 0; block < shared.front().tokens / block_tokens; ++block)
        trace.hashes.push_back(trace.hashes[from + block]);
      shared = shared.subspan(1);
    }
    // What it shares with none before it: a number that nothing else has.
    while (trace.hashes.size() < request.first_hash + request.hashes)
      trace.hashes.push_back(trace.hashes.size());
  }
}

}  // namespace serving

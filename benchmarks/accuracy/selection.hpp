/// Which cells and problems a run works through.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "bench.hpp"

namespace accuracy {

/// Whether the prompt is pinned.
enum class Pin : std::uint8_t { off, on, both };

/// Models x tasks x policies x budgets, and the problems of each task.
struct Selection {
  /// The model's name in the rows.
  std::string model{};
  /// By default those that the decoder's own reasoner has learned.
  std::vector<std::string> tasks{"loop", "once", "recall", "interleaved", "lookalike", "stack"};
  /// Tokens of a context.
  std::vector<std::size_t> lengths{1024};
  /// Beside the whole cache, which always runs; "none": nothing beside it.
  std::vector<std::string> policies{"oracle", "attention-oracle", "lethe",  "h2o",         "tova",
                                    "snapkv", "streaming",        "random", "supersession"};
  /// Percent of a problem's symbols that a layer may hold.
  std::vector<double> budgets{10, 25, 50};
  Pin pin = Pin::both;
  std::size_t problems = 100;
  std::uint64_t first_seed = 0;
  Feeding feeding = Feeding::own;
  /// Problems of quick_size rather than evaluated_size.
  bool is_quick = false;
};

/// Fewer tokens hold no sixteen questions and their examples; for more, there are too few names.
inline constexpr std::size_t shortest_context = 800, longest_context = 4096;

/// A selection that ends within a minute: every task, two budgets, four policies, few and small
/// problems. Shows that all works; says little about the policies.
[[nodiscard]] Selection quick_selection(Selection selection);

/// Throws decoder::Error for an unknown task or policy, and for a budget out of range.
void check(const Selection& selection);

/// Every cell, the whole cache first.
[[nodiscard]] std::vector<Cell> cells_of(const Selection& selection);

/// "i/n": this process takes every n-th job from the i-th on.
struct Shard {
  std::size_t index = 0;
  std::size_t count = 1;
};

/// Throws decoder::Error for anything but i/n with i below n.
[[nodiscard]] Shard parse_shard(const std::string& text);

/// The shard's jobs, each once, without those whose keys are in `done` and those whose pinned
/// prompt leaves no room for anything else.
[[nodiscard]] std::vector<Job> jobs_of(const Selection& selection, const Shard& shard,
                                       std::unordered_set<std::string> done);

}  // namespace accuracy

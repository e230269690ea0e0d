/// One problem, worked through by a model under a policy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "decoder.hpp"
#include "problems.hpp"

namespace accuracy {

/// Who says how a text goes on after a symbol that the model has produced.
enum class Feeding : std::uint8_t {
  /// The model itself: an error stays in the text, as in use.
  own,
  /// The problem: every place is judged by itself.
  truth,
};

/// A lookup: how far back its value was last stated, and whether the model found it.
struct Lookup {
  std::size_t gap = 0;
  bool is_right = false;
};

/// What came of a problem.
struct Attempt {
  std::vector<Lookup> answers;
  std::vector<Lookup> steps;
  std::size_t produced = 0;
  std::size_t right = 0;
  /// Index of the first wrong symbol.
  std::optional<std::size_t> first_error;
  /// Tokens a layer held, mean over layers and steps, and at most.
  double mean_kept = 0;
  std::size_t peak_kept = 0;
  /// Resident bytes of the cache after a step, at most.
  std::size_t peak_bytes = 0;
  /// Wall seconds.
  double seconds = 0;

  /// Whether every answer is right.
  [[nodiscard]] bool is_solved() const;
};

/// Works through a problem: given symbols are read, the others produced greedily.
/// sequence: empty, with its policy; decoder: of a model with this vocabulary.
[[nodiscard]] Attempt attempt(decoder::Decoder& decoder, decoder::Sequence& sequence,
                              const Problem& problem, Feeding feeding);

/// For each symbol, the index of the last one that is produced from it; its own index when none is.
/// A program's text is needed to the end, the count of rounds until the next, a value until it is
/// overwritten or last asked for, an instruction in hand until it is done. What an oracle keeps.
[[nodiscard]] std::vector<std::uint32_t> last_needs(const Problem& problem);

/// The same as an oracle is told it: each token is looked at once, when it is last needed.
[[nodiscard]] decoder::FutureLooks looks_needed(const Problem& problem, std::size_t layers);

}  // namespace accuracy

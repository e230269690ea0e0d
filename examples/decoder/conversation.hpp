#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "workbench.hpp"

namespace decoder {

/// What a user says, turn after turn, so that a long text is a talk and not one stretched answer.
struct Conversation {
  std::vector<std::int32_t> prompt;              ///< the first turn, up to where the model answers
  std::vector<std::vector<std::int32_t>> turns;  ///< each is read after an answer, in a cycle
  std::size_t longest_answer = 192;  ///< tokens; small models loop in long answers, not in short
  std::string first;                 ///< the first turn's words
  std::string note;                  ///< what to tell about the prompt; empty: nothing
};

/// The talk that a comparison is made on.
///
/// @param first  the first turn's words; empty: a built-in talk whose later turns need the earlier
/// @param is_raw take the first turn as it is, without the chat template
/// @return without follow-up turns where no chat template is used: the text goes on instead
Conversation make_conversation(const Workbench& bench, const std::string& first, bool is_raw);

}  // namespace decoder

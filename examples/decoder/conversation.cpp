#include "conversation.hpp"

#include <array>
#include <span>

#include "chat.hpp"
#include "embedded_model.hpp"

namespace decoder {
namespace {

constexpr std::array<const char*, 8> built_in{
    "My sister Ana, her dog Rufus and I will walk along the coast for a week. What should we pack, "
    "and why?",
    "Write a plan for the seven days, one paragraph for each day.",
    "Which of these days will Ana like best, and which one will Rufus like best?",
    "Write a letter from Ana to her mother about the second day.",
    "Go back to what we should pack, and give me a shorter list.",
    "Tell the whole week as a short story in which Rufus gets lost and is found again.",
    "What could go wrong on each of the seven days, and what should we do then?",
    "Write a poem about Rufus on the last day."};

constexpr std::array<const char*, 3> follow_ups{
    "Please go on.", "Tell me more about what you said first.",
    "Sum up what you have said so far, and then go on."};

std::vector<std::int32_t> turn_of(const Workbench& bench, const char* words) {
  return bench.tokenizer.encode(later_chat_turn(bench.model.file(), words), true);
}

}  // namespace

Conversation make_conversation(const Workbench& bench, const std::string& first, bool is_raw) {
  const bool is_built_in = first.empty();
  Conversation talk;
  talk.first = !is_built_in        ? first
               : bench.is_embedded ? std::string(embedded_prompt)
                                   : built_in.front();
  talk.prompt = encode_prompt(bench, talk.first, false, is_raw);
  talk.note = prompt_note(bench, talk.first, false, is_raw);
  if (is_raw || chat_template_of(bench.model.file()) != ChatTemplate::known) return talk;
  const auto later = is_built_in ? std::span<const char* const>(built_in).subspan(1)
                                 : std::span<const char* const>(follow_ups);
  for (const char* words : later) talk.turns.push_back(turn_of(bench, words));
  return talk;
}

}  // namespace decoder

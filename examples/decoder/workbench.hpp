#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "decoder.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "tokenizer.hpp"

namespace decoder {

/// The model's file; the embedded one where no name is given.
gguf::File open_model(const std::string& file);

/// A model ready to run: what every command starts from. It stays where it is made.
struct Workbench {
  /// Opens the model, the embedded one without a file; throws Error when it cannot be used.
  explicit Workbench(const ModelOptions& options);
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  Model model;
  Tokenizer tokenizer;
  Decoder decoder;
  CacheType cache_type;
  std::vector<std::int32_t> ends;  ///< tokens that end a text
  bool is_embedded;                ///< the model is the program's own

  /// Name, shape and storage of the model, for the results.
  nlohmann::json describe() const;
};

/// A policy of a run, and what it may keep.
struct PolicyChoice {
  std::string policy;        ///< as on the command line; "none" keeps everything
  std::size_t budget = 0;    ///< tokens per layer; unused by "none"
  std::size_t pinned = 0;    ///< first tokens that are never evicted
  std::size_t capacity = 0;  ///< most tokens the run will see
  std::uint64_t seed = 1;    ///< of the random policy
};

/// An empty sequence under a policy.
///
/// @throws Error for an unknown policy or a budget below the protected tokens, or without memory
Sequence make_sequence(const Workbench& bench, const PolicyChoice& choice);

/// Appends tokens in pieces, so that a long prompt shows progress and hears Ctrl-C.
///
/// @return logits of the last token read, valid until the next call
std::span<const float> read_tokens(Workbench& bench, Sequence& sequence,
                                   std::span<const std::int32_t> tokens, Progress& progress);

/// Throws Error when a run of so many tokens does not fit the model's context.
void check_context(const Workbench& bench, std::size_t prompt, std::size_t generated);

/// What to tell about a prompt: that the model has a chat template which encode_prompt does not
/// know, or no token for some of the prompt's characters; empty: nothing.
std::string prompt_note(const Workbench& bench, const std::string& prompt, bool is_chat,
                        bool is_raw);

/// Tokens of a prompt: in the chat template where its family is known (or it is asked for), else as
/// it is.
std::vector<std::int32_t> encode_prompt(const Workbench& bench, const std::string& prompt,
                                        bool is_chat, bool is_raw);

}  // namespace decoder

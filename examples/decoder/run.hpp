#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "conversation.hpp"
#include "decoder.hpp"
#include "recorder.hpp"
#include "sampler.hpp"
#include "workbench.hpp"

namespace decoder {

/// Repetition in a text, as the report takes it.
nlohmann::json loop_results(std::span<const std::int32_t> text);

/// One sequence that decodes alone, and all that is measured while it does.
class Run {
 public:
  /// @param sampling  how it writes its own text
  /// @param talk      whose turns it reads after each of its answers, and which outlives it; null,
  ///                  or without turns: decode never draws an end token
  Run(const Workbench& bench, const PolicyChoice& choice, const SamplingOptions& sampling,
      const Conversation* talk = nullptr);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  /// Has `receiver` called for every layer of every step from now on.
  void record(LayerReceiver receiver) { sequence_.on_layer = std::move(receiver); }

  /// Reads the prompt.
  void prefill(Workbench& bench, std::span<const std::int32_t> prompt);

  /// Decodes `tokens` tokens: those of `given` where it has them, else its own and the turns
  /// between them. Ends early when interrupted.
  void decode(Workbench& bench, std::size_t tokens, std::span<const std::int32_t> given);

  /// Draws and decodes one token; false, and nothing done, when an end token was drawn.
  bool decode_one(Workbench& bench);

  /// What it has decoded so far, the prompt left out.
  const std::vector<std::int32_t>& text() const { return text_; }
  /// Tokens per second of decoding, drawing included; 0 before any.
  double tokens_per_second() const;
  /// Mean of the cache's resident bytes.
  double mean_bytes() const { return recorder_.mean_bytes(); }
  const std::string& policy() const { return choice_.policy; }

  /// Speed, memory, kept tokens, rounds and time by phase, as the report takes them.
  nlohmann::json results() const;

 private:
  std::int32_t next(const Workbench& bench);
  std::int32_t answer(const Workbench& bench);
  std::int32_t draw(const Workbench& bench);
  void keep_logits(const Workbench& bench, std::span<const float> logits);
  void take(Workbench& bench, std::int32_t token);
  void note_memory(std::size_t before);
  nlohmann::json phases() const;

  PolicyChoice choice_;
  Sequence sequence_;
  Sampler sampler_;
  Recorder recorder_;
  const Conversation* talk_;
  std::size_t turn_ = 0;
  std::size_t answered_ = 0;               ///< tokens of the answer being written
  std::span<const std::int32_t> to_read_;  ///< the rest of the turn being read
  std::vector<float> logits_;
  std::vector<std::int32_t> text_;
  double seconds_ = 0;
  Timings timings_;          ///< of decoding alone
  double prefill_plan_ = 0;  ///< seconds of the recorder's that the prompt took
  double prefill_apply_ = 0;
  std::vector<std::size_t> speed_seen_;
  std::vector<double> speed_;
  double growth_ = 0;
  double peak_growth_ = 0;
  std::size_t peak_resident_set_ = 0;
};

}  // namespace decoder

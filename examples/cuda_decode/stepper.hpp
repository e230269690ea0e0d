/// Sequences decoded in lockstep on some device, and the device, as the commands see them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "error.hpp"
#include "launch.hpp"
#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/rasr_weights.hpp"
#include "model_source.hpp"

namespace cuda_decode {

/// A row of a step: the sequence of that slot reads that token.
struct RowToken {
  static constexpr std::int32_t likeliest = -1;

  /// Below 0: padding.
  std::int32_t slot = 0;
  /// likeliest: the token that its last step made the likeliest; nothing goes to the host for it.
  std::int32_t token = likeliest;
};

/// How lethe prunes the sequences.
struct Pruning {
  /// step_tokens: of each sequence, those that a round makes room for. Its launches come once in so
  /// many steps.
  lethe::gpu::PlanSettings plan{};
  lethe::RasrConfig score{};
};

/// Sizes of a Stepper.
struct StepperSettings {
  /// Most rows of a step, and sequences at a time: slots 0 and on. At most most_rows.
  std::uint32_t rows = 1;
  /// Most tokens of a layer; a sequence that is not pruned ends there.
  std::uint32_t capacity = 0;
  /// Tokens that may be the likeliest, the first so many; 0: the vocabulary's.
  std::uint32_t drawn = 0;
  /// None: every token stays.
  std::optional<Pruning> pruning{};
};

/// Decodes sequences in lockstep. What cannot be throws decoder::Error.
class Stepper {
 public:
  virtual ~Stepper() = default;

  /// Empties slots for new sequences.
  virtual void start(std::span<const std::uint32_t> slots) = 0;
  /// Every row's sequence reads one token. Slots are all different, and started.
  virtual void step(std::span<const RowToken> rows) = 0;

  /// Of the last step's rows: the likeliest token of each. Waits.
  [[nodiscard]] virtual std::vector<std::int32_t> likeliest() = 0;
  /// Logits of one of them. Waits.
  [[nodiscard]] virtual std::vector<float> logits(std::uint32_t row) = 0;
  /// Tokens that each layer of a slot holds. Waits.
  [[nodiscard]] virtual std::vector<std::uint32_t> lengths(std::uint32_t slot) = 0;

  /// Makes every slot a sequence that has read `context` tokens, of which `tokens` are held, with
  /// random keys and values.
  virtual void place(std::uint32_t tokens, std::uint32_t context) = 0;
  /// Seconds of so many steps of all slots, each reading its own likeliest token.
  [[nodiscard]] virtual double time(std::uint32_t steps) = 0;
  /// The same by phase; the clock is read between them, so that they add up to more.
  [[nodiscard]] virtual PhaseSeconds time_phases(std::uint32_t steps) = 0;
};

/// The device has less memory left than was asked for.
struct OutOfMemory : decoder::Error {
  using decoder::Error::Error;
};

/// A model on the device; outlived by it, and outliving its steppers.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  /// Bytes of memory that make() takes.
  [[nodiscard]] virtual std::size_t bytes(const StepperSettings& settings) const = 0;
  /// @throws OutOfMemory
  [[nodiscard]] virtual std::unique_ptr<Stepper> make(const StepperSettings& settings) = 0;
};

/// A device.
class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual std::string description() const = 0;
  [[nodiscard]] virtual std::size_t free_bytes() const = 0;
  /// What a kernel that only reads gets of the memory's speed, measured now.
  [[nodiscard]] virtual double bytes_per_second() = 0;
  /// Bytes of a weight, and of a channel of a key or value.
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;
  [[nodiscard]] virtual std::size_t cached_bytes() const = 0;
  /// Bytes of memory that load() takes.
  [[nodiscard]] virtual std::size_t bytes(const ModelSource& source) const = 0;
  [[nodiscard]] virtual std::unique_ptr<LoadedModel> load(const ModelSource& source) = 0;
};

}  // namespace cuda_decode

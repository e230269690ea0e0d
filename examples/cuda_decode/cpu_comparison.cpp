#include "cpu_comparison.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "embedded_model.hpp"
#include "interrupt.hpp"
#include "lethe/gpu/policies.hpp"
#include "progress.hpp"

namespace cuda_decode {
namespace {

std::size_t best_of(std::span<const float> logits, std::size_t drawn) {
  const auto end = logits.begin() + static_cast<std::ptrdiff_t>(drawn);
  return static_cast<std::size_t>(std::max_element(logits.begin(), end) - logits.begin());
}

/// a - b; infinite where that is no number.
double apart(double a, double b) { return std::isnan(a - b) ? INFINITY : a - b; }

/// A sequence on the CPU; it says what both read.
class Reader {
 public:
  Reader(const decoder::Workbench& bench, const std::string& prompt,
         const ComparisonSettings& settings)
      : prompt_(decoder::encode_prompt(bench, prompt, false, false)),
        last_(prompt_.size() + settings.tokens),
        sequence_(decoder::make_sequence(bench, {.policy = "none", .capacity = last_})) {
    if (settings.budget == 0) return;
    sequence_.pruner = decoder::Pruner(lethe::policies::Lethe(
        {.layers = bench.model.config().layers, .capacity = settings.budget}, settings.lethe));
  }

  [[nodiscard]] std::int32_t token() const {
    return read_ < prompt_.size() ? prompt_[read_] : drawn_;
  }
  [[nodiscard]] std::size_t last() const { return last_; }
  [[nodiscard]] std::size_t read() const { return read_; }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return sequence_.cache.size(layer); }

  std::span<const float> step(decoder::Workbench& bench) {
    const std::span<const float> logits = bench.decoder.step(sequence_, token());
    drawn_ = static_cast<std::int32_t>(best_of(logits, bench.tokenizer.size()));
    ++read_;
    return logits;
  }
  [[nodiscard]] bool is_done(const decoder::Workbench& bench) const {
    return read_ >= last_ || (read_ >= prompt_.size() && bench.tokenizer.is_end(drawn_));
  }
  [[nodiscard]] std::int32_t drawn() const { return drawn_; }

 private:
  std::vector<std::int32_t> prompt_;
  std::size_t last_;
  decoder::Sequence sequence_;
  std::size_t read_ = 0;
  std::int32_t drawn_ = 0;
};

class Comparing {
 public:
  Comparing(decoder::Workbench& bench, LoadedModel& model, const std::vector<std::string>& prompts,
            const ComparisonSettings& settings)
      : bench_(bench), settings_(settings), slots_(settings.rows) {
    for (const std::string& prompt : prompts) waiting_.emplace_back(bench, prompt, settings);
    for (const Reader& reader : waiting_) total_ += reader.last();
    stepper_ = model.make(sizes());
  }

  Comparison run() {
    decoder::Progress progress("Comparing", total_);
    for (std::uint32_t step = 0; is_under_way() && !decoder::is_interrupted(); ++step) {
      admit(step);
      const std::vector<RowToken> rows = batch(step);
      if (rows.empty()) continue;
      stepper_->step(rows);
      const std::vector<std::int32_t> likeliest = stepper_->likeliest();
      for (std::uint32_t row = 0; row < rows.size(); ++row) {
        if (rows[row].slot < 0) continue;
        check(static_cast<std::size_t>(rows[row].slot), row, likeliest);
        progress.advance();
      }
    }
    return found_;
  }

 private:
  [[nodiscard]] StepperSettings sizes() const {
    std::size_t longest = 2;
    for (const Reader& reader : waiting_) longest = std::max(longest, reader.last());
    StepperSettings sizes{.rows = settings_.rows + 1,  // one more: padding has a row too
                          .capacity = static_cast<std::uint32_t>(longest),
                          .drawn = static_cast<std::uint32_t>(bench_.tokenizer.size())};
    if (settings_.budget == 0) return sizes;
    sizes.pruning = lethe_pruning(settings_.budget, settings_.lethe);
    sizes.capacity = static_cast<std::uint32_t>(settings_.budget);
    return sizes;
  }

  [[nodiscard]] bool is_under_way() const {
    return next_ < waiting_.size() || std::any_of(slots_.begin(), slots_.end(),
                                                  [](const auto& slot) { return slot != nullptr; });
  }

  void admit(std::uint32_t step) {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
      if (slots_[slot] != nullptr || next_ == waiting_.size()) continue;
      if (step < next_ * settings_.stagger) return;
      slots_[slot] = &waiting_[next_++];
      stepper_->start({&slot, 1});
    }
  }

  /// The slots in use in another order at each step, and padding among them at every third.
  [[nodiscard]] std::vector<RowToken> batch(std::uint32_t step) const {
    std::vector<RowToken> rows;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const std::size_t slot = (i + step) % slots_.size();
      if (slots_[slot] == nullptr) continue;
      rows.push_back({static_cast<std::int32_t>(slot), slots_[slot]->token()});
      if (step % 3 == 0 && rows.size() == 1) rows.push_back({-1, 0});
    }
    return rows;
  }

  void check(std::size_t slot, std::uint32_t row, const std::vector<std::int32_t>& likeliest) {
    Reader& reader = *slots_[slot];
    const std::span<const float> logits = reader.step(bench_);
    const std::vector<float> mine = stepper_->logits(row);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      found_.difference = std::max(found_.difference, std::abs(apart(logits[i], mine[i])));
    }
    ++found_.steps;
    if (likeliest[row] == reader.drawn()) {
      ++found_.same;
    } else {
      const auto other = static_cast<std::size_t>(std::max(0, likeliest[row]));
      const double best = logits[static_cast<std::size_t>(reader.drawn())];
      found_.margin =
          std::max(found_.margin, likeliest[row] < 0 ? INFINITY : apart(best, logits[other]));
    }
    if (reader.is_done(bench_)) finish(slot);
  }

  void finish(std::size_t slot) {
    const Reader& reader = *slots_[slot];
    const auto lengths = stepper_->lengths(static_cast<std::uint32_t>(slot));
    for (std::size_t layer = 0; layer < lengths.size(); ++layer) {
      ++found_.layers;
      found_.same_length += lengths[layer] == reader.size(layer) ? 1 : 0;
      const std::size_t kept = lengths[layer];
      found_.fewest_kept = found_.layers == 1 ? kept : std::min(found_.fewest_kept, kept);
      found_.most_kept = std::max(found_.most_kept, kept);
    }
    ++found_.sequences;
    found_.read = std::max(found_.read, reader.read());
    slots_[slot] = nullptr;
  }

  decoder::Workbench& bench_;
  ComparisonSettings settings_;
  std::vector<Reader> waiting_;
  std::size_t next_ = 0;
  std::size_t total_ = 0;
  std::vector<Reader*> slots_;
  std::unique_ptr<Stepper> stepper_;
  Comparison found_;
};

}  // namespace

Pruning lethe_pruning(std::size_t capacity, const lethe::LetheConfig& config) {
  Pruning pruning{.plan = lethe::gpu::policies::lethe(config), .score = {.decay = config.decay}};
  pruning.plan.capacity = capacity;
  return pruning;
}

nlohmann::json Comparison::results() const {
  return {{"sequences", sequences},      {"steps", steps},
          {"same_tokens", same},         {"largest_logit_difference", difference},
          {"largest_margin", margin},    {"layers", layers},
          {"same_lengths", same_length}, {"fewest_kept", fewest_kept},
          {"most_kept", most_kept},      {"most_read", read}};
}

std::vector<std::string> comparison_prompts(const decoder::Workbench& bench) {
  if (!bench.is_embedded)
    return {"Tell me how a lighthouse works.",
            "Write a list of five fruits and their colours.",
            "What is the capital of France, and what is it known for?",
            "Explain in simple words why the sky is blue.",
            "Count from one to twenty.",
            "Name three rivers and the countries that they flow through."};
  std::vector<std::string> prompts;
  for (const char* values :
       {"d=4 a=7 h=1 c=9 f=2 k=5", "d=8 a=2 h=6 c=1 f=9 k=3", "d=1 a=1 h=5 c=7 f=3 k=8",
        "d=9 a=4 h=2 c=5 f=8 k=6", "d=3 a=6 h=9 c=2 f=1 k=4", "d=5 a=8 h=4 c=6 f=7 k=2"}) {
    const std::string_view program = decoder::embedded_prompt;
    prompts.push_back(values + std::string(program.substr(program.find(" |"))));
  }
  return prompts;
}

Comparison compare(decoder::Workbench& bench, LoadedModel& model,
                   const std::vector<std::string>& prompts, const ComparisonSettings& settings) {
  return Comparing(bench, model, prompts, settings).run();
}

}  // namespace cuda_decode

// Measures Lethe's settings on a text: each variant follows the whole cache, all in lockstep.
// usage: lethe_defaults MODEL.gguf TEXT TOKENS CAPACITY
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decoder.hpp"
#include "error.hpp"
#include "fidelity.hpp"
#include "text_source.hpp"
#include "workbench.hpp"

namespace {

using decoder::Sequence;

struct Variant {
  std::string name;
  lethe::LetheConfig config;
};

/// The defaults, and each setting changed by itself.
std::vector<Variant> variants() {
  const lethe::LetheConfig base;
  std::vector<Variant> all{{"defaults", base}};
  const auto add = [&](const char* name, auto lethe::LetheConfig::*field, auto... values) {
    const auto one = [&](auto value) {
      lethe::LetheConfig config = base;
      config.*field = value;
      if (config == base) return;
      char label[64];
      std::snprintf(label, sizeof label, "%s %g", name, static_cast<double>(value));
      all.push_back({label, config});
    };
    (one(values), ...);
  };
  add("decay", &lethe::LetheConfig::decay, 0.9f, 0.95f, 0.99f, 0.995f);
  add("segments", &lethe::LetheConfig::segments, std::size_t{16}, std::size_t{256});
  add("first_tokens", &lethe::LetheConfig::first_tokens, std::size_t{1}, std::size_t{16});
  add("first_threshold", &lethe::LetheConfig::first_threshold, std::size_t{128}, std::size_t{512});
  add("sparsity_ratio", &lethe::LetheConfig::sparsity_ratio, 100.0f, 800.0f);
  add("recent_ratio", &lethe::LetheConfig::recent_ratio, 0.1f, 0.5f);
  return all;
}

/// One variant's cache, and how it fares.
struct Run {
  Variant variant;
  Sequence sequence;
  decoder::FidelityTotals overall{};
  decoder::FidelityTotals long_gap{};
  double kept = 0;

  void add(const decoder::TokenFidelity& token, bool is_long_gap) {
    overall.add(token);
    if (is_long_gap) long_gap.add(token);
    for (std::size_t layer = 0; layer < sequence.cache.layers(); ++layer) {
      kept += static_cast<double>(sequence.cache.size(layer));
    }
  }
};

std::vector<Run> make_runs(const decoder::Workbench& bench, std::size_t tokens,
                           std::size_t capacity) {
  const decoder::ModelConfig& model = bench.model.config();
  std::vector<Run> runs;
  runs.push_back(
      {.variant = {}, .sequence = {.cache = {model, bench.cache_type, tokens}, .pruner = {}}});
  for (const Variant& variant : variants()) {
    runs.push_back(
        {.variant = variant,
         .sequence = {.cache = {model, bench.cache_type, capacity},
                      .pruner = lethe::policies::Lethe(
                          {.layers = model.layers, .capacity = capacity}, variant.config)}});
  }
  return runs;
}

void follow(decoder::Workbench& bench, std::span<Run> runs, const decoder::TextSource& source) {
  std::vector<Sequence*> batch;
  for (Run& run : runs) batch.push_back(&run.sequence);
  const std::size_t vocabulary = bench.model.config().vocabulary;
  decoder::LongGapDetector detector;
  std::int32_t token = source.prompt.back();
  for (const std::int32_t next : source.text) {
    const std::vector<std::int32_t> tokens(batch.size(), token);
    const std::span<const float> logits = bench.decoder.step(batch, tokens);
    const bool is_long_gap = detector.push(next);
    for (std::size_t i = 1; i < runs.size(); ++i) {
      runs[i].add(decoder::compare_logits(logits.first(vocabulary),
                                          logits.subspan(i * vocabulary, vocabulary), next),
                  is_long_gap);
    }
    token = next;
  }
}

void print(std::span<const Run> runs, std::size_t layers) {
  std::printf(
      "| setting | kept, mean | KL, nats | same top token | KL, long-gap tokens "
      "|\n|---|---|---|---|---|\n");
  for (const Run& run : runs.subspan(1)) {
    const double steps = static_cast<double>(run.overall.tokens() * layers);
    std::printf("| %s | %.0f | %.4f | %.3f | %.4f |\n", run.variant.name.c_str(), run.kept / steps,
                run.overall.mean_divergence(), run.overall.agreement(),
                run.long_gap.mean_divergence());
  }
}

std::size_t whole_number(std::string_view text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0) {
    throw decoder::Error(std::string(text) + " is not a number of tokens");
  }
  return value;
}

int run(std::span<char*> arguments) {
  if (arguments.size() != 5) {
    throw decoder::Error("usage: lethe_defaults MODEL.gguf TEXT TOKENS CAPACITY");
  }
  decoder::ModelOptions options;
  options.file = arguments[1];
  decoder::Workbench bench(options);
  const std::size_t tokens = whole_number(arguments[3]);
  const decoder::TextSource source = decoder::read_text(bench, arguments[2], tokens);
  std::vector<Run> runs = make_runs(bench, tokens + 1, whole_number(arguments[4]));
  follow(bench, runs, source);
  print(runs, bench.model.config().layers);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run({arguments, static_cast<std::size_t>(count)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lethe_defaults: %s\n", error.what());
    return 2;
  }
}

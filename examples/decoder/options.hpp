#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace decoder {

/// Which model runs, and how.
struct ModelOptions {
  std::string file;                ///< empty: the embedded reasoner
  unsigned threads = 0;            ///< 0: one per core
  std::string cache_type = "f16";  ///< f16 loses nothing measurable at half of f32's bytes
};

/// What a pruned cache may hold.
struct BudgetOptions {
  std::string budget = "25%";  ///< tokens per layer, or a share of all tokens of the run
  bool is_pinned = false;  ///< keep the whole prompt; off, so that the budget is the whole truth
};

/// How the next token is drawn.
struct SamplingOptions {
  float temperature = 0.7F;  ///< small models loop when they always take the most likely token
  float top_p = 0.95F;       ///< drops the unlikely tail
  std::uint64_t seed = 1;    ///< any number; the same one gives the same text
};

/// Where results go, besides the terminal.
struct OutputOptions {
  std::string json;  ///< empty: none
};

/// `decoder generate`.
struct GenerateOptions {
  ModelOptions model;
  BudgetOptions budget;
  SamplingOptions sampling;
  OutputOptions output;
  std::string prompt;
  std::string policy = "none";
  std::size_t tokens = 256;  ///< a few paragraphs, a few seconds
  bool is_chat = false;      ///< force the chat template
  bool is_raw = false;       ///< never use it
  bool shows_statistics = false;
  std::string recording;  ///< empty: none
};

/// `decoder compare`.
struct CompareOptions {
  ModelOptions model;
  BudgetOptions budget;
  SamplingOptions sampling;
  OutputOptions output;
  std::string prompt;   ///< empty: the built-in one
  bool is_raw = false;  ///< take the prompt as it is, without the chat template
  std::string text_file;
  std::vector<std::string> policies{"lethe", "h2o", "streaming", "random"};
  std::size_t tokens = 1536;  ///< long enough for old tokens to matter, short enough for a minute
  std::string report = "report.html";
};

/// `decoder bench`.
struct BenchOptions {
  ModelOptions model;
  BudgetOptions budget;
  OutputOptions output;
  std::vector<std::string> policies{"none", "lethe"};
  std::vector<std::size_t> contexts{512, 2048};
  std::vector<std::size_t> batches{1};
  std::size_t tokens = 64;  ///< decoded at each point; the median of them is shown
};

/// `decoder perplexity`.
struct PerplexityOptions {
  ModelOptions model;
  BudgetOptions budget;
  OutputOptions output;
  std::string text_file;
  std::string policy = "lethe";
  std::size_t tokens = 2048;  ///< at most so many tokens of the file
};

/// `decoder replay`.
struct ReplayOptions {
  OutputOptions output;
  std::string recording;
  std::vector<std::string> policies{"lethe", "h2o", "streaming", "random"};
  std::vector<std::string> budgets{"10%", "25%"};  ///< as in most papers
  bool is_pinned = false;                          ///< as for BudgetOptions
  unsigned threads = 0;                            ///< as for ModelOptions
  std::string cache_type = "f32";  ///< the cache adds no rounding to the recording's
  std::string report;              ///< empty: none
};

/// Adds a command's options to the parser; they are filled in when it parses.
void add_options(CLI::App& app, GenerateOptions& options);
void add_options(CLI::App& app, CompareOptions& options);
void add_options(CLI::App& app, BenchOptions& options);
void add_options(CLI::App& app, PerplexityOptions& options);
void add_options(CLI::App& app, ReplayOptions& options);

/// Tokens per layer that a budget such as "512" or "25%" allows.
///
/// @param budget  as given on the command line
/// @param total   tokens the run will see, prompt included
/// @return at least 1
/// @throws Error when it is neither a whole number nor a percentage in (0, 100]
std::size_t parse_budget(const std::string& budget, std::size_t total);

}  // namespace decoder

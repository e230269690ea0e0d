#include "workbench.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "chat.hpp"
#include "embedded_model.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "one_line.hpp"
#include "report_text.hpp"

namespace decoder {
namespace {

std::vector<std::int32_t> end_tokens(const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ends;
  for (std::size_t id = 0; id < tokenizer.size(); ++id)
    if (tokenizer.is_end(static_cast<std::int32_t>(id)))
      ends.push_back(static_cast<std::int32_t>(id));
  return ends;
}

// A token without an embedding could be neither read nor drawn.
void check_vocabulary(const Model& model, const Tokenizer& tokenizer) {
  const std::size_t embedded = model.config().vocabulary;
  if (tokenizer.size() > embedded)
    throw model.file().error("the tokenizer has " + std::to_string(tokenizer.size()) +
                             " tokens, the model embeds " + std::to_string(embedded) +
                             ": the file is damaged");
}

}  // namespace

gguf::File open_model(const std::string& file) {
  return file.empty() ? gguf::File::in_memory(embedded_model(), embedded_name)
                      : gguf::File::open(file);
}

Workbench::Workbench(const ModelOptions& options)
    : model(open_model(options.file), options.threads),
      tokenizer(model.file()),
      decoder(model, options.threads),
      cache_type(parse_cache_type(options.cache_type)),
      ends(end_tokens(tokenizer)),
      is_embedded(options.file.empty()) {
  check_vocabulary(model, tokenizer);
}

nlohmann::json Workbench::describe() const {
  const ModelConfig& config = model.config();
  const KVCache cache(config, cache_type, 1);
  const std::filesystem::path& path = model.file().path();
  return {{"name", config.name.empty() ? path.filename().string() : one_line(config.name)},
          {"file", path.string()},
          {"file_size", report::bytes(static_cast<double>(model.file().size()))},
          {"architecture", config.architecture},
          {"layers", config.layers},
          {"query_heads", config.heads},
          {"kv_heads", config.kv_heads},
          {"head_channels", config.head_dim},
          {"context", config.context},
          {"cache_type", name(cache_type)},
          {"cache_bytes_per_token", cache.token_bytes(0) * config.layers}};
}

Sequence make_sequence(const Workbench& bench, const PolicyChoice& choice) {
  const ModelConfig& config = bench.model.config();
  // More than the run can fill would be memory for nothing, however large a budget is given; twice
  // the run, since a policy needs room beside a pinned prompt.
  const std::size_t budget = std::min(choice.budget, 2 * choice.capacity + 1024);
  const PolicyOptions options{.budget = budget,
                              .pinned = choice.pinned,
                              .seed = choice.seed,
                              .rope_frequencies = bench.model.rope_frequencies(),
                              .file = &bench.model.file()};
  Pruner pruner = make_pruner(choice.policy, options, config);
  const std::size_t most = pruner.most_in_head(choice.capacity);
  return {.cache = KVCache(config, bench.cache_type, most), .pruner = std::move(pruner)};
}

std::span<const float> read_tokens(Workbench& bench, Sequence& sequence,
                                   std::span<const std::int32_t> tokens, Progress& progress) {
  constexpr std::size_t piece = 256;
  std::span<const float> logits;
  while (!tokens.empty() && (logits.empty() || !is_interrupted())) {
    const std::size_t count = std::min(piece, tokens.size());
    logits = bench.decoder.prefill(sequence, tokens.first(count));
    tokens = tokens.subspan(count);
    progress.advance(count);
  }
  return logits;
}

void check_context(const Workbench& bench, std::size_t prompt, std::size_t generated) {
  const std::size_t context = bench.model.config().context;
  if (prompt >= context)
    throw Error("the prompt has " + std::to_string(prompt) + " tokens, the model's context holds " +
                std::to_string(context) + ": shorten the prompt");
  if (prompt + generated > context)
    throw Error("a prompt of " + std::to_string(prompt) + " tokens and " +
                std::to_string(generated) + " more exceed the model's context of " +
                std::to_string(context) + ": give -n " + std::to_string(context - prompt) +
                " or less");
}

std::string prompt_note(const Workbench& bench, const std::string& prompt, bool is_chat,
                        bool is_raw) {
  const std::size_t unknown = bench.tokenizer.count_unknown(prompt);
  if (unknown != 0)
    return "The model has no token for " + std::to_string(unknown) +
           " bytes of the prompt, so it does not see them.";
  if (is_chat || is_raw || chat_template_of(bench.model.file()) != ChatTemplate::unknown) return {};
  return "The model's chat template is of a family that is not known here, so the prompt is "
         "taken as it is.";
}

std::vector<std::int32_t> encode_prompt(const Workbench& bench, const std::string& prompt,
                                        bool is_chat, bool is_raw) {
  const gguf::File& file = bench.model.file();
  const bool uses_template = is_chat || (!is_raw && chat_template_of(file) == ChatTemplate::known);
  auto tokens =
      bench.tokenizer.encode_prompt(uses_template ? apply_chat_template(file, prompt) : prompt);
  if (tokens.empty()) throw Error("the prompt is empty: give some text with -p");
  return tokens;
}

}  // namespace decoder

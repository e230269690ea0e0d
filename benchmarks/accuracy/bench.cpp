#include "bench.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "attention_watch.hpp"
#include "context_attempt.hpp"
#include "interrupt.hpp"
#include "results.hpp"

namespace accuracy {
namespace {

std::size_t budget_of(const Cell& cell, std::size_t length) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(budget_tokens(cell, length)));
}

/// What an oracle is told of a problem; nothing for other policies.
decoder::FutureLooks foresee(const Cell& cell, const Problem& problem, const decoder::Model& model,
                             decoder::Decoder& decoder) {
  if (cell.policy == oracle) return looks_needed(problem, model.config().layers);
  if (cell.policy == attention_oracle) {
    return watch_attention(decoder, model.config(), problem.symbols);
  }
  return {};
}

/// room: tokens that the cache holds beside those of the budget.
decoder::Sequence make_sequence(const Job& job, const Extent& extent, const decoder::Model& model,
                                const decoder::FutureLooks& looks, std::size_t room = 0) {
  const Cell& cell = job.cell;
  const bool is_whole = cell.policy == whole_cache;
  const std::size_t budget = is_whole ? extent.symbols : budget_of(cell, extent.symbols);
  const decoder::PolicyOptions options{.budget = budget,
                                       .pinned = cell.is_pinned ? extent.prompt : 0,
                                       .seed = job.seed,
                                       .rope_frequencies = model.rope_frequencies(),
                                       .file = &model.file(),
                                       .future_looks = &looks};
  const std::string_view policy = is_oracle(cell.policy) ? oracle : std::string_view(cell.policy);
  decoder::Pruner pruner = decoder::make_pruner(policy, options, model.config());
  const std::size_t most = pruner.most_in_head(extent.symbols) + room;
  return {.cache = {model.config(), decoder::CacheType::f32, most}, .pruner = std::move(pruner)};
}

nlohmann::json run_context(const Job& job, const decoder::Model& model, decoder::Decoder& decoder) {
  const Cell& cell = job.cell;
  const decoder::Tokenizer tokenizer(model.file());
  const TokenContext context = make_token_context(cell.task, cell.size, job.seed, tokenizer);
  const Extent extent{.symbols = context.text.size(), .prompt = context.heading};
  decoder::FutureLooks looks;
  if (cell.policy == attention_oracle)
    looks = watch_attention(decoder, model.config(), context.with_questions());
  decoder::Sequence sequence = make_sequence(job, extent, model, looks, context.room());
  return row_of(cell, job.seed, extent, attempt(decoder, sequence, context));
}

/// Takes jobs one by one until none is left.
class Workers {
 public:
  Workers(const std::vector<Job>& jobs, const decoder::Model& model,
          const std::function<void(const nlohmann::json&)>& done)
      : jobs_(jobs), model_(model), done_(done) {}

  void work() {
    try {
      decoder::Decoder decoder(model_, 1);
      for (std::size_t i = next_++; i < jobs_.size() && !decoder::is_interrupted(); i = next_++) {
        const nlohmann::json row = run(jobs_[i], model_, decoder);
        const std::lock_guard lock(mutex_);
        done_(row);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = jobs_.size();
    }
  }

  /// As many as there are jobs for; fewer when the system has no more.
  void work_on(unsigned threads) {
    std::vector<std::jthread> pool;
    try {
      const std::size_t most = std::min<std::size_t>(threads, jobs_.size());
      for (std::size_t i = 1; i < most; ++i) pool.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
    }
    work();
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::vector<Job>& jobs_;
  const decoder::Model& model_;
  const std::function<void(const nlohmann::json&)>& done_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

nlohmann::json run(const Job& job, const decoder::Model& model, decoder::Decoder& decoder) {
  if (is_context(job.cell.task)) return run_context(job, model, decoder);
  const Problem problem = make_problem(job.cell.task, job.cell.size, job.seed);
  const Extent extent{.symbols = problem.symbols.size(), .prompt = problem.prompt};
  const decoder::FutureLooks looks = foresee(job.cell, problem, model, decoder);
  decoder::Sequence sequence = make_sequence(job, extent, model, looks);
  return row_of(job.cell, job.seed, extent, attempt(decoder, sequence, problem, job.cell.feeding));
}

void run_all(const std::vector<Job>& jobs, const decoder::Model& model, unsigned threads,
             const std::function<void(const nlohmann::json&)>& done) {
  Workers workers(jobs, model, done);
  workers.work_on(threads);
  workers.rethrow();
}

}  // namespace accuracy

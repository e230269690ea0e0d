#include "measured_run.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "csv.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "output.hpp"

namespace serving {
namespace {

using nlohmann::json;

json read_meta(const std::string& path) {
  json meta = json::parse(decoder::read_file(path), nullptr, false);
  if (!meta.is_object()) throw decoder::Error(decoder::one_line(path) + ": is no JSON object");
  return meta;
}

std::size_t number_at(const json& meta, const char* pointer, const std::string& path) {
  const json::json_pointer at(pointer);
  if (!meta.contains(at) || !meta.at(at).is_number_unsigned() || meta.at(at) == 0)
    throw decoder::Error(decoder::one_line(path) + ": has no number above 0 at " + pointer);
  return meta.at(at).get<std::size_t>();
}

bool flag_at(const json& meta, const char* pointer, bool otherwise) {
  const json::json_pointer at(pointer);
  return meta.contains(at) && meta.at(at).is_boolean() ? meta.at(at).get<bool>() : otherwise;
}

std::string text_at(const json& meta, const char* key) {
  return meta.contains(key) && meta.at(key).is_string() ? meta.at(key).get<std::string>() : "";
}

EngineSettings settings_of(const json& meta, const std::string& path) {
  const std::string scheduler = "/resolved_config/scheduler_config/";
  return {
      .batch_tokens = number_at(meta, (scheduler + "max_num_batched_tokens").c_str(), path),
      .sequences = number_at(meta, (scheduler + "max_num_seqs").c_str(), path),
      .block_tokens = number_at(meta, "/kv_cache/block_size", path),
      .has_prefix_cache = flag_at(meta, "/kv_cache/enable_prefix_caching", true),
      .reserves_prompt = flag_at(meta, (scheduler + "scheduler_reserve_full_isl").c_str(), true),
      .schedules_ahead = flag_at(meta, (scheduler + "async_scheduling").c_str(), false)};
}

void read_served(const std::string& path, MeasuredRun& run) {
  CsvReader csv(path);
  const std::size_t queue = csv.column("queue_s");
  const std::size_t first = csv.column("ttft_s");
  const std::size_t whole = csv.column("e2e_s");
  for (const Request& request : run.trace.requests) {
    if (!csv.next()) csv.refuse("is the last");
    run.served.push_back({.scheduled = request.arrival + csv.number(queue),
                          .first = request.arrival + csv.number(first),
                          .end = request.arrival + csv.number(whole)});
    run.makespan = std::max(run.makespan, run.served.back().end);
  }
  run.makespan -= run.trace.requests.front().arrival;
}

}  // namespace

MeasuredRun read_measured_run(const std::string& folder, const ModelShape& model) {
  const std::string path = folder + "/meta.json";
  const json meta = read_meta(path);
  // One of vLLM's blocks stands for none and is never handed out.
  const std::size_t blocks = number_at(meta, "/kv_cache/num_gpu_blocks", path) - 1;
  MeasuredRun run{.trace = read_trace(folder + "/requests.csv"),
                  .profile = {.name = short_name(folder),
                              .model = model,
                              .times = measured_times(folder, model),
                              .device_blocks = blocks},
                  .settings = settings_of(meta, path),
                  .served = {},
                  .dataset = text_at(meta, "dataset_hash")};
  read_served(folder + "/requests.csv", run);
  return run;
}

}  // namespace serving

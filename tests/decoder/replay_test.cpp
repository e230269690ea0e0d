#include "replay.hpp"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <lethe/policies.hpp>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "expect_error.hpp"
#include "random_values.hpp"

using namespace decoder;
using decoder::test::check_error;
using nlohmann::json;

namespace {

constexpr std::size_t layers = 2, heads = 4, kv_heads = 2, channels = 24, tokens = 90;

struct Numbers {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};

/// A recording made up of random numbers, to be spoilt and written.
struct Made {
  Made() {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::string at = "layers." + std::to_string(layer) + ".";
      const auto seed = static_cast<unsigned>(3 * layer);
      tensors[at + "queries"] = {{tokens, heads, channels},
                                 test::random_values(tokens * heads * channels, seed)};
      tensors[at + "keys"] = {{tokens, kv_heads, channels},
                              test::random_values(tokens * kv_heads * channels, seed + 1)};
      tensors[at + "values"] = {{tokens, kv_heads, channels},
                                test::random_values(tokens * kv_heads * channels, seed + 2)};
    }
  }

  std::map<std::string, Numbers> tensors;
  safetensors::Metadata metadata{{"model", "made up"}};
};

/// A file that is removed in the end.
class File {
 public:
  explicit File(const char* name)
      : path_(std::filesystem::temp_directory_path() /
              ("lethe_replay_" + std::to_string(getpid()) + name)) {}
  explicit File(const Made& made) : File("made") {
    std::map<std::string, safetensors::Tensor, std::less<>> tensors;
    for (const auto& [name, each] : made.tensors)
      tensors[name] = {"F32", each.shape, std::as_bytes(std::span(each.values))};
    safetensors::write(path_.string(), made.metadata, tensors);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  void write(const std::string& header, std::size_t length, const std::string& data) const {
    std::string bytes(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>((length >> (8 * i)) & 0xFF);
    std::ofstream(path_, std::ios::binary) << bytes << header << data;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Attention of one head in double arithmetic: probabilities of all tokens up to the query's.
std::vector<double> attention(const Made& made, std::size_t layer, std::size_t head,
                              std::size_t query) {
  const std::string at = "layers." + std::to_string(layer) + ".";
  const std::vector<float>& q = made.tensors.at(at + "queries").values;
  const std::vector<float>& k = made.tensors.at(at + "keys").values;
  const std::size_t kv = head / (heads / kv_heads);
  std::vector<double> p(query + 1);
  double sum = 0;
  for (std::size_t j = 0; j <= query; ++j) {
    double dot = 0;
    for (std::size_t c = 0; c < channels; ++c)
      dot += double{q[(query * heads + head) * channels + c]} *
             double{k[(j * kv_heads + kv) * channels + c]};
    sum += p[j] = std::exp(dot / std::sqrt(double{channels}));
  }
  for (double& each : p) each /= sum;
  return p;
}

/// What a head makes of the values at `kept`, its probabilities brought to a sum of 1 there.
std::vector<double> output(const Made& made, std::size_t layer, std::size_t head,
                           const std::vector<double>& p, const std::vector<std::size_t>& kept) {
  const std::vector<float>& v =
      made.tensors.at("layers." + std::to_string(layer) + ".values").values;
  const std::size_t kv = head / (heads / kv_heads);
  std::vector<double> out(channels, 0.0);
  double mass = 0;
  for (const std::size_t j : kept) mass += p[j];
  for (const std::size_t j : kept)
    for (std::size_t c = 0; c < channels; ++c)
      out[c] += p[j] / mass * double{v[(j * kv_heads + kv) * channels + c]};
  return out;
}

struct Loss {
  double kept = 0, mass = 0, error = 0;
};

Loss loss_of(const Made& made, std::size_t layer, std::size_t query,
             const std::vector<std::size_t>& kept) {
  std::vector<std::size_t> all;
  for (std::size_t j = 0; j <= query; ++j) all.push_back(j);
  Loss loss{.kept = double(kept.size()) / double(query + 1)};
  double apart = 0, length = 0;
  for (std::size_t head = 0; head < heads; ++head) {
    const std::vector<double> p = attention(made, layer, head, query);
    double held = 0;
    for (const std::size_t j : kept) held += p[j];
    loss.mass += (1 - held) / double(heads);
    const auto whole = output(made, layer, head, p, all),
               pruned = output(made, layer, head, p, kept);
    for (std::size_t c = 0; c < channels; ++c) {
      apart += (whole[c] - pruned[c]) * (whole[c] - pruned[c]);
      length += whole[c] * whole[c];
    }
  }
  loss.error = std::sqrt(apart / length);
  return loss;
}

json replayed(const File& file, const char* policy, std::size_t budget) {
  const Recording recording = Recording::open(file.path());
  const std::vector<ReplayChoice> choices{{.policy = policy, .budget = "b", .tokens = budget}};
  Replay replay(recording, choices, CacheType::f32, 1);
  replay.run();
  CHECK(replay.judged() == recording.tokens() - recording.prompt_tokens());
  return replay.results().at(0);
}

/// What stands in the cache of a lethe::StreamingLLM at every step.
std::vector<std::vector<std::size_t>> streamed(std::size_t budget) {
  lethe::policies::StreamingLLM pruner({.layers = 1, .capacity = budget});
  ModelConfig shape;
  shape.layers = 1;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = channels;
  KVCache cache(shape, CacheType::f32, budget);
  std::vector<std::vector<std::size_t>> steps;
  for (std::size_t t = 0; t < tokens; ++t) {
    pruner.make_room(cache, 1);
    cache.extend(0, 1);
    pruner.commit();
    steps.emplace_back();
    for (const lethe::Position position : pruner.positions(0)) steps.back().push_back(position);
  }
  return steps;
}

void spoilt(const Made& made, const char* part) {
  const File file(made);
  check_error([&] { Recording::open(file.path()); }, part);
}

}  // namespace

TEST_CASE("a cache that holds everything loses nothing") {
  const File file{Made()};
  for (const char* policy : {"none", "h2o", "lethe"}) {
    const json run = replayed(file, policy, 2 * tokens);
    CHECK(run.at("kept_share") == 1.0);
    CHECK(run.at("lost_mass") == 0.0);
    CHECK(run.at("output_error") == 0.0);
  }
}

TEST_CASE("losses are those of double arithmetic on what the policy keeps") {
  const Made made;
  const File file(made);
  const std::size_t budget = 24;
  const json run = replayed(file, "streaming", budget);
  const auto steps = streamed(budget);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    Loss mean;
    for (std::size_t t = 0; t < tokens; ++t) {
      const Loss loss = loss_of(made, layer, t, steps[t]);
      mean.kept += loss.kept / double{tokens};
      mean.mass += loss.mass / double{tokens};
      mean.error += loss.error / double{tokens};
    }
    CHECK(mean.mass > 0.3);
    CHECK_THAT(run.at("layers").at("kept_share").at(layer).get<double>(),
               WithinRel(mean.kept, 1e-6));
    CHECK_THAT(run.at("layers").at("lost_mass").at(layer).get<double>(),
               WithinRel(mean.mass, 1e-4));
    CHECK_THAT(run.at("layers").at("output_error").at(layer).get<double>(),
               WithinRel(mean.error, 1e-4));
  }
}

TEST_CASE("a prompt is read in chunks and not judged") {
  Made made;
  made.metadata["prompt_tokens"] = "70";
  const File file(made);
  CHECK(replayed(file, "streaming", 24).at("lost_mass").get<double>() > 0.5);
  CHECK(replayed(file, "none", tokens).at("output_error") == 0.0);
}

TEST_CASE("log-sum-exps that are not those of queries and keys are refused") {
  Made made;
  for (std::size_t layer = 0; layer < layers; ++layer)
    made.tensors["layers." + std::to_string(layer) + ".lse"] = {
        {tokens, heads}, std::vector<float>(tokens * heads, 30.0f)};
  const File file(made);
  check_error([&] { replayed(file, "none", tokens); }, "the recorded log-sum-exp is 30.0");
}

TEST_CASE("a recording that is none, or not whole, is refused by name") {
  const std::string first = "layers.0.queries", second = "layers.1.values";
  Made none;
  none.tensors = {{"weights", {{2}, {1, 2}}}};
  spoilt(none, "is no recording");
  Made missing;
  missing.tensors.erase(second);
  spoilt(missing, "has no tensor layers.1.values");
  Made misshapen;
  misshapen.tensors[second].shape = {tokens, channels, kv_heads};
  spoilt(misshapen, "tensor layers.1.values is 90 x 24 x 2, not 90 x 2 x 24");
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Made not_finite;
    not_finite.tensors[second].values[5000 % (tokens * kv_heads * channels)] = odd;
    spoilt(not_finite, "tensor layers.1.values holds");
  }
  Made empty;
  for (auto& [name, each] : empty.tensors) each = {{0, each.shape[1], channels}, {}};
  spoilt(empty, "has 0 tokens");
  Made uneven;
  for (const char* kind : {"keys", "values"})
    uneven.tensors[std::string("layers.0.") + kind] = {
        {tokens, 3, channels}, test::random_values(tokens * 3 * channels, 1)};
  spoilt(uneven, "4 query heads and 3 KV heads");
  Made flat;
  flat.tensors[first].shape = {tokens * heads * channels};
  spoilt(flat, "tokens x heads x channels");
}

TEST_CASE("a recording with a gap or with numbers beyond attention is refused") {
  Made gap;
  gap.tensors.erase("layers.0.queries");
  spoilt(gap, "is no recording");
  Made half;
  half.tensors.erase("layers.1.queries");
  spoilt(half, "has layers.1.keys but no layers.1.queries");
  Made large;
  for (float& value : large.tensors["layers.1.queries"].values) value *= 1e30f;
  for (float& value : large.tensors["layers.1.keys"].values) value *= 1e30f;
  const File file(large);
  check_error([&] { replayed(file, "none", tokens); },
              "layer 1, from token 0 on: attention is not");
}

TEST_CASE("scaled queries and a scale that makes up for it are the same recording") {
  Made made;
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (float& value : made.tensors["layers." + std::to_string(layer) + ".queries"].values)
      value *= 4.0f;
  made.metadata["scale"] = std::to_string(0.25f / std::sqrt(float{channels}));
  const File scaled(made), plain{Made()};
  for (const char* policy : {"h2o", "expectedattention"})
    CHECK_THAT(replayed(scaled, policy, 24).at("output_error").get<double>(),
               WithinRel(replayed(plain, policy, 24).at("output_error").get<double>(), 1e-3));
}

TEST_CASE("senseless metadata is refused by name") {
  const auto with = [](const char* key, const char* value) {
    Made made;
    made.metadata[key] = value;
    return made;
  };
  spoilt(with("prompt_tokens", "90"), "none is left to be judged");
  spoilt(with("prompt_tokens", "-1"), "metadata prompt_tokens is -1");
  spoilt(with("scale", "wide"), "metadata scale is wide");
  spoilt(with("scale", "0"), "scale is no number above 0");
  Made turned = with("rope_pairs", "thirds");
  turned.tensors["rope_frequencies"] = {{channels / 2}, std::vector<float>(channels / 2, 0.5f)};
  spoilt(turned, "metadata rope_pairs is thirds");
  turned.tensors["rope_frequencies"] = {{channels}, std::vector<float>(channels, 0.5f)};
  spoilt(turned, "rope_frequencies turns 48 channels of 24");
}

TEST_CASE("damaged safetensors files are refused in one line") {
  const File file("damaged");
  const auto refuse = [&](const std::string& header, std::size_t length, const std::string& data,
                          const char* part) {
    file.write(header, length, data);
    check_error([&] { safetensors::File::open(file.path()); }, part);
  };
  const std::string good = R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})";
  file.write(good, good.size(), "abcd");
  CHECK(safetensors::File::open(file.path()).find("a")->elements() == 2);
  refuse(good, good.size() + 100, "abcd", "cut short");
  refuse(good, std::numeric_limits<std::size_t>::max(), "abcd", "cut short");
  refuse("", 0, "", "no JSON object");
  refuse("[1, 2]", 6, "", "no JSON object");
  refuse(good, good.size(), "abc", "at tensor a");
  for (const char* entry :
       {R"({"dtype":"F16","shape":[2],"data_offsets":[0,2]})",
        R"({"dtype":"F16","shape":[2],"data_offsets":[4,0]})",
        R"({"dtype":"F16","shape":[-2],"data_offsets":[0,4]})",
        R"({"dtype":"F16","shape":[2.5],"data_offsets":[0,4]})",
        R"({"dtype":"F16","shape":[4294967296,4294967296,2],"data_offsets":[0,4]})",
        R"({"dtype":16,"shape":[2],"data_offsets":[0,4]})", R"({"dtype":"F16","shape":[2]})",
        "7"}) {
    const std::string header = std::string(R"({"a":)") + entry + "}";
    INFO(header);
    refuse(header, header.size(), "abcd", "at tensor a");
  }
  const std::string other = R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  file.write(other, other.size(), "abcdefgh");
  check_error([&] { static_cast<void>(safetensors::File::open(file.path()).require("a", {1})); },
              "is in I64: write it in F32, F16 or BF16");
}

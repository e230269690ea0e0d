#include <string>

#include "catch.hpp"
#include "curve.hpp"
#include "error.hpp"
#include "files.hpp"
#include "measured_folder.hpp"
#include "profile.hpp"
#include "shared_prefixes.hpp"
#include "small_kernels.hpp"
#include "trace.hpp"

namespace {

using Catch::Matchers::WithinAbs;
using serving::test::Folder;

/// What reading a file of that text is refused with.
std::string refusal(const std::string& name, const std::string& text) {
  const Folder folder;
  try {
    serving::read_trace(folder.write(name, text));
  } catch (const decoder::Error& error) {
    return error.what();
  }
  return "";
}

void check_refused(const std::string& name, const std::string& text, const std::string& part) {
  const std::string what = refusal(name, text);
  INFO(what);
  CHECK(what.find(name + ": " + part) != std::string::npos);
  CHECK(what.find('\n') == std::string::npos);
}

/// The folder rtx4090-x with these rows of attention lacks `row`, and that is said.
void check_attention_refused(const Folder& folder, const std::string& rows,
                             const std::string& row) {
  folder.write("rtx4090-x/attention.csv",
               "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n" + rows);
  CHECK_THROWS_WITH(
      serving::measured_times(folder.path("rtx4090-x"), serving::model_shape("llama-3.1-8b")),
      Catch::Contains("attention.csv: has no row of " + row));
}

const std::string seconds = "arrival_s,input_tokens,output_tokens\n";
const std::string dates = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

}  // namespace

TEST_CASE("a trace in seconds is read, whatever its other columns and line ends") {
  const Folder folder;
  const auto trace = serving::read_trace(folder.write(
      "a.csv", "arrival_s,queue_s,input_tokens,output_tokens\r\n0,9,7,8\r\n\r\n0.5,9,1,2\r\n"));
  REQUIRE(trace.requests.size() == 2);
  CHECK(trace.name == "a.csv");
  CHECK(trace.requests[1].arrival == 0.5);
  CHECK(trace.requests[0].input == 7);
  CHECK(trace.requests[0].output == 8);
}

TEST_CASE("a trace may say how long each answer may become") {
  const Folder folder;
  const std::string heading = "arrival_s,input_tokens,output_tokens,max_tokens\n";
  const auto trace = serving::read_trace(folder.write("m.csv", heading + "0,7,8,9\n1,7,8,8\n"));
  CHECK(trace.requests[0].most_output == 9);
  CHECK(trace.requests[1].most_output == 8);
  CHECK(serving::read_trace(folder.write("n.csv", seconds + "0,7,8\n")).requests[0].most_output ==
        0);
  check_refused("m.csv", heading + "0,7,8,7\n",
                "row 2: max_tokens is 7: below its output_tokens, 8");
  check_refused("m.csv", heading + "0,7,8,\n", "row 2: max_tokens is \"\"");
}

TEST_CASE("a trace of dates begins at its first request, across midnight and month") {
  const Folder folder;
  const auto trace = serving::read_trace(folder.write(
      "b.csv", dates + "2023-11-30 23:59:59.5000000,374,44\n2023-12-01 00:00:01.2500000,396,109"));
  REQUIRE(trace.requests.size() == 2);
  CHECK(trace.requests[0].arrival == 0);
  CHECK_THAT(trace.requests[1].arrival, WithinAbs(1.75, 1e-6));
}

TEST_CASE("JSON lines keep the hashes of full blocks alone") {
  const Folder folder;
  const auto trace = serving::read_trace(folder.write(
      "c.jsonl",
      R"({"timestamp": 0, "input_length": 1300, "output_length": 5, "hash_ids": [4, 9, 11]})"
      "\n"
      R"({"timestamp": 1500, "input_length": 512, "output_length": 1, "hash_ids": [4]})"));
  REQUIRE(trace.requests.size() == 2);
  CHECK(trace.requests[1].arrival == 1.5);
  REQUIRE(trace.prompt(trace.requests[0]).size() == 2);
  CHECK(trace.prompt(trace.requests[0])[1] == 9);
  CHECK(trace.prompt(trace.requests[1])[0] == trace.prompt(trace.requests[0])[0]);
}

TEST_CASE("what is wrong with a trace is said with its file and row") {
  check_refused("a.csv", seconds, "has no requests");
  check_refused("a.csv", "", "cannot be read, or is empty");
  check_refused("a.csv", "arrival_s,input_tokens\n0,1\n", "has no column \"output_tokens\"");
  check_refused("a.csv", seconds + "0,1,1\n1,2\n", "row 3: 2 cells under 3 headings");
  check_refused("a.csv", seconds + "0,1,1\n-1,2,2\n", "row 3: arrival_s is \"-1\"");
  check_refused("a.csv", seconds + "2,1,1\n1,2,2\n", "row 3: arrives before the row above");
  check_refused("a.csv", seconds + "0,1,1\n1e300,2,2\n", "row 3: arrives more than a billion");
  check_refused("a.csv", seconds + "nan,1,1\n", "row 2: arrival_s is \"nan\"");
  check_refused("a.csv", seconds + "0,0,1\n", "row 2: input_tokens is \"0\"");
  check_refused("a.csv", seconds + "0,1,-4\n", "row 2: output_tokens is \"-4\"");
  check_refused("a.csv", seconds + "0,1,99999999999\n", "row 2: output_tokens is");
  check_refused("a.csv", seconds + "0,1,1.5\n", "row 2: output_tokens is \"1.5\"");
  check_refused("b.csv", dates + "2023-13-01 00:00:00,1,1\n", "row 2: TIMESTAMP is");
  check_refused("b.csv", dates + "yesterday,1,1\n", "row 2: TIMESTAMP is \"yesterday\"");
  check_refused("b.csv", dates + "2023-11-16 18:00:01,1,1\n2023-11-16 18:00:00,1,1\n",
                "row 3: arrives before");
}

TEST_CASE("what is wrong with JSON lines is said with its file and row") {
  const std::string good = R"({"timestamp": 5, "input_length": 3, "output_length": 1})"
                           "\n";
  check_refused("c.jsonl", good + "{\"timestamp\": 6", "row 2: is no JSON object");
  check_refused("c.jsonl", good + "[1]", "row 2: is no JSON object");
  check_refused("c.jsonl", R"({"input_length": 3, "output_length": 1})",
                "row 1: has no number timestamp");
  check_refused("c.jsonl", R"({"timestamp": -5, "input_length": 3, "output_length": 1})",
                "row 1: timestamp is below 0");
  check_refused("c.jsonl", good + R"({"timestamp": 4, "input_length": 3, "output_length": 1})",
                "row 2: arrives before");
  check_refused("c.jsonl", R"({"timestamp": 5, "input_length": -3, "output_length": 1})",
                "row 1: input_length is -3");
  check_refused("c.jsonl", R"({"timestamp": 5, "input_length": 1e30, "output_length": 1})",
                "row 1: input_length is 1e+30");
  check_refused("c.jsonl",
                R"({"timestamp": 5, "input_length": 600, "output_length": 1, "hash_ids": ["a"]})",
                "row 1: hash_ids has what is no number");
}

TEST_CASE("prompts that begin alike have the same hashes as far as they do") {
  const Folder folder;
  auto trace = serving::read_trace(folder.write("a.csv", seconds + "0,5,1\n1,6,1\n"));
  serving::read_prompts(folder.write("p.jsonl",
                                     "{\"input_tok_ids\": [1,2,3,4,5]}\n"
                                     "{\"input_tok_ids\": [1,2,9,4,5,6]}\n"),
                        2, trace);
  const auto first = trace.prompt(trace.requests[0]);
  const auto second = trace.prompt(trace.requests[1]);
  REQUIRE(first.size() == 2);
  REQUIRE(second.size() == 3);
  CHECK(first[0] == second[0]);
  CHECK(first[1] != second[1]);
  CHECK_THROWS_AS(
      serving::read_prompts(folder.write("q.jsonl", "{\"input_tok_ids\": [1]}\n"), 2, trace),
      decoder::Error);
  CHECK_THROWS_AS(serving::read_prompts(
                      folder.write("r.jsonl", "{\"input_tok_ids\": [1,2,3,4,5]}\n"), 2, trace),
                  decoder::Error);
}

TEST_CASE("a table of shared prefixes shares the blocks that the prompts do") {
  const Folder folder;
  const std::string requests = seconds + "0,5,1\n1,6,1\n2,4,1\n3,7,1\n";
  auto by_prompts = serving::read_trace(folder.write("a.csv", requests));
  auto by_table = by_prompts;
  serving::read_prompts(folder.write("p.jsonl",
                                     "{\"input_tok_ids\": [1,2,3,4,5]}\n"
                                     "{\"input_tok_ids\": [1,2,9,4,5,6]}\n"
                                     "{\"input_tok_ids\": [7,2,3,4]}\n"
                                     "{\"input_tok_ids\": [1,2,9,4,5,7,8]}\n"),
                        2, by_prompts);
  const std::string table = folder.write("t.csv", "request,continues,tokens\n2,1,2\n4,2,5\n");
  serving::share_prefixes(serving::read_shared_prefixes(table, by_table), 2, by_table);
  REQUIRE(by_table.hash_tokens == 2);
  REQUIRE(by_table.hashes.size() == by_prompts.hashes.size());
  for (std::size_t i = 0; i < by_table.hashes.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      CHECK((by_table.hashes[i] == by_table.hashes[j]) ==
            (by_prompts.hashes[i] == by_prompts.hashes[j]));
}

TEST_CASE("a table of shared prefixes that cannot be is refused by its row") {
  const Folder folder;
  const auto trace = serving::read_trace(folder.write("a.csv", seconds + "0,5,1\n1,6,1\n2,4,1\n"));
  const auto refusal = [&](const std::string& rows) {
    const std::string path = folder.write("t.csv", "request,continues,tokens\n" + rows);
    try {
      serving::read_shared_prefixes(path, trace);
    } catch (const decoder::Error& error) {
      return std::string(error.what()).substr(path.size());
    }
    return std::string();
  };
  CHECK(refusal("2,1,5\n3,2,4\n").empty());
  CHECK(refusal("1,1,3\n").find(": row 2: request") == 0);
  CHECK(refusal("3,1,3\n2,1,3\n").find(": row 3: request") == 0);
  CHECK(refusal("4,1,3\n").find(": row 2: request") == 0);
  CHECK(refusal("2,2,3\n").find(": row 2: continues") == 0);
  CHECK(refusal("3,1,5\n").find(": row 2: tokens") == 0);
  CHECK(refusal("2,1\n").find(": row 2") == 0);
}

TEST_CASE("a workload is known by its hash alone") {
  CHECK(serving::known_prefixes("").empty());
  const auto known =
      serving::known_prefixes("05e48b32da530d4a3dd77f3d47c6fe694ac8308d611aa088e38bb10fba2b3b3a");
  REQUIRE(known.size() == 32);
  std::size_t blocks = 0;
  for (const auto& shared : known) {
    CHECK(shared.continues < shared.request);
    blocks += shared.tokens / 16;
  }
  CHECK(blocks == 1220);
  const Folder folder;
  const auto part = serving::read_trace(folder.write("a.csv", seconds + "0,5,1\n1,6,1\n"));
  CHECK_FALSE(serving::are_of(known, part));
}

TEST_CASE("a made-up trace is the same for the same seed, and as asked") {
  const serving::SyntheticTrace settings{.requests = 4000, .rate = 8, .seed = 3};
  const auto one = serving::synthetic_trace(settings);
  const auto two = serving::synthetic_trace(settings);
  double above = 0;
  for (std::size_t i = 0; i < one.requests.size(); ++i) {
    REQUIRE(one.requests[i].arrival == two.requests[i].arrival);
    REQUIRE(one.requests[i].input == two.requests[i].input);
    REQUIRE(one.requests[i].input <= settings.longest);
    REQUIRE(one.requests[i].output >= 1);
    above += one.requests[i].input > settings.input_median ? 1 : 0;
  }
  CHECK_THAT(one.requests.back().arrival, WithinRel(4000.0 / 8, 0.05));
  CHECK_THAT(above / 4000, WithinAbs(0.5, 0.03));
  // Is this change intended? Figures of made-up traces change with it.
  CHECK(one.requests[0].input == 223);
  CHECK(one.requests[3999].output == 596);
  auto other = settings;
  other.seed = 4;
  CHECK(serving::synthetic_trace(other).requests[0].arrival != one.requests[0].arrival);
}

TEST_CASE("a curve is linear between points, flat before them and extended behind") {
  const serving::Curve curve({1, 2, 4}, {10, 20, 60});
  CHECK(curve(0) == 10);
  CHECK(curve(1.5) == 15);
  CHECK(curve(2) == 20);
  CHECK(curve(3) == 40);
  CHECK(curve(5) == 80);
  CHECK(serving::Curve()(3) == 0);
  CHECK(serving::Curve({2}, {7})(9) == 7);
  serving::Curve sum;
  sum.add(curve, 2);
  sum.add(serving::Curve({0, 3}, {0, 3}), 1);
  CHECK(sum(3) == 83);
  CHECK(sum(1.5) == 31.5);
}

TEST_CASE("a grid gives a function back that is linear in each variable") {
  serving::Grid<3> grid({std::vector<double>{0, 1, 4}, {2, 3}, {0, 10, 20, 30}});
  const auto function = [](double x, double y, double z) { return 1 + x * y - 2 * y * z + x * z; };
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t c = 0; c < 4; ++c)
        grid.at({a, b, c}) = function(grid.axis(0)[a], grid.axis(1)[b], grid.axis(2)[c]);
  for (const double x : {0.0, 0.5, 2.0, 4.0, 6.0})
    for (const double y : {2.0, 2.75, 3.0, 5.0})
      for (const double z : {0.0, 7.0, 25.0, 40.0})
        CHECK_THAT(grid({x, y, z}), WithinAbs(function(x, y, z), 1e-9));
}

TEST_CASE("a step of measured kernels is the sum of its operations") {
  const Folder folder;
  serving::test::write_tables(folder, "rtx4090-made-up");
  const auto times =
      serving::measured_times(folder.path("rtx4090-made-up"), serving::model_shape("llama-3.1-8b"));
  // 32 layers of eight operations (two norms), the embedding and the last norm: 258 in all.
  const serving::PrefillPart part{1000, 0};
  serving::StepWork work;
  work.prefills = std::span(&part, 1);
  CHECK_THAT(times.seconds(work), WithinRel(258e-6 * 1000, 1e-9));
  work = {};
  work.decodes = 3;
  work.decode_context = 300;
  // Filled up to 4 sequences.
  CHECK_THAT(times.rest(work), WithinRel(258e-6 * 4, 1e-9));
  CHECK_THAT(times.attention(work), WithinRel(300e-6, 1e-9));
  CHECK_THAT(times.seconds(work), WithinRel(258e-6 * 4 + 32 * 300e-6, 1e-9));
}

TEST_CASE("chunks of a prompt take as long as all of it, but for the products") {
  const auto model = serving::model_shape("llama-3.1-8b");
  const auto times = serving::estimated_times(model, serving::gpu_sheet("h100"), 1);
  const auto attention = [&](double tokens, double context) {
    const serving::PrefillPart part{tokens, context};
    serving::StepWork work;
    work.prefills = std::span(&part, 1);
    return times.attention(work);
  };
  const double whole = attention(8192, 0);
  CHECK_THAT(attention(2048, 0) + attention(6144, 2048), WithinRel(whole, 0.01));
  CHECK(attention(6144, 2048) > attention(6144, 0));
}

TEST_CASE("a step of kernels by shape is their sum, wide products in parts") {
  const Folder folder;
  // A product takes 1 ms and 1e-15 s a multiplication; attention 1 us a token or sequence.
  std::string gemm = "m,n,k,latency_ms\n";
  for (const double m : {1, 1024})
    for (const double n : {1024, 16384})
      for (const double k : {1024, 16384})
        gemm += std::to_string(static_cast<int>(m)) + "," + std::to_string(static_cast<int>(n)) +
                "," + std::to_string(static_cast<int>(k)) + "," +
                std::to_string(1 + m * n * k * 1e-12) + "\n";
  folder.write("a100_x_gemm_bf16.csv", gemm);
  const std::string heads = "batch,isl,step,heads,kv_heads,head_dim,latency_ms\n";
  folder.write("a100_x_context_attention_bf16.csv",
               heads +
                   "1,16,0,32,8,128,0.016\n1,1600,0,32,8,128,1.6\n2,16,0,32,8,128,9\n"
                   "2,1600,0,32,8,128,9\n1,16,0,16,2,128,9\n");
  folder.write("a100_x_generation_attention_bf16.csv",
               heads +
                   "1,1,99,32,8,128,0.001\n1,1,999,32,8,128,0.001\n"
                   "8,1,99,32,8,128,0.008\n16,1,99,32,8,128,0.016\n");
  const auto model = serving::model_shape("llama-3.1-8b");
  const auto gpu = serving::gpu_sheet("a100");
  const auto times = serving::kernel_times(folder.path("a100_x"), model, gpu, 1);
  serving::StepWork work;
  work.decodes = 8;
  work.decode_context = 8 * 1000;
  const double layer = 6144.0 * 4096 + 4096.0 * 4096 + 28672.0 * 4096 + 4096.0 * 14336;
  // Five products a layer, for the widest is two; eight for the vocabulary.
  const double products = 32 * (5e-3 + 8 * layer * 1e-15) + 8e-3 + 8 * 128256.0 * 4096 * 1e-15;
  const double small = serving::small_kernels(model, gpu, 1, {1, 1024})(8);
  CHECK_THAT(times.rest(work), WithinRel(products + small, 1e-6));
  // Not measured at this context: as many times as the batch is larger than the one that was.
  CHECK_THAT(times.attention(work), WithinRel(8e-6, 1e-6));
  const serving::PrefillPart part{200, 300};
  work = {};
  work.prefills = std::span(&part, 1);
  CHECK_THAT(times.attention(work), WithinRel(200e-6, 1e-6));
  CHECK_THROWS_AS(serving::kernel_times(folder.path("a100_x"), model, gpu, 2), decoder::Error);
  CHECK_THROWS_AS(serving::kernel_times(folder.path("a100_x"), model, gpu, 3), decoder::Error);
}

TEST_CASE("profiles that cannot be are refused in a line") {
  const Folder folder;
  const auto model = serving::model_shape("llama-3.1-8b");
  CHECK_THROWS_AS(serving::model_shape("gpt-9"), decoder::Error);
  CHECK_THROWS_AS(serving::read_profile("no/such/thing", model, 1, 16), decoder::Error);
  CHECK_THROWS_AS(serving::read_profile("estimate", serving::model_shape("llama-3.1-70b"), 1, 16),
                  decoder::Error);
  CHECK(serving::read_profile("estimate", model, 1, 16).device_blocks > 20000);
  serving::test::write_tables(folder, "rtx4090-x");
  CHECK(serving::read_profile(folder.path("rtx4090-x"), model, 1, 16).device_blocks > 1000);
  CHECK(serving::read_profile(folder.path("rtx4090-x/"), model, 1, 16).name == "rtx4090-x");
  check_attention_refused(folder, "16,0,0,0,0\n16,1024,0,0,0\n0,0,1,16,1\n16,0,1,1024,1\n",
                          "prefill_chunk 0, kv_prefill 0, n_decode 1, kv_decode 1024");
  check_attention_refused(folder, "16,0,0,0,0\n0,0,1,16,1\n16,1024,1,16,1\n",
                          "prefill_chunk 16, kv_prefill 1024, n_decode 0, kv_decode 0");
  folder.write("rtx4090-x/dense.csv", "layer,tokens,time_us\nembedding,1,-3\n");
  CHECK_THROWS_WITH(serving::read_profile(folder.path("rtx4090-x"), model, 1, 16),
                    Catch::Contains("dense.csv: row 2: time_us is \"-3\""));
}

// Costs: what they come to, and how they are fitted to tables and refitted on line.
#include "lethe/layerkv/cost_model.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::CopyCost;
using layerkv::CopyWork;
using layerkv::DecodeCost;
using layerkv::DecodeWork;
using layerkv::PrefillCost;
using layerkv::PrefillWork;
using naive::Random;

namespace {

/// About what an H100 takes for an 8B model.
constexpr PrefillCost prefill{2.2e-3, 1.6e-5, 1.2e-9};
constexpr DecodeCost decode{5.4e-3, 1.5e-5, 3.9e-8};
constexpr CopyCost copy{2e-6, 6e-6, 1.7e-11};

template <class Work>
using Table = std::vector<layerkv::Measured<Work>>;

/// A factor around 1, at most `spread` away.
double noise(Random& random, double spread) {
  return 1 + spread * (2 * static_cast<double>(random.unit()) - 1);
}

PrefillWork draw(Random& random, const PrefillCost&) {
  return {random.between(16, 8192), random.chance(50) ? 0 : random.below(32768)};
}

DecodeWork draw(Random& random, const DecodeCost&) {
  const std::size_t sequences = random.between(1, 256);
  return {sequences, sequences * random.between(16, 8192)};
}

CopyWork draw(Random& random, const CopyCost&) {
  const std::size_t fragments = random.between(1, 512);
  const std::size_t bytes = fragments << random.between(12, 22);
  return {bytes, fragments, random.between(1, fragments)};
}

template <class Cost>
Table<typename Cost::Work> table_of(const Cost& cost, std::uint64_t seed, std::size_t rows,
                                    double spread) {
  Random random(seed);
  Table<typename Cost::Work> table;
  for (std::size_t i = 0; i < rows; ++i) {
    const auto work = draw(random, cost);
    table.push_back({work, cost.seconds(work) * noise(random, spread)});
  }
  return table;
}

template <class Cost>
layerkv::Fit<Cost> fitted(const Table<typename Cost::Work>& table) {
  return layerkv::fit<Cost>(table);
}

/// What fit says when it refuses; empty when it does not.
template <class Cost>
std::string refusal(const Table<typename Cost::Work>& table) {
  try {
    static_cast<void>(layerkv::fit<Cost>(table));
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

bool begins(const std::string& message, const std::string& start) {
  return message.substr(0, start.size()) == start && message.size() > start.size() + 10;
}

template <class Cost>
void check_recovers(const Cost& truth, double spread, double tolerance) {
  const auto fit = fitted<Cost>(table_of(truth, 7, 400, spread));
  const auto found = layerkv::detail::coefficients(fit.cost);
  const auto sought = layerkv::detail::coefficients(truth);
  for (std::size_t i = 0; i < 3; ++i) CHECK_THAT(found[i], WithinRel(sought[i], tolerance));
  CHECK(fit.used == 400);
  CHECK(fit.refused == 0);
  CHECK(fit.mean_error <= spread + 1e-9);
}

}  // namespace

TEST_CASE("prefill follows the published formula, and chunks add up to the whole") {
  // alpha (2 P s + 2 L d s^2) / FLOPS; a causal token also sees itself, hence s (s + 1).
  const layerkv::Costs costs = layerkv::estimated_costs({.parameters = 8e9,
                                                         .layers = 32,
                                                         .attention_width = 4096,
                                                         .token_bytes = 4096,
                                                         .flops = 989e12,
                                                         .memory_bandwidth = 3.35e12,
                                                         .alpha = 1.2});
  const double s = 4096;
  const double published = 1.2 * (2 * 8e9 * s + 2.0 * 32 * 4096 * s * (s + 1)) / 989e12;
  CHECK_THAT(costs.prefill.seconds({4096, 0}), WithinRel(published, 1e-12));
  CHECK_THAT(costs.decode.seconds({1, 0}),
             WithinRel(1.2 * (16e9 / 3.35e12 + 16e9 / 989e12), 1e-12));
  CHECK_THAT(costs.decode.seconds({4, 1000}) - costs.decode.seconds({4, 0}),
             WithinRel(1.2 * 1000 * 32 * 4096 / 3.35e12, 1e-9));
  double chunks = 0;
  for (std::size_t done = 0; done < 5000; done += 512) {
    chunks += prefill.seconds({std::min<std::size_t>(512, 5000 - done), done + 100});
  }
  CHECK_THAT(prefill.seconds({5000, 100}, 512), WithinRel(chunks, 1e-12));
  CHECK(prefill.seconds({5000, 100}, 0) == prefill.seconds({5000, 100}));
  CHECK(prefill.seconds({5000, 100}, 5000) == prefill.seconds({5000, 100}));
  CHECK(prefill.seconds({5000, 100}, 4999) > prefill.seconds({5000, 100}));
}

TEST_CASE("bandwidth rises with the fragment, by the two points it was drawn through") {
  const CopyCost link;
  CHECK_THAT(link.bandwidth(32 << 10), WithinRel(5e9, 0.01));
  CHECK_THAT(link.bandwidth(2 << 20), WithinRel(50e9, 0.01));
  CHECK(link.bandwidth(0) == 0);
  double last = 0;
  for (std::size_t bytes = 1; bytes < (std::size_t{1} << 40); bytes *= 2) {
    CHECK(link.bandwidth(bytes) > last);
    last = link.bandwidth(bytes);
  }
  CHECK(last < 1 / link.per_byte);
}

TEST_CASE("a mixed pass reads the weights once") {
  const layerkv::Costs costs{.prefill = prefill, .decode = decode};
  const PrefillWork chunk{512, 1024};
  const DecodeWork beside{32, 40000};
  CHECK_THAT(costs.mixed_seconds(chunk, beside),
             WithinRel(prefill.seconds(chunk) + decode.seconds(beside) - prefill.base, 1e-12));
  CHECK(costs.mixed_seconds(chunk, {0, 0}) == prefill.seconds(chunk));
  CHECK(costs.mixed_seconds({0, 0}, beside) == decode.seconds(beside));
  CHECK(costs.mixed_seconds({0, 0}, {0, 0}) == 0);
  CHECK(lethe::is_finite_double(layerkv::Costs{{0, 1e300, 0}, {0, 1e300, 0}}.mixed_seconds(
      {std::numeric_limits<std::size_t>::max(), 0}, {std::numeric_limits<std::size_t>::max(), 0})));
}

TEST_CASE("enqueueing is paid by the copy, not by the link's share") {
  const CopyWork work{1 << 20, 32, 8};
  const double link = 32 * 6e-6 + (1 << 20) * 1.7e-11;
  CHECK_THAT(copy.seconds(work), WithinRel(8 * 2e-6 + link, 1e-12));
  CHECK_THAT(copy.seconds(work, 0.25), WithinRel(8 * 2e-6 + 4 * link, 1e-12));
}

TEST_CASE("collectives leave what they do not use; a full or missing link never ends") {
  CHECK(layerkv::link_share(0, 1) == 1);
  CHECK(layerkv::link_share(-1, 1) == 1);
  CHECK(layerkv::link_share(0.25, 1) == 0.75);
  CHECK(layerkv::link_share(2, 2) == 0);
  CHECK(layerkv::link_share(3, 2) == 0);
  CHECK(layerkv::link_share(1, 0) == 1);
  CHECK(copy.seconds({1, 1, 1}, 0) == layerkv::never);
  CHECK(copy.seconds({1, 1, 1}, -1) == layerkv::never);
  CHECK(copy.seconds({1, 1, 1}, 1e-320) == layerkv::never);
  CHECK(copy.seconds({0, 0, 0}, 0) == 0);
}

TEST_CASE("no work takes no time, and no amount overflows") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK(prefill.seconds({0, 1000}) == 0);
  CHECK(prefill.seconds({0, 1000}, 16) == 0);
  CHECK(decode.seconds({0, 1000}) == 0);
  CHECK(lethe::is_finite_double(prefill.seconds({most, most}, 1)));
  CHECK(lethe::is_finite_double(decode.seconds({most, most})));
  CHECK(lethe::is_finite_double(copy.seconds({most, most, most}, 1e-300)));
}

TEST_CASE("a fit finds the coefficients again") {
  check_recovers(prefill, 0, 1e-6);
  check_recovers(decode, 0, 1e-6);
  check_recovers(copy, 0, 1e-6);
  check_recovers(prefill, 0.1, 0.05);
  check_recovers(decode, 0.1, 0.05);
  check_recovers(copy, 0.1, 0.05);
}

TEST_CASE("a fit is no worse than any other costs, and none is below 0") {
  // The optimum's gradient: 0 where a coefficient is above 0, and not downhill where it is 0.
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    Table<PrefillWork> table;
    for (std::size_t i = 0; i < random.between(3, 12); ++i) {
      table.push_back({draw(random, prefill), 1e-3 + static_cast<double>(random.unit())});
    }
    layerkv::Fit<PrefillCost> fit;
    try {
      fit = layerkv::fit<PrefillCost>(table, {.most_mean_error = 1e9});
    } catch (const std::invalid_argument&) {
      continue;  // Random times seldom fall with the work, but some do.
    }
    const auto c = layerkv::detail::coefficients(fit.cost);
    for (std::size_t i = 0; i < 3; ++i) {
      double gradient = 0;
      double size = 0;
      for (const auto& row : table) {
        const auto x = layerkv::detail::features(row.work);
        const double residual = (c[0] * x[0] + c[1] * x[1] + c[2] * x[2]) / row.seconds - 1;
        gradient += residual * x[i] / row.seconds;
        size += x[i] / row.seconds;
      }
      INFO("seed " << seed << ", coefficient " << i);
      CHECK(c[i] >= 0);
      CHECK(gradient >= -1e-6 * size);
      if (c[i] > 0) CHECK(gradient <= 1e-6 * size);
    }
  }
}

TEST_CASE("a table that falls with one size does without that coefficient") {
  Table<DecodeWork> table;
  for (std::size_t n = 1; n <= 40; ++n) table.push_back({{n, 1000 * (50 - n)}, 1e-3 * double(n)});
  const auto fit = fitted<DecodeCost>(table);
  CHECK(fit.cost.per_token == 0);
  CHECK_THAT(fit.cost.per_sequence, WithinRel(1e-3, 1e-9));
}

TEST_CASE("measurements that cannot be are left out and counted") {
  auto table = table_of(prefill, 3, 50, 0);
  for (const double seconds : {0.0, -1.0, 1e-12, 1e5, std::nan(""), double(INFINITY), -1e300}) {
    table.push_back({{100, 0}, seconds});
  }
  table.push_back({{0, 100}, 1.0});
  const auto fit = fitted<PrefillCost>(table);
  CHECK(fit.used == 50);
  CHECK(fit.refused == 8);
  CHECK_THAT(fit.cost.per_token, WithinRel(prefill.per_token, 1e-6));
  CHECK(fit.worst_error < 1e-6);
}

TEST_CASE("absurd tables are refused in words") {
  CHECK(begins(refusal<PrefillCost>({}), "lethe: measurements = 0: "));
  CHECK(begins(refusal<PrefillCost>({{{1, 0}, 1.0}, {{2, 0}, 2.0}}), "lethe: measurements = 2: "));
  Table<PrefillWork> constant;
  for (std::size_t n = 1; n <= 9; ++n) constant.push_back({{n * 100, 0}, 0.5});
  CHECK(begins(refusal<PrefillCost>(constant), "lethe: measurements = 9: "));
  Table<CopyWork> calls;
  for (std::size_t n = 1; n <= 9; ++n) calls.push_back({{1 << 20, n, n}, 1e-6 * double(n)});
  CHECK(begins(refusal<CopyCost>(calls), "lethe: measurements = 9: "));
  Table<PrefillWork> scattered;
  for (std::size_t n = 1; n <= 40; ++n) {
    scattered.push_back({{n, 0}, n % 2 == 0 ? 1e-3 * double(n) : 10.0 * double(n)});
  }
  CHECK(begins(refusal<PrefillCost>(scattered), "lethe: mean_error = "));
}

TEST_CASE("sizes that differ little still tell the coefficients apart") {
  Table<PrefillWork> table;
  for (std::size_t n = 1000; n <= 1400; n += 40) table.push_back({{n, 0}, prefill.seconds({n, 0})});
  const auto fit = fitted<PrefillCost>(table);
  CHECK_THAT(fit.cost.base, WithinRel(prefill.base, 1e-3));
  CHECK_THAT(fit.cost.per_pair, WithinRel(prefill.per_pair, 1e-3));
}

TEST_CASE("columns that say the same share, and what they say of other sizes stands") {
  // Each fragment is a copy of its own: enqueueing and fragments cannot be told apart.
  Table<CopyWork> table;
  for (std::size_t n = 1; n <= 64; ++n) {
    const CopyWork work{n << (12 + n % 8), n, n};
    table.push_back({work, copy.seconds(work)});
  }
  const auto fit = fitted<CopyCost>(table);
  CHECK_THAT(fit.cost.per_copy + fit.cost.per_fragment, WithinRel(8e-6, 1e-6));
  CHECK(fit.mean_error < 1e-6);
}

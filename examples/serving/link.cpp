#include "link.hpp"

#include <array>

namespace serving {

double end_of_step(double begin, double compute, const StepCopies& copies, LinkWay& in,
                   LinkWay& out) {
  double now = begin;
  std::array<double, 2> fetched{begin - 2 * compute, begin - 2 * compute};
  std::array<double, 2> staged{begin, begin};
  for (std::size_t layer = 0; layer < copies.in.size(); ++layer) {
    const bool fetches = copies.in[layer] > 0;
    const bool stages = copies.out[layer] > 0;
    if (fetches) now = std::max(now, in.copy(fetched[0], copies.in[layer]));
    if (stages) now = std::max(now, staged[0]);
    now += compute;
    if (fetches) fetched = {fetched[1], now};
    if (stages) staged = {staged[1], out.copy(now, copies.out[layer])};
  }
  return now;
}

}  // namespace serving

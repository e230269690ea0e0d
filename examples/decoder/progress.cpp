#include "progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "report_text.hpp"

namespace decoder {
namespace {

constexpr std::size_t bar_width = 28;
constexpr auto redraw_every = std::chrono::milliseconds(120);
constexpr auto line_every = std::chrono::seconds(15);

}  // namespace

Progress::Progress(std::string label, std::size_t total)
    : label_(std::move(label)), total_(total), is_terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (is_drawn_ && is_terminal_) std::fputs("\r\x1b[K", stderr);
}

void Progress::advance(std::size_t units) {
  done_ += units;
  const auto now = Clock::now();
  if (now < next_) return;
  draw(std::chrono::duration<double>(now - start_).count());
  if (is_terminal_)
    next_ = now + redraw_every;
  else
    next_ = now + line_every;
}

void Progress::draw(double elapsed) {
  const std::string text = line(elapsed);
  std::fprintf(stderr, is_terminal_ ? "\r%s\x1b[K" : "%s\n", text.c_str());
  is_drawn_ = true;
}

std::string Progress::line(double elapsed) const {
  const double share =
      total_ == 0 ? 1.0 : std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const double left = share > 0 ? elapsed / share - elapsed : 0;
  std::string out = label_;
  if (is_terminal_) {
    const auto filled = static_cast<std::size_t>(share * bar_width);
    out += " [";
    out.append(filled, '#').append(bar_width - filled, '.').append("]");
  }
  out += ' ' + report::percent(share) + ", ";
  out += std::to_string(done_) + " of " + std::to_string(total_);
  if (done_ < total_) out += ", " + report::fixed(left, 0) + " s left";
  return out;
}

}  // namespace decoder

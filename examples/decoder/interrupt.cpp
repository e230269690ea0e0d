#include "interrupt.hpp"

#include <csignal>

namespace decoder {
namespace {

volatile std::sig_atomic_t interrupted = 0;

extern "C" void note_interrupt(int) { interrupted = 1; }

}  // namespace

void watch_for_interrupt() {
  struct sigaction action {};
  action.sa_handler = note_interrupt;
  // SA_RESETHAND gives the second Ctrl-C its usual meaning, should the first not be heard.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

bool is_interrupted() noexcept { return interrupted != 0; }

}  // namespace decoder

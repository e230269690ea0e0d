/// Subnormal numbers count while lethe computes, whatever the program has told the processor.
#pragma once

namespace lethe::detail {

/// Puts the processor into IEEE mode while it lives. A program linked with -ffast-math, or one that
/// asked for it, reads and writes subnormals as zero; scores would then have other bits there.
/// On x86 with SSE; elsewhere it does nothing. A few cycles where nothing needs to change.
class KeepSubnormals {
 public:
#if defined(__SSE__) && (defined(__GNUC__) || defined(__clang__))
  KeepSubnormals() : mode_(__builtin_ia32_stmxcsr()) {
    if ((mode_ & flushing) != 0) __builtin_ia32_ldmxcsr(mode_ & ~flushing);
  }
  ~KeepSubnormals() {
    if ((mode_ & flushing) != 0) __builtin_ia32_ldmxcsr(mode_);
  }

 private:
  // Flush to zero, and denormals are zero.
  static constexpr unsigned flushing = 0x8040u;
  unsigned mode_;

 public:
#else
  KeepSubnormals() {}
  ~KeepSubnormals() {}
#endif
  KeepSubnormals(const KeepSubnormals&) = delete;
  KeepSubnormals& operator=(const KeepSubnormals&) = delete;
};

}  // namespace lethe::detail

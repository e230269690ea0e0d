/// What a call of lethe::gpu came to.
#pragma once

namespace lethe::gpu {

/// The outcome of a call. Codes are those of cudaError_t, so that 0 is success.
struct Status {
  int code = 0;
  /// The CUDA call or the function of lethe that failed.
  const char* call = "";
  /// The argument that was refused and the remedy; empty where CUDA failed.
  const char* remedy = "";

  [[nodiscard]] constexpr bool ok() const { return code == 0; }
  bool operator==(const Status&) const = default;
};

/// cudaErrorInvalidValue: the code of an argument that was refused before any call of CUDA.
inline constexpr int invalid_argument = 1;

/// An argument refused by `call`; remedy: "field: what to give instead".
[[nodiscard]] constexpr Status refused(const char* call, const char* remedy) {
  return {invalid_argument, call, remedy};
}

}  // namespace lethe::gpu

#include "embedded_model.hpp"

// The assembler reads the file into the program's constants.
asm(R"(
    .section .rodata
    .balign 64
    .type lethe_embedded_model, %object
    .type lethe_embedded_model_end, %object
lethe_embedded_model:
    .incbin ")" LETHE_EMBEDDED_MODEL R"("
lethe_embedded_model_end:
    .byte 0
    .previous
)");

extern "C" {
extern const std::byte lethe_embedded_model[];
extern const std::byte lethe_embedded_model_end[];
}

namespace decoder {

std::span<const std::byte> embedded_model() noexcept {
  return {lethe_embedded_model, lethe_embedded_model_end};
}

}  // namespace decoder

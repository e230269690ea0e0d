#pragma once

namespace decoder {

/// Makes Ctrl-C ask for an orderly end; a second one ends the program at once.
void watch_for_interrupt();

/// Whether Ctrl-C was pressed since watch_for_interrupt(); loops ask once per token.
bool is_interrupted() noexcept;

}  // namespace decoder

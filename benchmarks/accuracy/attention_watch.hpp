/// What a text's tokens will be looked at, found by reading it with the whole cache.
#pragma once

#include <cstddef>
#include <span>

#include "decoder.hpp"
#include "future_mass.hpp"
#include "problems.hpp"

namespace accuracy {

/// Reads a text with its whole cache. O(tokens^2).
/// Returns every look of at least `least` of one head's attention at a token that is not the
/// query's own.
[[nodiscard]] decoder::FutureLooks watch_attention(decoder::Decoder& decoder,
                                                   const decoder::ModelConfig& model,
                                                   std::span<const Token> text,
                                                   float least = 0.02f);

}  // namespace accuracy

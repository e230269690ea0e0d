/// The envelope of saved state: what it is, whose it is, and whether it arrived whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lethe/archive.hpp"
#include "lethe/config.hpp"

namespace lethe::detail {

struct StateHeader {
  std::array<char, 8> magic{'L', 'E', 'T', 'H', 'E', 'K', 'V', 'S'};
  std::uint32_t version = 2;
  // Reads differently on a machine of the other byte order.
  std::uint32_t byte_order = 0x01020304u;
  std::uint64_t policy = 0;
  std::array<std::uint64_t, 7> shape{};
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
};
static_assert(std::is_trivially_copyable_v<StateHeader> && sizeof(StateHeader) == 96);

[[noreturn]] LETHE_COLD inline void refuse_state(const std::string& why) {
  raise<std::invalid_argument>("lethe: cannot restore the state: " + why);
}

[[nodiscard]] inline std::uint64_t policy_tag(std::string_view name) {
  return checksum(std::as_bytes(std::span(name)));
}

/// Puts the header before the contents.
[[nodiscard]] inline std::vector<std::byte> seal_state(std::string_view policy,
                                                       const std::array<std::uint64_t, 7>& shape,
                                                       std::span<const std::byte> contents) {
  const StateHeader header{.policy = policy_tag(policy),
                           .shape = shape,
                           .bytes = contents.size(),
                           .checksum = checksum(contents)};
  std::vector<std::byte> blob(sizeof header + contents.size());
  std::memcpy(blob.data(), &header, sizeof header);
  if (!contents.empty()) std::memcpy(blob.data() + sizeof header, contents.data(), contents.size());
  return blob;
}

/// Checks the header and returns the contents.
[[nodiscard]] inline std::span<const std::byte> open_state(
    std::string_view policy, const std::array<std::uint64_t, 7>& shape,
    std::span<const std::byte> blob) {
  StateHeader header;
  const StateHeader expected;
  if (blob.size() < sizeof header) refuse_state("it is too short to be one");
  std::memcpy(&header, blob.data(), sizeof header);
  if (header.magic != expected.magic) refuse_state("it is not one of lethe's");
  if (header.byte_order != expected.byte_order)
    refuse_state("it is from a machine of other byte order");
  if (header.version != expected.version) {
    refuse_state("it has version " + std::to_string(header.version) + ", this library reads " +
                 std::to_string(expected.version));
  }
  if (header.policy != policy_tag(policy)) {
    refuse_state("it belongs to a policy with another score than " + std::string(policy));
  }
  if (header.shape != shape) {
    refuse_state(
        "it was saved with other layers, capacity, head_capacity, groups, scope or deferred "
        "queries");
  }
  const std::span<const std::byte> contents = blob.subspan(sizeof header);
  if (header.bytes != contents.size()) refuse_state("it is cut short or has grown");
  if (header.checksum != checksum(contents))
    refuse_state("its checksum does not match: it is damaged");
  return contents;
}

}  // namespace lethe::detail

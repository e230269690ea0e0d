#pragma once

#include <memory>
#include <string_view>

namespace decoder {

/// A compiled Perl-compatible regular expression over UTF-8 with Unicode classes (PCRE2, JIT where
/// there is one).
class Regex {
 public:
  /// Compiles `pattern`, in which \s may stand inside brackets only and means Unicode's
  /// White_Space.
  ///
  /// Throws Error for a malformed pattern.
  explicit Regex(std::string_view pattern);

  /// Working memory of matching; one per thread, for any Regex.
  class Scratch {
   public:
    Scratch();

   private:
    friend class Regex;
    struct Parts;
    std::shared_ptr<Parts> parts_;
  };

  /// Finds the first non-empty match in `text` at or after byte `begin`.
  ///
  /// `text` must be well-formed UTF-8 and `begin` a character's start. True when found, then
  /// [begin, end) is the match in bytes. Throws Error when matching takes unreasonable memory.
  bool find(std::string_view text, Scratch& scratch, std::size_t& begin, std::size_t& end) const;

 private:
  std::shared_ptr<const void> code_;
};

}  // namespace decoder

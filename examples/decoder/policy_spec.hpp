/// A policy as a user writes it: its name, and settings that differ from their defaults.
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace decoder {

class PolicySpec {
 public:
  /// @param text   "name" or "name:setting=number:setting=number"
  /// @param option what the command line calls it, for errors
  /// @throws Error for a setting without a number, or given twice
  explicit PolicySpec(std::string_view text, std::string_view option = "--policy");

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] bool has_settings() const noexcept { return !settings_.empty(); }
  /// Returns " (setting=number, setting=number)", or nothing.
  [[nodiscard]] std::string note() const;

  /// Sets `number` where the user gave the setting; the policy has one of that name either way.
  /// @throws Error when what was given is no such number
  template <class Number>
  void set(std::string_view setting, Number& number) {
    known_.emplace_back(setting);
    for (const Setting& each : settings_) {
      if (each.name != setting) continue;
      const char* const end = each.value.data() + each.value.size();
      const auto [rest, error] = std::from_chars(each.value.data(), end, number);
      if (error != std::errc() || rest != end) refuse(each);
    }
  }

  /// @throws Error for a setting that no `set` named, listing those that the policy has
  void check_known() const;

 private:
  struct Setting {
    std::string name;
    std::string value;
  };

  [[noreturn]] void refuse(const Setting& setting) const;
  /// Throws Error that begins with what the user wrote.
  [[noreturn]] void refuse(const std::string& reason) const;

  std::string option_;
  std::string text_;
  std::string name_;
  std::vector<Setting> settings_;
  std::vector<std::string> known_;
};

}  // namespace decoder

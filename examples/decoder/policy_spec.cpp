#include "policy_spec.hpp"

#include <algorithm>

#include "error.hpp"
#include "one_line.hpp"

namespace decoder {

PolicySpec::PolicySpec(std::string_view text, std::string_view option)
    : option_(option), text_(text) {
  std::size_t begin = text.find(':');
  name_ = text.substr(0, begin);
  while (begin != std::string_view::npos) {
    const std::size_t end = text.find(':', ++begin);
    const std::string_view part = text.substr(begin, end - begin);
    const std::size_t sign = part.find('=');
    Setting setting{std::string(part.substr(0, sign)), ""};
    if (sign != std::string_view::npos) setting.value = part.substr(sign + 1);
    const auto is_same = [&](const Setting& each) { return each.name == setting.name; };
    if (setting.name.empty() || setting.value.empty()) refuse(setting);
    if (std::any_of(settings_.begin(), settings_.end(), is_same))
      refuse("gives " + one_line(setting.name) + " twice");
    settings_.push_back(std::move(setting));
    begin = end;
  }
}

std::string PolicySpec::note() const {
  std::string note;
  for (const Setting& each : settings_) {
    note += (note.empty() ? " (" : ", ") + one_line(each.name) + "=" + one_line(each.value);
  }
  return note.empty() ? note : note + ")";
}

void PolicySpec::check_known() const {
  for (const Setting& each : settings_) {
    if (std::find(known_.begin(), known_.end(), each.name) != known_.end()) continue;
    std::string list;
    for (const std::string& name : known_) list += (list.empty() ? "" : ", ") + name;
    refuse("has no setting " + one_line(each.name) +
           (list.empty() ? "; it has none" : "; choose of " + list));
  }
}

void PolicySpec::refuse(const Setting& setting) const {
  refuse("give " + (setting.name.empty() ? "a setting" : one_line(setting.name)) +
         " a number, as in lethe:decay=0.95:segments=32");
}

void PolicySpec::refuse(const std::string& reason) const {
  throw Error(option_ + " " + one_line(text_) + ": " + reason);
}

}  // namespace decoder

#include "report_tables.hpp"

#include "report_data.hpp"
#include "report_svg.hpp"
#include "report_text.hpp"

namespace decoder::report {
namespace {

using nlohmann::json;

std::string run_name(const json& run, std::size_t style) {
  return swatch(style) + escape(text_at(run, "/label"));
}

std::vector<std::string> fidelity_row(const json& run, std::size_t style, const std::string& part) {
  const std::string at = "/fidelity/" + part;
  return {run_name(run, style),
          grouped(number_at(run, at + "/tokens")),
          fixed(number_at(run, at + "/mean_divergence"), 4),
          figure(number_at(run, at + "/largest_divergence")),
          percent(number_at(run, at + "/agreement")),
          fixed(number_at(run, at + "/full_perplexity"), 2),
          fixed(number_at(run, at + "/pruned_perplexity"), 2),
          fixed(number_at(run, at + "/perplexity_ratio"), 3)};
}

Table fidelity_table(const json& results, const std::string& part, const std::string& caption) {
  Table table{
      .caption = caption,
      .headings = {"Policy", "Tokens", "Mean KL (nats)", "Largest KL (nats)", "Same top token",
                   "Perplexity, whole", "Perplexity, pruned", "Perplexity ratio"},
      .rows = {}};
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    if (number_at(run, "/fidelity/" + part + "/tokens") > 0)
      table.rows.push_back(fidelity_row(run, style, part));
    ++style;
  }
  return table;
}

std::vector<std::string> cost_row(const json& run, std::size_t style) {
  return {run_name(run, style),
          figure(number_at(run, "/speed/tokens_per_second")),
          fixed(number_at(run, "/speed/ratio"), 2) + "\xC3\x97",
          grouped(number_at(run, "/kept/mean_tokens")),
          bytes(number_at(run, "/memory/mean_bytes")),
          bytes(number_at(run, "/memory/peak_bytes")),
          percent(number_at(run, "/memory/ratio")),
          bytes(number_at(run, "/memory/resident_set_growth")),
          bytes(number_at(run, "/memory/resident_set_peak"))};
}

std::vector<std::string> phase_row(const json& run, std::size_t style) {
  const double tokens = number_at(run, "/phases/tokens");
  const auto per_token = [&](const char* member) {
    return seconds(number_at(run, std::string("/phases/") + member + "_seconds") / tokens);
  };
  return {run_name(run, style),
          per_token("observe"),
          per_token("plan"),
          per_token("apply"),
          per_token("other"),
          per_token("step"),
          percent(number_at(run, "/phases/share")),
          grouped(number_at(run, "/rounds/count")),
          grouped(number_at(run, "/rounds/pruned"))};
}

std::vector<std::string> loop_row(const std::string& heading, const json& loops) {
  return {heading,
          escape(text_at(loops, "/verdict")),
          grouped(number_at(loops, "/tokens")),
          percent(number_at(loops, "/loop_rate")),
          grouped(number_at(loops, "/longest_tokens")),
          grouped(number_at(loops, "/longest_period")),
          percent(number_at(loops, "/repeated_ngrams"))};
}

std::string value_cell(const json& value) {
  if (value.is_string()) return escape(value.get<std::string>());
  if (value.is_number_float()) return figure(value.get<double>());
  return escape(value.dump());
}

}  // namespace

std::string draw(const Table& table) {
  if (table.rows.empty()) return {};
  std::string out =
      "<div class=\"panel\"><table><caption>" + escape(table.caption) + "</caption><thead><tr>";
  for (const auto& heading : table.headings)
    out += "<th scope=\"col\">" + escape(heading) + "</th>";
  out += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    out += "<tr><th scope=\"row\">" + row.front() + "</th>";
    for (std::size_t i = 1; i < row.size(); ++i) out += "<td>" + row[i] + "</td>";
    out += "</tr>";
  }
  return out + "</tbody></table></div>\n";
}

std::string swatch(std::size_t style) {
  return "<span class=\"swatch\"><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">" +
         marker(style, 7, 7, 5) + "</svg></span>";
}

std::string fidelity_tables(const json& results) {
  return draw(fidelity_table(results, "overall", "All tokens of the text")) +
         draw(fidelity_table(results, "long_gap",
                             "Long-gap tokens: the 4-gram they end was last seen more than 256 "
                             "tokens earlier"));
}

std::string cost_table(const json& results) {
  Table table{.caption = "Speed and memory, each run decoding alone",
              .headings = {"Policy", "Tokens/s", "Speed", "Kept tokens, mean", "Cache, mean",
                           "Cache, peak", "Mean of whole", "RSS growth", "RSS, peak"},
              .rows = {}};
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    if (has(run, "/memory/mean_bytes")) table.rows.push_back(cost_row(run, style));
    ++style;
  }
  return draw(table);
}

std::string phase_table(const json& results) {
  Table table{.caption = "Time in the pruner, mean per decoded token",
              .headings = {"Policy", "Observe", "Plan", "Apply", "Other", "Whole step",
                           "Pruner's share", "Rounds", "Rounds that pruned"},
              .rows = {}};
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    if (number_at(run, "/phases/tokens") > 0) table.rows.push_back(phase_row(run, style));
    ++style;
  }
  return draw(table);
}

std::string loop_table(const json& results) {
  Table table{.caption = "Repetition",
              .headings = {"Text", "Verdict", "Tokens", "Tokens in loops", "Longest loop",
                           "Its period", "Repeated 4-grams"},
              .rows = {}};
  if (has(results, "/text/loops"))
    table.rows.push_back(loop_row("The text compared on", results.at("text").at("loops")));
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    if (style > 0 && has(run, "/generated/loops"))
      table.rows.push_back(
          loop_row("Written with " + run_name(run, style), run.at("generated").at("loops")));
    ++style;
  }
  return draw(table);
}

std::string settings_table(const json& object, const std::string& caption) {
  if (!object.is_object() || object.empty()) return {};
  std::string out = "<div class=\"panel\"><table class=\"plain\"><caption>" + escape(caption) +
                    "</caption><tbody>";
  for (const auto& [key, value] : object.items()) {
    std::string heading = key;
    for (char& c : heading) c = c == '_' ? ' ' : c;
    out +=
        "<tr><th scope=\"row\">" + escape(heading) + "</th><td>" + value_cell(value) + "</td></tr>";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace decoder::report

#include "report.hpp"

#include <algorithm>
#include <cmath>

#include "report_charts.hpp"
#include "report_data.hpp"
#include "report_style.hpp"
#include "report_svg.hpp"
#include "report_tables.hpp"
#include "report_text.hpp"

namespace decoder {
namespace {

using nlohmann::json;
using namespace report;

/// The whole cache and the first pruned run: what the headline is about.
struct Pair {
  const json& full;
  const json& pruned;
};

std::string bar(const std::string& label, double share, std::size_t style) {
  const double wide = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) * 100 : 0;
  return "<div class=\"bar\"><span>" + escape(label) + "</span><i style=\"width:" + fixed(wide, 1) +
         "%;background:var(--s" + std::to_string(style) + ")\"></i></div>";
}

std::string bars(const Pair& runs, const char* pointer) {
  const double full = number_at(runs.full, pointer);
  const double pruned = number_at(runs.pruned, pointer);
  const double most = std::max(full, pruned);
  return bar("whole", full / most, 0) + bar(text_at(runs.pruned, "/label"), pruned / most, 1);
}

std::string card(const std::string& heading, const std::string& big, const std::string& unit,
                 const std::string& note, const std::string& below) {
  return "<section class=\"card\"><h2>" + escape(heading) + "</h2><div class=\"big\">" + big +
         " <small>" + escape(unit) + "</small></div><p>" + note + "</p>" + below + "</section>";
}

std::string speed_card(const Pair& runs) {
  const char* pointer = "/speed/tokens_per_second";
  if (!has(runs.pruned, pointer)) return {};
  return card("Decode speed", figure(number_at(runs.pruned, pointer)), "tokens/s",
              fixed(number_at(runs.pruned, "/speed/ratio"), 2) + "\xC3\x97 the whole cache's " +
                  figure(number_at(runs.full, pointer)),
              bars(runs, pointer));
}

std::string memory_card(const Pair& runs) {
  const char* pointer = "/memory/mean_bytes";
  if (!has(runs.pruned, pointer)) return {};
  return card("Resident cache, mean", bytes(number_at(runs.pruned, pointer)), "",
              percent(number_at(runs.pruned, "/memory/ratio")) + " of the whole cache's " +
                  bytes(number_at(runs.full, pointer)),
              bars(runs, pointer));
}

std::string divergence_card(const Pair& runs) {
  if (!has(runs.pruned, "/fidelity/overall")) return {};
  return card("Mean divergence",
              fixed(number_at(runs.pruned, "/fidelity/overall/mean_divergence"), 4), "nats",
              "perplexity \xC3\x97" +
                  fixed(number_at(runs.pruned, "/fidelity/overall/perplexity_ratio"), 3) + "; on " +
                  fixed(number_at(runs.pruned, "/fidelity/long_gap/tokens"), 0) +
                  " long-gap tokens " +
                  fixed(number_at(runs.pruned, "/fidelity/long_gap/mean_divergence"), 3) + " nats",
              {});
}

std::string agreement_card(const Pair& runs) {
  if (!has(runs.pruned, "/fidelity/overall")) return {};
  const double agreement = number_at(runs.pruned, "/fidelity/overall/agreement");
  const double first = number_at(runs.pruned, "/fidelity/first_difference");
  const std::string note = std::isfinite(first)
                               ? "first different top token at token " + grouped(first)
                               : std::string("no different top token");
  return card("Same most likely token", percent(agreement), "of tokens", note,
              bar("same", agreement, 1));
}

std::string headline(const Pair& runs) {
  const double memory = number_at(runs.pruned, "/memory/ratio");
  const double speed = number_at(runs.pruned, "/speed/ratio");
  const std::string label = escape(text_at(runs.pruned, "/label"));
  if (!std::isfinite(memory) || !std::isfinite(speed)) return label + " beside the whole cache";
  return label + " decodes at " + fixed(speed, 2) + "\xC3\x97 the speed with " + percent(memory) +
         " of the cache";
}

std::string opening(const json& results, const Pair& runs) {
  const double tokens = number_at(results, "/text/tokens");
  return "<p class=\"kicker\">Cache comparison</p><h1>" + headline(runs) +
         "</h1><p class=\"lead\">" + escape(text_at(results, "/model/name")) + ", " +
         grouped(tokens) + " tokens after a prompt of " +
         grouped(number_at(results, "/text/prompt_tokens")) +
         ". Text: " + escape(text_at(results, "/text/source")) + ".</p>";
}

std::string section(const std::string& heading, const std::string& lead, const std::string& body) {
  if (body.empty()) return {};
  return "<h2>" + escape(heading) + "</h2><p class=\"note\">" + lead + "</p>" + body;
}

std::string excerpt(const std::string& heading, const std::string& note, const std::string& text) {
  return "<div class=\"panel\"><h3>" + heading + "</h3><p class=\"note\">" + escape(note) +
         "</p><blockquote tabindex=\"0\">" + escape(text) + "</blockquote></div>";
}

std::string difference_note(const json& run, std::size_t style) {
  if (style == 0) return "the text that all runs are compared on";
  const double at = number_at(run, "/generated/first_difference");
  if (!std::isfinite(at)) return "word for word the same";
  return "parts from the whole cache's text at token " + grouped(at);
}

std::string texts(const json& results) {
  std::string out;
  std::size_t style = 0;
  for (const json& run : results.at("runs")) {
    const std::string text = text_at(run, "/generated/excerpt");
    if (!text.empty())
      out += excerpt(swatch(style) + escape(text_at(run, "/label")), difference_note(run, style),
                     text);
    ++style;
  }
  if (out.empty() && has(results, "/text/excerpt"))
    out = excerpt("The text", text_at(results, "/text/source"), text_at(results, "/text/excerpt"));
  return out.empty() ? out : "<div class=\"texts\">" + out + "</div>";
}

std::string weaknesses(const json& results) {
  std::string out;
  for (const json& line : results.value("weak", json::array()))
    out += "<li>" + escape(line.get<std::string>()) + "</li>";
  return out.empty() ? out : "<ul class=\"weak\">" + out + "</ul>";
}

std::string warnings(const json& results) {
  std::string out;
  if (results.value("interrupted", false))
    out += "<p class=\"alert\">Interrupted: the figures cover what was done until then.</p>";
  if (text_at(results, "/text/loops/verdict") == "degenerate")
    out +=
        "<p class=\"alert\">The text is degenerate: much of it repeats in a loop, which makes any "
        "policy look good. Take another seed or a text file.</p>";
  return out;
}

std::string cards(const Pair& runs) {
  const std::string all =
      speed_card(runs) + memory_card(runs) + divergence_card(runs) + agreement_card(runs);
  return all.empty() ? all : "<div class=\"cards\">" + all + "</div>";
}

std::string fidelity_sections(const json& results) {
  return section("Cost and fidelity",
                 "Fidelity by teacher forcing: both caches read the same tokens, and the "
                 "distributions of the next token are compared at every one.",
                 cost_fidelity(results)) +
         section("How much the two differ",
                 "KL is the divergence of the pruned cache's distribution from the whole "
                 "cache's; perplexity is that of the text.",
                 fidelity_tables(results) + fidelity_over_time(results));
}

std::string cost_sections(const json& results, const Pair& runs) {
  const std::string label = escape(text_at(runs.pruned, "/label"));
  return section("Speed and memory",
                 "Cache bytes are pages that hold tokens; freed pages go back to the system. "
                 "RSS growth is what the process grew by while this run decoded.",
                 cost_over_time(results) + cost_table(results) + phase_table(results)) +
         section("Layer by layer", "What " + label + " kept, while it decoded.",
                 layer_maps(runs.pruned));
}

std::string context_sections(const json& results) {
  const json none = json::object();
  return section("The texts", "What each run wrote by itself, from the same prompt and seed.",
                 texts(results) + loop_table(results)) +
         section("Read this with care", "What these figures do not show.", weaknesses(results)) +
         section("Settings", "Everything needed to run this again.",
                 settings_table(results.value("settings", none), "Settings") +
                     settings_table(results.value("model", none), "Model") +
                     settings_table(results.value("machine", none), "Machine"));
}

}  // namespace

std::string html_report(const json& results) {
  const json& all = results.at("runs");
  const Pair runs{all.at(0), all.size() > 1 ? all.at(1) : all.at(0)};
  return whole_page(headline(runs), opening(results, runs) + warnings(results) + cards(runs) +
                                        fidelity_sections(results) + cost_sections(results, runs) +
                                        context_sections(results));
}

}  // namespace decoder

#include "page_charts.hpp"

#include <algorithm>
#include <cmath>

#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::Caption;
using decoder::report::escape;
using decoder::report::plain;

/// Fewer lookups say too little to be drawn.
constexpr std::size_t least_lookups = 10;
constexpr std::size_t error_points = 40;

/// The policies in the order of legends, the oracles last.
std::vector<std::string> drawn_policies(const Results& results) {
  std::vector<std::string> drawn;
  for (const std::string& policy : results.policies()) {
    if (is_candidate(policy)) drawn.push_back(policy);
  }
  for (const std::string_view each : {oracle, attention_oracle}) {
    if (results.has(each)) drawn.emplace_back(each);
  }
  return drawn;
}

/// "solved-2-1": unique for a figure about the exam on these terms.
std::string id_of(const Results& results, const Exam& exam, const Terms& terms,
                  const std::string& kind) {
  const auto& exams = results.exams();
  const auto number = std::find(exams.begin(), exams.end(), exam) - exams.begin();
  std::string id = kind + "-" + std::to_string(number) + (terms.is_pinned ? "-pinned-" : "-free-") +
                   plain(terms.budget);
  std::replace(id.begin(), id.end(), '.', '-');
  return id;
}

/// A share that a summary holds, and its interval.
struct Measured {
  double share = 0;
  Interval interval;
};

using Measure = Measured (*)(const Summary&);

Measured solved_of(const Summary& summary) {
  return {summary.solved.value(), summary.solved.interval()};
}

Measured answers_of(const Summary& summary) {
  return {summary.answers.value(), summary.answers.interval()};
}

Curve kept_curve(const Results& results, const Exam& exam, bool is_pinned,
                 const std::string& policy, Measure measure) {
  Curve curve{.label = label_of(policy), .look = look_of(results, policy), .x = {}, .y = {}};
  for (const Terms& terms : terms_of(results, {exam})) {
    const Summary* summary = results.find(terms.of(exam), policy);
    if (terms.is_pinned != is_pinned || summary == nullptr) continue;
    const Measured measured = measure(*summary);
    curve.x.push_back(100 * summary->kept_share());
    curve.y.push_back(100 * measured.share);
    curve.intervals.push_back({100 * measured.interval.low, 100 * measured.interval.high});
  }
  return curve;
}

/// The largest share kept, over both pins, so that their charts have one axis.
double most_kept(const Results& results, const Exam& exam) {
  double most = 0;
  for (const Summary& each : results.summaries()) {
    if (each.setting.exam == exam && each.policy != whole_cache)
      most = std::max(most, 100 * each.kept_share());
  }
  return most;
}

/// Where the y axis may begin so that nothing is cut off, the same for both pins.
double lowest(const Results& results, const Exam& exam, Measure measure) {
  double low = 100;
  for (const Summary& each : results.summaries()) {
    if (each.setting.exam == exam) low = std::min(low, 100 * measure(each).interval.low);
  }
  return low >= 90 ? 90 : low >= 80 ? 80 : low >= 60 ? 60 : 0;
}

std::string kept_note(bool is_solved, double y_low) {
  const std::string note = is_solved
                               ? "A problem is solved when every answer is right."
                               : "Intervals allow for answers of one problem failing together.";
  return y_low > 0 ? note + " The axis begins at " + plain(y_low) + "%." : note;
}

Caption kept_caption(const Results& results, const Exam& exam, const Terms& terms, bool is_solved) {
  return {.id = id_of(results, exam, terms, is_solved ? "solved" : "answers"),
          .title = std::string(is_solved ? "Problems solved" : "Answers right") + ", " +
                   describe_task(results, exam) + ", " + describe_pin(terms.is_pinned),
          .description = "",
          .x_title = "mean share of the cache kept (%)",
          .y_title = is_solved ? "problems solved (%)" : "answers right (%)"};
}

Plot kept_plot(const Results& results, const Exam& exam, bool is_pinned, bool is_solved) {
  const Terms terms{.is_pinned = is_pinned, .budget = 0};
  const Measure measure = is_solved ? solved_of : answers_of;
  Plot plot{.caption = kept_caption(results, exam, terms, is_solved),
            .x = decoder::report::nice_axis(0, most_kept(results, exam), 6),
            .curves = {},
            .y_low = lowest(results, exam, measure)};
  plot.caption.description = kept_note(is_solved, plot.y_low);
  for (const std::string& policy : drawn_policies(results)) {
    Curve curve = kept_curve(results, exam, is_pinned, policy, measure);
    if (!curve.x.empty()) plot.curves.push_back(std::move(curve));
  }
  const Summary* whole = results.find(terms.of(exam), whole_cache);
  if (whole != nullptr) plot.level = 100 * measure(*whole).share;
  return plot;
}

/// One entry for each policy, whatever the plots hold.
std::string legend_of(const Results& results, bool has_whole_line) {
  std::vector<Curve> curves;
  if (has_whole_line && results.has(whole_cache))
    curves.push_back({.label = label_of(std::string(whole_cache)), .look = {}, .x = {}, .y = {}});
  for (const std::string& policy : drawn_policies(results))
    curves.push_back(
        {.label = label_of(policy), .look = look_of(results, policy), .x = {}, .y = {}});
  const bool has_level = !has_whole_line && results.has(whole_cache);
  return legend(curves, has_level ? label_of(std::string(whole_cache)) : "");
}

bool has_pin(const Results& results, const Exam& exam, bool is_pinned) {
  const std::vector<Terms> all = terms_of(results, {exam});
  return std::any_of(all.begin(), all.end(),
                     [&](const Terms& terms) { return terms.is_pinned == is_pinned; });
}

/// Share right by gap; points of few lookups are left out.
Curve gap_curve(const Results& results, const Summary& summary) {
  Curve curve{.label = label_of(summary.policy),
              .look = look_of(results, summary.policy),
              .x = {},
              .y = {}};
  for (std::size_t b = 0; b < summary.by_gap.size(); ++b) {
    const Share& share = summary.by_gap[b];
    curve.x.push_back(static_cast<double>(b));
    curve.y.push_back(share.count >= least_lookups ? 100 * share.value() : unknown);
  }
  return curve;
}

/// Powers of two from the first gap that is drawn to the last.
decoder::report::Axis gap_axis(const std::vector<Curve>& curves) {
  double first = 64, last = 0;
  for (const Curve& curve : curves) {
    for (std::size_t b = 0; b < curve.x.size(); ++b) {
      if (!std::isfinite(curve.y[b])) continue;
      first = std::min(first, curve.x[b]);
      last = std::max(last, curve.x[b]);
    }
  }
  first = std::min(first, last);
  decoder::report::Axis axis{.low = first - 0.3, .high = last + 0.3, .ticks = {}, .labels = {}};
  for (double b = first; b <= last; ++b) {
    axis.ticks.push_back(b);
    axis.labels.push_back(plain(std::exp2(b)));
  }
  return axis;
}

/// Share of problems with an error by then, at even places of the text.
Curve error_curve(const Results& results, const Summary& summary) {
  Curve curve{.label = label_of(summary.policy),
              .look = look_of(results, summary.policy),
              .x = {},
              .y = {},
              .marker_stride = 10};
  std::vector<double> errors = summary.first_errors;
  std::sort(errors.begin(), errors.end());
  for (std::size_t i = 0; i <= error_points; ++i) {
    const double place = static_cast<double>(i) / static_cast<double>(error_points);
    const auto before = std::upper_bound(errors.begin(), errors.end(), place) - errors.begin();
    curve.x.push_back(100 * place);
    curve.y.push_back(100 * static_cast<double>(before) /
                      static_cast<double>(summary.solved.count));
  }
  return curve;
}

using CurveOf = Curve (*)(const Results&, const Summary&);

/// One curve a policy, the whole cache's first.
std::vector<Curve> curves_of(const Results& results, const Setting& setting, CurveOf curve_of) {
  std::vector<Curve> curves;
  std::vector<std::string> policies = drawn_policies(results);
  policies.insert(policies.begin(), std::string(whole_cache));
  for (const std::string& policy : policies) {
    const Summary* summary = results.find(setting, policy);
    if (summary != nullptr) curves.push_back(curve_of(results, *summary));
  }
  return curves;
}

Plot gap_plot(const Results& results, const Exam& exam, const Terms& terms) {
  std::vector<Curve> curves = curves_of(results, terms.of(exam), gap_curve);
  return {.caption = {.id = id_of(results, exam, terms, "gap"),
                      .title = plain(terms.budget) + "% budget",
                      .description =
                          describe_task(results, exam) + ", " + describe_pin(terms.is_pinned),
                      .x_title = "gap: symbols since last mentioned",
                      .y_title = "lookups right (%)"},
          .x = gap_axis(curves),
          .curves = curves,
          .is_small = true};
}

Plot error_plot(const Results& results, const Exam& exam, const Terms& terms) {
  return {.caption = {.id = id_of(results, exam, terms, "error"),
                      .title = plain(terms.budget) + "% budget",
                      .description =
                          describe_task(results, exam) + ", " + describe_pin(terms.is_pinned),
                      .x_title = "place in the text (%)",
                      .y_title = "problems with an error (%)"},
          .x = decoder::report::nice_axis(0, 100, 6),
          .curves = curves_of(results, terms.of(exam), error_curve),
          .is_small = true};
}

using PlotOf = Plot (*)(const Results&, const Exam&, const Terms&);

/// For each task, one row of small charts without pin and one with, a chart a budget.
std::string rows_of_charts(const Results& results, const Study& study, PlotOf plot_of) {
  std::string out;
  for (const Exam& exam : study.exams) {
    std::string charts;
    for (const bool is_pinned : {false, true}) {
      std::string row;
      for (const Terms& terms : terms_of(results, {exam})) {
        if (terms.is_pinned == is_pinned) row += draw(plot_of(results, exam, terms));
      }
      if (!row.empty()) charts += "<div class=\"trio\">" + row + "</div>\n";
    }
    if (charts.empty()) continue;
    out +=
        "<h3>" + escape(describe_task(results, exam)) + "</h3>" + charts + legend_of(results, true);
  }
  return out;
}

}  // namespace

std::string kept_charts(const Results& results, const Study& study) {
  std::string out;
  for (const Exam& exam : study.exams) {
    std::string charts;
    for (const bool is_solved : {false, true}) {
      for (const bool is_pinned : {false, true}) {
        if (has_pin(results, exam, is_pinned))
          charts += draw(kept_plot(results, exam, is_pinned, is_solved));
      }
    }
    if (charts.empty()) continue;
    out += "<h3>" + escape(describe_task(results, exam)) + "</h3><div class=\"pair\">" + charts +
           "</div>\n" + legend_of(results, false);
  }
  return out;
}

std::string gap_charts(const Results& results, const Study& study) {
  return rows_of_charts(results, study, gap_plot);
}

std::string error_charts(const Results& results, const Study& study) {
  // A context's questions come after it, in no order.
  if (std::any_of(study.exams.begin(), study.exams.end(),
                  [](const Exam& each) { return is_context(each); }))
    return {};
  return rows_of_charts(results, study, error_plot);
}

}  // namespace accuracy

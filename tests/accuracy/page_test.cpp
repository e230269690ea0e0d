#include "page.hpp"

#include <set>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "sample_rows.hpp"

namespace {

using accuracy::Task;
using accuracy::test::results;
using accuracy::test::rows;
using accuracy::test::sample_rows;
using accuracy::test::together;
using nlohmann::json;

std::string page_of(const std::vector<json>& all, const std::string& against = "best") {
  const accuracy::Results summed = results(all);
  return html_page(summed, compare(summed, against), {.files = {"a.jsonl"}, .date = "today"});
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

bool has(const std::string& text, const std::string& part) { return count(text, part) > 0; }

/// The part of `text` from `begin` to behind the next `end`.
std::string part_of(const std::string& text, const std::string& begin, const std::string& end) {
  const auto from = text.find(begin);
  REQUIRE(from != text.npos);
  return text.substr(from, text.find(end, from) + end.size() - from);
}

std::string figure(const std::string& page, const std::string& id) {
  return part_of(page, "aria-labelledby=\"" + id + "-t ", "</figure>");
}

/// A policy's row in the table of a section, in the group of this title.
std::string table_row(const std::string& page, const std::string& section, const std::string& group,
                      const std::string& label) {
  const std::string table =
      part_of(part_of(page, "<h2>" + section, "</section>"), "colspan=\"", "</table>");
  const std::string body = part_of(table, group, "</tbody>");
  return part_of(body, "</span>" + label + "</th>", "</tr>");
}

/// The tag that breaks the nesting of a page, or nothing when every tag is closed in order.
std::string first_unbalanced(const std::string& page) {
  static const std::set<std::string> never_closed{"!DOCTYPE", "meta"};
  std::vector<std::string> open;
  for (auto at = page.find('<'); at != page.npos; at = page.find('<', at + 1)) {
    const std::string tag = page.substr(at + 1, page.find('>', at) - at - 1);
    const std::string word = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.back() == '/' || never_closed.count(word) > 0) continue;
    if (tag.front() != '/') {
      open.push_back(word);
    } else {
      if (open.empty() || "/" + open.back() != tag) return tag;
      open.pop_back();
    }
  }
  return open.empty() ? std::string() : open.back();
}

}  // namespace

TEST_CASE("the page is well formed and needs neither network nor script") {
  const std::string page = page_of(sample_rows());
  CHECK(first_unbalanced(page).empty());
  CHECK(page.rfind("<!DOCTYPE html>", 0) == 0);
  for (const char* part : {"http", "<script", "@import", "url(", "src="})
    CHECK_FALSE(has(page, part));
  CHECK(has(page, "prefers-color-scheme:dark"));
  std::set<std::string> ids;
  for (auto at = page.find(" id=\""); at != page.npos; at = page.find(" id=\"", at + 1))
    CHECK(ids.insert(page.substr(at, page.find('"', at + 5) - at)).second);
  CHECK(count(page, "role=\"img\"") ==
        6);  // answers, problems solved, and two budgets of gaps and errors
}

TEST_CASE("the first table has each policy's share and interval, the best of a cell in bold") {
  const std::string page = page_of(sample_rows());
  CHECK(has(page, "Of 3 policies, Lethe has most answers right"));
  const auto row = [&](const char* budget, const char* label) {
    return table_row(page, "Answers right", budget + std::string("% budget, prompt not pinned"),
                     label);
  };
  CHECK(has(row("25", "TOVA"), "<span title=\"30 of 40\">75.0%</span> <small>59.6&#8211;85.9"));
  CHECK_FALSE(has(row("25", "TOVA"), "<strong>"));
  CHECK(has(row("25", "Lethe"), "<strong><span title=\"38 of 40\">95.0%"));
  CHECK_FALSE(has(row("25", "Lethe"), "&#8224;"));
  CHECK(has(row("10", "H2O"), "&#8224; <span title=\"40 of 40\">100%"));
  CHECK_FALSE(has(row("10", "H2O"), "<strong>"));
  CHECK(has(page, "1 of 2 cells are not ranked"));
}

TEST_CASE("policies come with the best first") {
  const std::string page = page_of(sample_rows());
  const std::string body = part_of(page, "25% budget, prompt not pinned", "</tbody>");
  CHECK(body.find("Oracle") < body.find("Lethe"));
  CHECK(body.find("Lethe") < body.find("TOVA"));
  CHECK(body.find("TOVA") < body.find("H2O"));
}

TEST_CASE("every policy has a line against the share kept, with intervals and the whole's level") {
  const std::string solved = figure(page_of(sample_rows()), "solved-0-free-0");
  CHECK(count(solved, "class=\"line") == 4);
  CHECK(count(solved, "class=\"reach") == 4);
  CHECK(count(solved, "class=\"oracle\"") == 1);
  // 25% kept is the right end at 542, set aside by 3; 75% solved is three quarters of 270 up.
  const std::string tova = part_of(solved, "<path class=\"line s3\"", "</path>");
  CHECK(has(tova, "L545.0 81.5\""));
  CHECK(has(tova, "<title>TOVA</title>"));
  CHECK(has(solved, "M545.0 122.5V52.3\""));
  CHECK(has(solved, "class=\"reference\" d=\"M62.0 14.0L542.0 14.0\""));
}

TEST_CASE("a chart's axis leaves out what no policy comes near") {
  const std::string low = figure(page_of(sample_rows()), "answers-0-free-0");
  CHECK(has(part_of(low, "<path class=\"line s3\"", "</path>"), "L545.0 81.5\""));
  CHECK_FALSE(has(low, "axis begins"));
  const std::string high = figure(
      page_of(together({rows({.policy = "oracle"}, 99, 99), rows({.policy = "tova"}, 99, 96)})),
      "answers-0-free-0");
  CHECK(has(high, "The axis begins at 90%."));
  CHECK(has(high, ">90</text>"));
  CHECK_FALSE(has(high, ">0.0</text>"));
}

TEST_CASE("accuracy by gap is drawn at each budget") {
  const std::string gaps = figure(page_of(sample_rows()), "gap-0-free-25");
  CHECK(count(gaps, "class=\"line") == 5);  // the whole cache, too
  // Gaps of 5 half right, of 70 all; between them no lookups, so no line.
  const std::string h2o = part_of(gaps, "<path class=\"line s2\"", "</path>");
  CHECK(has(h2o, " 113.0M"));
  CHECK(has(h2o, " 10.0\""));
  CHECK(has(gaps, ">4</text>"));
  CHECK(has(gaps, ">64</text>"));
  CHECK_FALSE(has(gaps, ">2</text>"));
}

TEST_CASE("the first errors add up along the text") {
  const std::string errors = figure(page_of(sample_rows()), "error-0-free-25");
  const std::string h2o = part_of(errors, "<path class=\"line s2\"", "</path>");
  // None before 60% of the text, half the problems from there on; ticks are 314 / 40 apart.
  CHECK(has(h2o, "d=\"M56.0 216.0L236.5 216.0L244.4 113.0L370.0 113.0\""));
}

TEST_CASE("comparisons name pairs, p and verdict") {
  const std::string page = page_of(sample_rows(), "tova");
  CHECK(has(page, "<h2>Every policy against TOVA</h2>"));
  const std::string row =
      table_row(page, "Every policy against", "recall, 25% budget, prompt not pinned", "H2O");
  CHECK(has(row,
            "<td>40</td><td>0</td><td>10</td><td>-25.0 pp</td><td>0.00195</td><td>0.00391</td>"
            "<td><strong>worse</strong></td>"));
  CHECK(has(page, "&#8224; not ranked: the better oracle has 75.0%"));
}

TEST_CASE("speed and bytes are shown where rows have them") {
  std::vector<json> all = sample_rows();
  const std::string row =
      table_row(page_of(all), "Speed and memory", "25% budget, prompt not pinned", "TOVA");
  CHECK(has(row, "<td>200</td><td>1.00\xC3\x97</td><td>4.00 KiB</td><td>1.00\xC3\x97</td>"));
  for (json& each : all) {
    each.erase("seconds");
    each.erase("bytes");
  }
  const std::string page = page_of(all);
  CHECK_FALSE(has(page, "Speed and memory"));
  CHECK(first_unbalanced(page).empty());
}

TEST_CASE("pins have figures of their own") {
  const std::string page =
      page_of(together({sample_rows(), rows({.policy = "tova", .is_pinned = true}, 40, 10),
                        rows({.policy = "h2o", .is_pinned = true}, 40, 20)}),
              "tova");
  CHECK(count(figure(page, "solved-0-pinned-0"), "class=\"line") == 2);
  CHECK(has(page, "recall, 25% budget, prompt pinned"));
  CHECK(has(page, "not ranked: no rows of an oracle"));
  CHECK(count(page, "role=\"img\"") == 10);
}

TEST_CASE("more policies than the report has styles look different still") {
  std::vector<json> all = sample_rows();
  for (const char* policy : {"snapkv", "streaming", "random", "supersession", "gkv", "inertiakv"})
    all = together({all, rows({.policy = policy}, 40, 10)});
  const std::string page = page_of(all);
  const std::string solved = figure(page, "solved-0-free-0");
  CHECK(count(solved, "class=\"line") == 10);
  CHECK(count(solved, "<g class=\"hollow\">") == 2);
  CHECK(first_unbalanced(page).empty());
}

TEST_CASE("models and ways of feeding are shown apart, and texts are escaped") {
  std::vector<json> all = sample_rows(), others = sample_rows();
  for (json& each : others) each["model"] = "<b>&";
  all = together({all, others});
  const std::string page = page_of(all);
  CHECK(first_unbalanced(page).empty());
  CHECK_FALSE(has(page, "<b>"));
  CHECK(has(page, "<h3>Model &lt;b&gt;&amp;, fed its own symbols</h3>"));
  CHECK(count(page, "role=\"img\"") == 12);
}

TEST_CASE("sizes of one task are told apart") {
  std::vector<json> smaller = sample_rows();
  for (json& each : smaller) each["size"] = {6, 1, 20};
  const std::string page = page_of(together({sample_rows(), smaller}));
  CHECK(has(page, "recall 6/1/20"));
  CHECK(has(page, "recall 12/1/640"));
  CHECK(has(page, "several runs"));
}

TEST_CASE("the settings say how to run it again") {
  const std::string page = page_of(sample_rows());
  CHECK(has(page,
            "accuracy run -m m.gguf --task recall --policy oracle,lethe,h2o,tova "
            "--budget 10,25 --pin off --problems 40 --first-seed 0<"));
  CHECK(has(page, "0 to 39"));
  CHECK(has(page, "a.jsonl"));
  CHECK(has(page, "today"));
}

TEST_CASE("without a ranked cell nobody is called best") {
  const std::string page =
      page_of(together({rows({.policy = "oracle"}, 10, 0), rows({.policy = "h2o"}, 10, 0)}));
  CHECK(has(page, "No policy can be ranked"));
  CHECK_FALSE(has(page, "has most"));
  CHECK(first_unbalanced(page).empty());
}

TEST_CASE("contexts are shown by their tokens, ranked by the whole cache, without first errors") {
  const auto all = results(together({rows({.policy = "none", .task = Task::facts}, 10, 10),
                                     rows({.policy = "h2o", .task = Task::facts}, 10, 5)}));
  const std::string page = html_page(all, compare(all, "none"), {.files = {}, .date = "today"});
  CHECK(has(page, "facts 1024"));
  CHECK(has(page, "--task facts --length 1024 --policy h2o"));
  CHECK_FALSE(has(page, "Where the first error falls"));
  CHECK_FALSE(has(page, "&#8224;"));
}

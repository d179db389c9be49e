// SPDX-License-Identifier: Apache-2.0
#include "kdlib/tools/report_html.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace kdlib;

namespace {

RunReport small_report() {
  RunReport report;
  report.title = "A <run>";
  report.charts.push_back({"Loss", "step", "nats", {{"training loss", {1, 2, 3}, {0.5, 0.25, 0.125}, false}}, true});
  ReportHeatMap map{"Token by token", "nats", {"before", "after"}, {}, 2.0};
  map.tokens = {{"Why", {std::nan(""), std::nan("")}}, {" <b>", {2.5, 0.5}}, {"\n", {1.0, 0.0}}};
  report.heat_maps.push_back(map);
  report.next_steps = {{"Write with the student", "generate --model m --prompt \"Hi\""}};
  return report;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace

TEST_CASE("A heat map draws every token once a row, with its value and a ground that follows it", "[tools]") {
  const std::string page = render_html(small_report());
  CHECK(count(page, "<h3>before</h3>") == 1);
  CHECK(count(page, "<h3>after</h3>") == 1);
  // 2.5 of 2 is the strongest ground (0.85), 0.5 of 2 a quarter of it; NaN has none.
  CHECK_THAT(page, contains("<b style=\"--v:0.85\" title=\" &lt;b&gt;: 2.500 nats\"> &lt;b&gt;</b>"));
  CHECK_THAT(page, contains("<b style=\"--v:0.21\" title=\" &lt;b&gt;: 0.500 nats\"> &lt;b&gt;</b>"));
  CHECK_THAT(page, contains("<p>Why<b"));
  CHECK_THAT(page, contains("\xE2\x86\xB5\n</b>"));
}

TEST_CASE("The page of a run needs no network and escapes what comes from outside", "[tools]") {
  const std::string page = render_html(small_report());
  CHECK_THAT(page, contains("<title>A &lt;run&gt;</title>"));
  CHECK_THAT(page, contains("generate --model m --prompt &quot;Hi&quot;"));
  CHECK_THAT(page, contains("training loss, step 2: 0.25"));
  for (const char* link : {"http:", "https:", "src=", "@import", "url("}) CHECK(page.find(link) == std::string::npos);
}

TEST_CASE("A report without curves, maps and next steps has none of their headings", "[tools]") {
  const std::string page = render_html(RunReport{});
  for (const char* heading : {"Next steps", "Over the steps", "class=\"heat", "<script>"})
    CHECK(page.find(heading) == std::string::npos);
}

#include "report_style.hpp"

namespace decoder::report {

namespace {

// s0 is the whole cache; s1 to s7 follow Okabe and Ito's palette, darkened or lightened to keep
// a contrast of 3 to 1 or more with the page.
constexpr std::string_view sheet = R"css(
:root{color-scheme:light dark;--page:#f7f7f5;--panel:#fff;--ink:#1b1f24;--muted:#59636e;
--rule:#dcdfe3;--grid:#e8eaed;--accent:#0068a8;--soft:#e6f0f7;
--s0:#3a4148;--s1:#0072b2;--s2:#d55e00;--s3:#008a66;--s4:#a8477f;--s5:#a86f00;--s6:#6d5bd0;--s7:#777}
@media (prefers-color-scheme:dark){:root{--page:#12151a;--panel:#1a1e24;--ink:#e9ebee;
--muted:#a0a9b4;--rule:#2f363e;--grid:#282e36;--accent:#62b8ec;--soft:#1c2c38;
--s0:#d5d9de;--s1:#56b4e9;--s2:#ff8a4a;--s3:#2ec79c;--s4:#e28fc0;--s5:#efc04c;--s6:#a99bff;--s7:#999}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:2.1rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 8px;text-wrap:balance}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:48px 0 6px}
h3{font-size:1rem;margin:24px 0 6px}
p{margin:0 0 12px;max-width:75ch}
.lead{font-size:1.08rem;color:var(--muted)}
.note{color:var(--muted);font-size:.9rem}
.kicker{color:var(--accent);font-weight:600;font-size:.9rem;margin:0 0 8px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(235px,1fr));gap:16px;margin:28px 0 0}
.card,figure,.panel{background:var(--panel);border:1px solid var(--rule);border-radius:12px}
.card{padding:18px 20px 20px;display:flex;flex-direction:column}
.card p{flex:1 0 auto}
.card h2{font-size:.9rem;font-weight:600;color:var(--muted);margin:0;letter-spacing:0}
.card .big{font-size:2rem;font-weight:650;letter-spacing:-.03em;line-height:1.25;
font-variant-numeric:tabular-nums}
.card .big small{font-size:1rem;font-weight:500;letter-spacing:0;color:var(--muted)}
.card p{margin:2px 0 0;font-size:.9rem;color:var(--muted)}
.bar{display:grid;grid-template-columns:7em 1fr;align-items:center;gap:8px;font-size:.8rem;
color:var(--muted);margin-top:8px}
.bar+.bar{margin-top:3px}
.bar i{display:block;height:8px;border-radius:4px;min-width:2px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px}
.panel+.pair,.pair+.pair,.stack>figure+figure{margin-top:16px}
figure{margin:0;padding:18px 20px 16px;min-width:0;display:flex;flex-direction:column}
figure .note{flex:1 0 auto}
figcaption{font-weight:650}
figure .note{margin:2px 0 10px}
.scroll{overflow-x:auto}
figure svg{display:block;overflow:visible;width:100%;min-width:430px;height:auto}
.wide svg{min-width:760px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:8px 0 0;padding:0;font-size:.85rem}
.legend li{display:flex;align-items:center;gap:7px}
.legend svg{display:inline-block;min-width:0;width:34px}
text{font-size:12.5px;fill:var(--ink)}
.tick{fill:var(--muted);font-variant-numeric:tabular-nums}
.axis-title{fill:var(--muted);font-size:13px}
.label{font-weight:600}
.middle{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--muted);stroke-width:1}
.reference{stroke:var(--s0);stroke-width:1.5;stroke-dasharray:5 4}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.mark{stroke:var(--panel);stroke-width:1.2}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}
.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}.s7{--c:var(--s7)}
.line{stroke:var(--c)}.mark{fill:var(--c)}
.line.s1{stroke-width:2.8}
.line.s2{stroke-dasharray:7 4}.line.s3{stroke-dasharray:2 4}.line.s4{stroke-dasharray:9 3 2 3}
.line.s5{stroke-dasharray:12 4}.line.s6{stroke-dasharray:4 3}.line.s7{stroke-dasharray:1 5}
.swatch{display:inline-block;width:14px;height:14px;margin-right:8px;vertical-align:-2px}
.swatch svg{display:block;width:14px;height:14px;min-width:0}
.panel{overflow-x:auto;margin-top:16px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:650;padding:16px 20px 8px}
th,td{padding:8px 14px;text-align:right;border-top:1px solid var(--rule);white-space:nowrap}
thead th{color:var(--muted);font-weight:600;font-size:.84rem;border-top:0;vertical-align:bottom;
white-space:normal;line-height:1.3}
th[scope=row],thead th:first-child{text-align:left;padding-left:20px;font-weight:600}
tbody tr:hover{background:var(--soft)}
.plain td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.plain th[scope=row]{width:15em;color:var(--muted);vertical-align:top}
blockquote{margin:0;padding:14px 20px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.92rem;
max-height:22em;overflow-y:auto}
.texts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:16px}
.texts .panel{margin:0;padding-top:14px}.texts h3{margin:0;padding:0 20px}
.texts .note{padding:0 20px;margin:0}
ul.weak{padding-left:1.2em;max-width:80ch}ul.weak li{margin:4px 0}
.alert{border-left:4px solid var(--s2);padding:10px 16px;background:var(--panel);border-radius:6px}
@media (max-width:600px){main{padding:24px 14px 48px}h1{font-size:1.6rem}figure{padding:14px 12px}}
@media print{body{background:#fff}figure,.card,.panel{break-inside:avoid}}
)css";

}  // namespace

std::string whole_page(std::string_view title, std::string_view body, std::string_view style) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>";
  out.append(title).append("</title><style>").append(sheet).append(style);
  out.append("</style></head>\n<body><main>").append(body);
  return out.append("</main></body></html>\n");
}

}  // namespace decoder::report

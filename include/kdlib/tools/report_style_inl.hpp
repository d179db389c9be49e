// SPDX-License-Identifier: Apache-2.0
// Style sheet and script of the page of report_html.hpp.
#ifndef KDLIB_TOOLS_REPORT_STYLE_INL_HPP
#define KDLIB_TOOLS_REPORT_STYLE_INL_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC std::string report_style() {
  return R"css(<style>
:root{--bg:#f7f7f5;--card:#fff;--ink:#1a1a19;--soft:#5f5e5a;--rule:#e2e1dc;--c0:#2a78d6;--c1:#eb6834;--c2:#1baf7a;
--c3:#b07a00;--c4:#8a5cd0;--c5:#d04a7a}
@media(prefers-color-scheme:dark){:root{--bg:#161615;--card:#1f1f1e;--ink:#f0efec;--soft:#a5a49e;--rule:#363633;
--c0:#3987e5;--c1:#e0703f;--c2:#1fa878;--c3:#c99a20;--c4:#9f7be0;--c5:#e0658f}}
*{box-sizing:border-box}body{margin:0 auto;padding:28px 20px 60px;max-width:1080px;background:var(--bg);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}p.summary{color:var(--soft);margin:0 0 18px;
max-width:75ch}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px}
figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
.grid line{stroke:var(--rule)}.grid text{fill:var(--soft);font-size:11.5px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.hover{opacity:0}.hover:hover{opacity:.9}
.dot{stroke:var(--card);stroke-width:2}
path.s0{stroke:var(--c0)}path.s1{stroke:var(--c1)}path.s2{stroke:var(--c2)}path.s3{stroke:var(--c3)}
path.s4{stroke:var(--c4)}path.s5{stroke:var(--c5)}
circle.s0{fill:var(--c0)}circle.s1{fill:var(--c1)}circle.s2{fill:var(--c2)}circle.s3{fill:var(--c3)}
circle.s4{fill:var(--c4)}circle.s5{fill:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--soft)}.legend i{display:inline-block;
width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
i.s0{background:var(--c0)}i.s1{background:var(--c1)}i.s2{background:var(--c2)}i.s3{background:var(--c3)}
i.s4{background:var(--c4)}i.s5{background:var(--c5)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft);font-size:13px}
tr:last-child td{border-bottom:0}
.tip{color:var(--soft);font-size:12.5px;white-space:pre;min-height:1.5em;font-variant-numeric:tabular-nums}
line.at{stroke:var(--soft);stroke-dasharray:3 3;visibility:hidden}
.heat{margin-bottom:16px}.heat h3{font-size:13px;color:var(--soft);margin:10px 0 2px;font-weight:600}
.heat p{margin:0;line-height:1.75;white-space:pre-wrap;overflow-wrap:anywhere;font-size:14px}
.heat b{font-weight:400;border-radius:3px;background:rgb(235 104 52/var(--v))}
.scale{display:inline-block;width:90px;height:9px;border-radius:3px;margin:0 6px;
background:linear-gradient(to right,rgb(235 104 52/0),rgb(235 104 52/.85))}
.next pre{margin:4px 0 12px;padding:8px 10px;background:var(--bg);border-radius:6px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:13px}.next p{margin:0}
.note{color:var(--soft);font-size:13px;margin:8px 0 0}
.sample{margin-bottom:16px}.prompt{font-weight:600;white-space:pre-wrap;margin:0 0 10px}.answers{display:grid;
grid-template-columns:repeat(auto-fit,minmax(min(100%,260px),1fr));gap:14px}
.answers h3{font-size:13px;color:var(--soft);margin:0 0 4px;font-weight:600}.answers p{margin:0;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:14px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0;font-size:14px}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
@media(max-width:520px){dl{grid-template-columns:1fr}dd{margin-bottom:6px}}
</style>
)css";
}

/// Shows the values of all curves at the step under the pointer. Without scripts each point keeps its own title.
KDLIB_TOOLS_FUNC std::string report_script() {
  return R"js(<script>
document.querySelectorAll('.charts figure').forEach(f => {
  const svg = f.querySelector('svg'), tip = f.querySelector('.tip'), at = f.querySelector('line.at');
  const points = [...svg.querySelectorAll('circle')].map(
    c => ({x: +c.getAttribute('cx'), text: c.querySelector('title').textContent}));
  if (!points.length) return;
  svg.addEventListener('pointermove', e => {
    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * 640;
    const near = points.reduce((a, b) => Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a);
    at.setAttribute('x1', near.x); at.setAttribute('x2', near.x); at.style.visibility = 'visible';
    tip.textContent = points.filter(p => Math.abs(p.x - near.x) < 0.06).map(p => p.text).join('   ');
  });
  svg.addEventListener('pointerleave', () => { at.style.visibility = 'hidden'; tip.textContent = ''; });
});
</script>
)js";
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif

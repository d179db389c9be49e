// SPDX-License-Identifier: Apache-2.0
// All runs: filter, overlay of curves, CSV, settings side by side.
import {ask, attempt, el, get, notice, number, state, wide} from '/dom.js';
import {Chart} from '/chart.js';

const CURVES = ['train/forward_kl', 'train/reverse_kl', 'train/loss', 'train/top1_agreement', 'evaluation/forward_kl', 'train/tokens_per_s'];

function csv(series) {
  const rows = ['run_id,name,step,value'];
  const quoted = (text) => '"' + String(text).replace(/"/g, '""') + '"';
  for (const s of series) s.steps.forEach((step, i) => rows.push([quoted(s.run_id), quoted(s.name), step, s.values[i] ?? ''].join(',')));
  const url = URL.createObjectURL(new Blob([rows.join('\n') + '\n'], {type: 'text/csv'}));
  const link = el('a', {href: url, download: 'runs.csv'});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function settingsDifference(ids) {
  const all = await Promise.all(ids.map((id) => attempt(() => get(`/runs/${encodeURIComponent(id)}/config`))));
  const tables = all.map((a) => new Map((a ? a.config : '').split('\n').filter((l) => /^[a-z0-9-]+: /.test(l))
      .map((l) => [l.slice(0, l.indexOf(': ')), l.slice(l.indexOf(': ') + 2)])));
  const keys = [...new Set(tables.flatMap((t) => [...t.keys()]))].filter((k) => k !== 'out' && new Set(tables.map((t) => t.get(k))).size > 1);
  return wide('Settings that differ', el('table', {}, el('thead', {}, el('tr', {}, el('th', {scope: 'col'}, 'setting'), ids.map((id) => el('th', {scope: 'col'}, id)))),
      el('tbody', {}, keys.map((k) => el('tr', {}, el('th', {scope: 'row'}, k), tables.map((t) => el('td', {}, t.get(k) ?? '–')))))));
}

export async function showHistory(main) {
  const filter = el('input', {id: 'filter', autocomplete: 'off'});
  const body = el('tbody'), overlay = el('section');
  const name = el('select', {id: 'curve'}, CURVES.map((c) => el('option', {}, c)));
  const ticked = () => [...body.querySelectorAll('input:checked')].map((i) => i.value);
  main.append(el('h1', {}, 'History'), el('div', {class: 'row'}, el('div', {class: 'grow'}, el('label', {for: 'filter'}, 'Filter'), filter),
      el('div', {class: 'grow'}, el('label', {for: 'curve'}, 'Curve'), name), el('button', {id: 'overlay', onclick: () => attempt(draw)}, 'Overlay ticked runs')),
  wide('Runs', el('table', {}, el('thead', {}, el('tr', {}, ['', 'run', 'state', 'kind', 'held-out KL', 'started', 'label', ''].map((t) =>
    el('th', {scope: 'col'}, t || el('span', {class: 'sr'}, 'choice or action'))))), body)), overlay);

  async function draw() {
    const ids = ticked();
    if (!ids.length) return notice('Tick the runs to overlay first.');
    const answer = await get(`/series?run_id=${encodeURIComponent(ids.join(','))}&names=${encodeURIComponent(name.value)}&max_points=2000`);
    const chart = new Chart(name.value);
    for (const s of answer.series) chart.set(s.run_id, s.steps, s.values);
    overlay.replaceChildren(el('h2', {}, 'Curves'), chart.figure, el('div', {class: 'row'}, el('button', {onclick: () => csv(answer.series)}, 'CSV')),
        el('h2', {}, 'Settings that differ'), await settingsDifference(ids));
  }

  let runs = [];
  function fill() {
    const words = filter.value.toLowerCase();
    const shown = runs.filter((r) => !words || JSON.stringify(r).toLowerCase().includes(words));
    body.replaceChildren(...shown.map((r) => el('tr', {}, el('td', {}, el('input', {type: 'checkbox', value: r.run_id, 'aria-label': 'Overlay ' + r.run_id})),
        el('td', {}, el('a', {class: 'link', href: (r.status === 'completed' ? '#/results/' : '#/run/') + encodeURIComponent(r.run_id)}, r.run_id)),
        el('td', {}, state(r.status), r.reason ? ' ' + r.reason : ''), el('td', {}, r.kind === 'fine_tune' ? 'fine-tuning' : 'distillation'),
        el('td', {class: 'number'}, number(r.final_kl_loss)), el('td', {}, r.started_at ? new Date(r.started_at).toLocaleString() : '–'),
        el('td', {}, [r.label, ...r.tags].filter((t) => t).join(', ')), el('td', {}, el('button', {class: 'bad', 'aria-label': 'Remove ' + r.run_id, onclick: () => attempt(async () => {
          await ask('DELETE', '/runs/' + encodeURIComponent(r.run_id));
          await load();
        })}, 'Remove')))));
  }
  async function load() {
    runs = (await get('/opd/runs?limit=500')).runs;
    fill();
  }
  filter.addEventListener('input', fill);
  await attempt(load);
  return null;
}

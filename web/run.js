// SPDX-License-Identifier: Apache-2.0
// A run as it goes on, and what it found. Events come over a WebSocket; a lost one comes back where it was.
import {attempt, bytes, card, download, duration, el, get, notice, number, post, state, token, wide} from '/dom.js';
import {Chart} from '/chart.js';

const CHARTS = [
  ['Divergence from the teacher', 'nats', [['train/forward_kl', 'forward KL'], ['train/reverse_kl', 'reverse KL'], ['evaluation/forward_kl', 'held-out forward KL']]],
  ['Loss', '', [['train/loss', 'loss'], ['evaluation/objective', 'held-out']]],
  ['Agreement', 'share of tokens', [['train/top1_agreement', 'same likeliest token'], ['train/top5_contains', 'among the five likeliest'], ['evaluation/top1_agreement', 'held-out']]],
  ['Entropy', 'nats', [['train/student_entropy', 'student'], ['train/teacher_entropy', 'teacher']]],
  ['Speed', 'tokens/s', [['train/tokens_per_s', 'trained tokens']]],
  ['Learning rate', '', [['train/rate', 'rate']]],
];

// Calls back with each event until it is told to stop.
function follow(id, onEvent) {
  let socket = null, last = 0, ended = false, timer = null, wait = 500;
  function open() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    socket = new WebSocket(`${scheme}://${location.host}/api/v1/runs/${encodeURIComponent(id)}/events`, 'kdlib.v1');
    socket.onopen = () => socket.send(JSON.stringify({token: token(), from_step: last}));
    socket.onmessage = (message) => {
      wait = 500;
      const event = JSON.parse(message.data);
      if (event.type === 'metrics') last = Math.max(last, event.step);
      if (event.type === 'history' && event.lines.length) last = Math.max(last, event.lines[event.lines.length - 1].step);
      if (event.type === 'rewind') last = Math.max(0, event.step);
      if (event.type === 'end') ended = true;
      onEvent(event);
    };
    socket.onclose = (event) => {
      if (ended || event.code === 4401) return;
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 10000);
    };
  }
  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    socket.close();
  };
}

// Half the batch and twice the micro-batches of a run: the same gradient in less memory. Nothing where the batch is odd.
async function halved(id) {
  const [about, table] = await Promise.all([get('/runs/' + encodeURIComponent(id)), get('/settings')]);
  const value = (name) => {
    const said = about.arguments.find((word) => word.startsWith(`--${name}=`));
    const setting = table.settings.find((s) => s.name === name);
    return Number(said ? said.slice(name.length + 3) : setting ? setting.default : 1);
  };
  const batch = value('batch');
  return batch >= 2 && batch % 2 === 0 ? {batch: batch / 2, 'micro-batches': value('micro-batches') * 2} : null;
}

async function chosen(id) {
  if (id) return id;
  return (await get('/opd/status')).run_id;
}

export async function showRun(main, [asked]) {
  const id = await chosen(asked);
  if (!id) {
    main.append(el('h1', {}, 'No run yet'), el('p', {}, el('a', {class: 'link', href: '#/setup'}, 'Set one up')));
    return null;
  }
  const charts = CHARTS.map(([title, unit, lines]) => {
    const chart = new Chart(title, unit);
    for (const [, name] of lines) chart.line(name);
    return {chart, lines};
  });
  const place = el('span'), why = el('p', {class: 'problem'}), cards = el('div', {class: 'cards'});
  const bar = el('progress', {'aria-label': 'Progress', max: 1, value: 0}), said = el('p', {class: 'sr', 'aria-live': 'polite'});
  const log = el('pre', {tabindex: '0', 'aria-label': 'Log'}), warnings = el('ul');
  const stop = el('button', {id: 'stop', onclick: () => attempt(() => post('/opd/stop', {run_id: id}))}, 'Stop and save');
  const force = el('button', {class: 'bad', hidden: true, onclick: () => attempt(() => post('/opd/stop', {run_id: id, force: true}))}, 'End at once');
  const resume = el('button', {id: 'resume', onclick: () => attempt(async () => {
    await post('/opd/resume', {run_id: id});
    restart();
  })}, 'Resume');
  const half = el('button', {id: 'half', hidden: true, onclick: () => attempt(async () => {
    const settings = await halved(id);
    if (!settings) throw new Error('The batch cannot be halved; set up a new run with less memory.');
    await post('/opd/resume', {run_id: id, settings});
    restart();
  })}, 'Resume with half the batch');
  const results = el('a', {class: 'link', id: 'results', href: '#/results/' + encodeURIComponent(id)}, 'Results');
  main.append(el('h1', {}, 'Run ' + id), el('div', {class: 'row'}, place, stop, force, resume, half, results), why, warnings, bar, cards, said,
      el('div', {class: 'charts'}, charts.map((c) => c.chart.figure)), el('h2', {}, 'Log'), log);
  let total = 0, phase = '', lastSaid = -1e9, memory = null, newest = {}, logText = '';

  function add(line) {
    newest = {...newest, ...line};
    for (const {chart, lines} of charts) {
      for (const [key, name] of lines) {
        if (key in line) chart.add(name, line.step, line[key]);
      }
    }
    if (line['train/loss'] === null) warnings.append(el('li', {class: 'problem'}, `step ${line.step}: the loss is not a number`));
  }
  let due = false;
  function showSoon() {
    if (due) return;
    due = true;
    setTimeout(() => {
      due = false;
      showNumbers();
    }, 100);
  }
  function showNumbers() {
    const step = newest.step || 0;
    bar.max = total || 1;
    bar.value = Math.min(step, total);
    const left = total && step && newest.time ? newest.time / step * (total - step) : null;
    cards.replaceChildren(card('Phase', phase || '–'), card('Step', `${step} of ${total || '?'}`), card('Left', duration(left)),
        card('Forward KL', number(newest['train/forward_kl'])), card('Held-out KL', number(newest['evaluation/forward_kl'])),
        card('Agreement', newest['train/top1_agreement'] === undefined ? '–' : (100 * newest['train/top1_agreement']).toFixed(1) + ' %'),
        card('Tokens/s', number(newest['train/tokens_per_s'])),
        card('Cache hits', newest['teacher_cache/hit_rate'] === undefined ? '–' : (100 * newest['teacher_cache/hit_rate']).toFixed(0) + ' %'),
        card('Saved by the cache', duration(newest['teacher_cache/saved_seconds'])),
        card('Memory (peak)', memory && memory.resident ? `${bytes(memory.resident)} (${bytes(memory.peak)})` : '–'));
    if (performance.now() - lastSaid > 10000) {  // a clock that nobody sets
      lastSaid = performance.now();
      said.textContent = `step ${step} of ${total}, forward KL ${number(newest['train/forward_kl'])}`;
    }
  }
  function showState(event) {
    total = event.total_steps || total;
    place.replaceChildren(state(event.state), event.queue_position ? ` place ${event.queue_position} in the queue` : '');
    why.textContent = event.detail || '';
    const open = ['queued', 'starting', 'running', 'stopping'].includes(event.state);
    stop.hidden = !open || event.state === 'stopping';
    force.hidden = event.state !== 'stopping';
    resume.hidden = open || event.state === 'completed';
    half.hidden = resume.hidden || event.reason !== 'out_of_memory';
    looking = open;
    results.hidden = event.state !== 'completed';
  }
  function onEvent(event) {
    if (event.type === 'history') event.lines.forEach(add);
    else if (event.type === 'metrics') add(event.values);
    else if (event.type === 'state' || event.type === 'end') showState(event);
    else if (event.type === 'phase') phase = event.name === 'writing' && event.total ? `writing ${event.done} of ${event.total}` : event.name;
    else if (event.type === 'warning') warnings.append(el('li', {}, event.text));
    else if (event.type === 'rewind') {
      for (const {chart} of charts) chart.rewind(event.step);
      newest = {step: Math.max(0, event.step)};
    } else if (event.type === 'log') {
      logText = (logText + event.text).slice(-40000);
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
      log.textContent = logText;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
    showSoon();
  }
  let looking = true;
  const look = async () => {
    if (!looking) return;
    const status = await get('/opd/status?run_id=' + encodeURIComponent(id)).catch(() => null);  // the next look may succeed
    if (status && status.memory && status.memory.resident) memory = status.memory;
    showNumbers();
  };
  const looks = setInterval(look, 5000);
  let unfollow = follow(id, onEvent);
  function restart() {
    unfollow();
    unfollow = follow(id, onEvent);
  }
  look();
  return () => {
    clearInterval(looks);
    unfollow();
  };
}

function resultTable(result) {
  const columns = [['forward_kl', 'forward KL'], ['reverse_kl', 'reverse KL'], ['top1_agreement', 'top-1'], ['top5_overlap', 'top-5'], ['perplexity', 'perplexity']];
  return wide('Before and after', el('table', {}, el('thead', {}, el('tr', {}, el('th', {scope: 'col'}, 'model'),
      columns.map(([, name]) => el('th', {scope: 'col', class: 'number'}, name)))),
  el('tbody', {}, result.models.map((m) => el('tr', {}, el('th', {scope: 'row'}, m.model), columns.map(([key]) => {
    const error = m[key + '_error'];
    return el('td', {class: 'number'}, number(m[key]) + (error ? ` ± ${number(1.96 * error, 2)}` : ''));
  }))))));
}

export async function showResults(main, [asked]) {
  const id = await chosen(asked);
  main.append(el('h1', {}, 'Results of ' + id));
  const about = await attempt(() => get('/runs/' + encodeURIComponent(id)));
  if (!about) return null;
  const [result, files] = await Promise.all([attempt(() => get(`/runs/${encodeURIComponent(id)}/result`)),
    attempt(() => get(`/runs/${encodeURIComponent(id)}/files`))]);
  if (!result) return null;
  notice('');
  const run = about.run, folder = about.folder, student = run.student_model || run.teacher_model;
  const names = files ? files.entries.map((e) => e.name) : [];
  const rows = result.models, before = rows.length > 2 ? rows[1] : null, after = rows[rows.length - 1];
  main.append(el('p', {}, before ? `Held-out forward KL ${number(before.forward_kl)} → ${number(after.forward_kl)} nats after ${result.steps} steps, ` +
      `${duration(result.seconds)}. ` : `${result.steps} steps, ${duration(result.seconds)}. `,
  result.best_step >= 0 ? `Best at step ${result.best_step}.` : ''), resultTable(result));
  const take = ['adapter', 'model', 'packed', 'base', 'best', 'model.gguf', 'report.html', 'metrics.jsonl', 'config.yaml'].filter((n) => names.includes(n));
  main.append(el('h2', {}, 'Take home'), el('div', {class: 'row', id: 'downloads'}, take.map((n) =>
    el('button', {onclick: () => attempt(() => download(id, n))}, n + (n.includes('.') ? '' : ' (tar)')))));
  const next = el('div', {class: 'row'}, el('a', {class: 'link', href: `#/compare/${encodeURIComponent(id)}`}, 'Compare answers'));
  if (run.kind === 'fine_tune' && names.includes('adapter'))
    next.append(el('a', {class: 'link', id: 'distil-this', href: `#/setup/from/${encodeURIComponent(student)}/${encodeURIComponent(folder + '/adapter')}`}, 'Distil this one'));
  main.append(next);
  for (const s of result.samples || []) {
    main.append(el('h2', {}, 'Prompt: ' + s.prompt), el('div', {class: 'columns'},
        Object.entries(s.answers || {}).map(([who, answer]) => el('div', {class: 'answer'}, el('strong', {}, who), el('div', {class: 'tokens'}, String(answer))))));
  }
  if (names.includes('report.html')) {
    const frame = el('iframe', {title: 'Report', sandbox: ''});
    const open = el('button', {id: 'report', onclick: () => attempt(async () => {
      frame.src = (await post(`/runs/${encodeURIComponent(id)}/tickets`, {path: 'report.html'})).url;
      open.replaceWith(frame);
    })}, 'Show the whole report');
    main.append(el('h2', {}, 'Report'), open);
  }
  return null;
}

// SPDX-License-Identifier: Apache-2.0
// Elements, requests and words that every view uses. Text of models enters the page as text alone.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'class') node.className = value;
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

// A table and the like that may be wider than the window: it scrolls by itself, also by keyboard.
export const wide = (label, ...children) => el('div', {class: 'wide', role: 'group', tabindex: '0', 'aria-label': label}, ...children);

export function token() {
  return sessionStorage.getItem('kdlib-token') || '';
}

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.errors = problem.errors || [];
  }
}

export async function ask(method, path, body) {
  const headers = {Authorization: 'Bearer ' + token()};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch('/api/v1' + path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)});
  } catch (error) {
    throw new Refused(0, {detail: 'The service does not answer. Runs go on without it; start serve again.'});
  }
  const text = await answer.text();
  let value = {};
  try {
    value = text ? JSON.parse(text) : {};
  } catch (error) {
    value = {detail: text.slice(0, 200)};
  }
  if (!answer.ok) throw new Refused(answer.status, value);
  return value;
}
export const get = (path) => ask('GET', path);
export const post = (path, body) => ask('POST', path, body);

export function notice(text) {
  const place = document.getElementById('notice');
  place.replaceChildren(...(text ? [el('p', {}, text)] : []));
}
export async function attempt(work) {
  try {
    notice('');
    return await work();
  } catch (error) {
    notice(error.message);
    return undefined;
  }
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  return Number(value.toPrecision(digits)).toString();
}
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  const s = Math.round(seconds), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  if (h) return `${h} h ${m} min`;
  if (m) return `${m} min ${s % 60} s`;
  if (seconds > 0 && seconds < 0.1) return `${(1000 * seconds).toFixed(1)} ms`;
  return `${seconds < 10 ? seconds.toFixed(1) : s} s`;
}
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, ++unit;
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
export const state = (name) => el('span', {class: 'state ' + name}, name);
export const card = (name, value) => el('div', {class: 'card'}, el('span', {}, name), el('b', {}, value));

// Saves one file or folder of a run.
export async function download(run, path) {
  const ticket = await post(`/runs/${encodeURIComponent(run)}/tickets`, {path});
  const link = el('a', {href: ticket.url, download: ''});
  document.body.append(link);
  link.click();
  link.remove();
}

// A dialog that picks a file of the allowed folders; answers its path or nothing.
export function pick(kinds) {
  return new Promise((resolve) => {
    const list = el('ul'), place = el('p', {class: 'help'});
    const dialog = el('dialog', {'aria-label': 'Choose a file'}, place, list,
        el('div', {class: 'row'}, el('button', {type: 'button', onclick: () => dialog.close()}, 'Cancel')));
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue || undefined);
      dialog.remove();
    });
    const choose = (path) => dialog.close(path);
    async function showRoots() {
      const answer = await get('/settings');
      place.textContent = 'Folders that may be read';
      list.replaceChildren(...answer.roots.map((root, i) =>
        el('li', {}, el('button', {type: 'button', onclick: () => show(i, '')}, root))));
    }
    async function show(root, path) {
      const answer = await attempt(() => get(`/files?root=${root}&path=${encodeURIComponent(path)}`));
      if (!answer) return;
      place.textContent = answer.folder + (path ? '/' + path : '');
      const up = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
      const rows = [el('li', {}, el('button', {type: 'button', onclick: () => path ? show(root, up) : showRoots()}, '↑ up'))];
      for (const entry of answer.entries) {
        const good = kinds.includes(entry.kind);
        if (!entry.folder && !good) continue;
        const below = path ? `${path}/${entry.name}` : entry.name;
        const about = entry.folder ? entry.kind : entry.lines >= 0 ? `${entry.lines} lines` : bytes(entry.bytes);
        const buttons = [el('button', {type: 'button', onclick: () => good ? choose(entry.path) : show(root, below)},
            `${good ? '● ' : '▸ '}${entry.name} (${about})`)];
        if (good && entry.folder) buttons.push(el('button', {type: 'button', onclick: () => show(root, below)}, `▸ open ${entry.name}`));
        rows.push(el('li', {}, buttons));
      }
      list.replaceChildren(...rows);
    }
    document.body.append(dialog);
    dialog.showModal();
    attempt(showRoots);
  });
}

// SPDX-License-Identifier: Apache-2.0
// Line charts on a canvas: each pixel column shows the smallest and the largest value of its points, so that no peak is
// lost. A value that is no number is a gap with a mark below it.
import {el, number, wide} from '/dom.js';

const colour = (i) => getComputedStyle(document.documentElement).getPropertyValue(`--c${i % 6}`).trim();

export class Chart {
  constructor(title, unit = '') {
    this.title = title;
    this.unit = unit;
    this.series = [];
    this.at = null;
    this.canvas = el('canvas', {role: 'img', tabindex: '0'});
    this.said = el('span', {class: 'help', 'aria-live': 'off'});
    this.key = el('div', {class: 'key'});
    this.table = wide(title + ', values');
    const details = el('details', {}, el('summary', {}, 'Values as a table'), this.table);
    details.addEventListener('toggle', () => details.open && this.fillTable());
    this.figure = el('figure', {}, el('figcaption', {}, unit ? `${title} (${unit})` : title), this.canvas, this.key, this.said, details);
    this.canvas.addEventListener('keydown', (event) => this.onKey(event));
    this.canvas.addEventListener('pointermove', (event) => this.onPointer(event));
    this.waiting = false;
    this.observer = new ResizeObserver(() => this.later());
    this.observer.observe(this.canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.later());
  }

  line(name) {
    let found = this.series.find((s) => s.name === name);
    if (!found) {
      found = {name, x: [], y: []};
      this.series.push(found);
      const i = this.series.length - 1;
      this.key.append(el('span', {}, el('i', {class: `k${i % 6}${i % 2 ? ' dash' : ''}`}), name));
    }
    return found;
  }
  add(name, x, y) {
    const s = this.line(name), last = s.x.length - 1;
    if (last >= 0 && s.x[last] === x) s.y[last] = y;
    else s.x.push(x), s.y.push(y);
    this.later(200);
  }
  set(name, x, y) {
    Object.assign(this.line(name), {x, y});
    this.later();
  }
  rewind(step) {
    for (const s of this.series) {
      while (s.x.length && s.x[s.x.length - 1] > step) s.x.pop(), s.y.pop();
    }
    this.later();
  }
  // Draws soon: at once for hands, five times a second for new values.
  later(pause = 0) {
    if (this.waiting) return;
    this.waiting = true;
    const draw = () => requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
    if (pause) setTimeout(draw, pause);
    else draw();
  }

  bounds() {
    let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
    for (const s of this.series) {
      if (s.x.length) x0 = Math.min(x0, s.x[0]), x1 = Math.max(x1, s.x[s.x.length - 1]);
      for (const y of s.y) {
        if (y < y0) y0 = y;
        if (y > y1) y1 = y;
      }
    }
    if (!(x1 > x0)) x1 = x0 + 1;
    if (!(y1 > y0)) y0 -= Math.abs(y0) * 0.1 + 1e-9, y1 += Math.abs(y1) * 0.1 + 1e-9;
    return {x0, x1, y0, y1};
  }

  draw() {
    const scale = devicePixelRatio || 1, w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    if (!w || !h) return;
    this.canvas.width = Math.round(w * scale);
    this.canvas.height = Math.round(h * scale);
    const g = this.canvas.getContext('2d');
    g.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const soft = style.getPropertyValue('--soft'), grid = style.getPropertyValue('--line');
    const box = this.box = {left: 56, right: w - 8, top: 8, bottom: h - 20};
    const b = this.limits = this.bounds();
    g.font = '12px system-ui, sans-serif';
    g.fillStyle = soft;
    if (!Number.isFinite(b.x0)) return g.fillText('no values yet', box.left + 8, h / 2);
    const X = (x) => box.left + (x - b.x0) / (b.x1 - b.x0) * (box.right - box.left);
    const Y = (y) => box.bottom - (y - b.y0) / (b.y1 - b.y0) * (box.bottom - box.top);
    g.strokeStyle = grid;
    g.lineWidth = 1;
    for (let i = 0; i <= 3; ++i) {
      const y = b.y0 + (b.y1 - b.y0) * i / 3;
      g.beginPath();
      g.moveTo(box.left, Y(y));
      g.lineTo(box.right, Y(y));
      g.stroke();
      g.textAlign = 'right';
      g.fillText(number(y, 3), box.left - 4, Math.min(Y(y) + 4, box.bottom));
    }
    g.textAlign = 'left';
    g.fillText(number(b.x0), box.left, h - 4);
    g.textAlign = 'right';
    g.fillText('step ' + number(b.x1), box.right, h - 4);
    this.series.forEach((s, i) => this.drawLine(g, s, i, X, Y));
    this.drawCursor(g, X, Y);
    this.describe();
  }

  drawLine(g, s, i, X, Y) {
    g.strokeStyle = g.fillStyle = colour(i);
    g.lineWidth = 1.75;
    g.setLineDash(i % 2 ? [6, 4] : []);
    g.beginPath();
    let column = null, low = 0, high = 0, first = 0, last = 0, pen = false;
    const flush = () => {
      if (column === null) return;
      if (pen) g.lineTo(column, Y(first));
      else g.moveTo(column, Y(first));
      if (low !== high) g.lineTo(column, Y(low)), g.lineTo(column, Y(high)), g.lineTo(column, Y(last));
      pen = true;
      column = null;
    };
    for (let k = 0; k < s.x.length; ++k) {
      const y = s.y[k], c = Math.round(X(s.x[k]));
      if (y === null || !Number.isFinite(y)) {
        flush();
        pen = false;
        g.fillRect(c - 2, this.box.bottom - 5, 4, 5);
        continue;
      }
      if (c !== column) {
        flush();
        column = c;
        low = high = first = last = y;
      } else {
        low = Math.min(low, y);
        high = Math.max(high, y);
        last = y;
      }
    }
    flush();
    g.stroke();
    g.setLineDash([]);
    if (s.x.length === 1 && Number.isFinite(s.y[0])) g.fillRect(X(s.x[0]) - 2, Y(s.y[0]) - 2, 4, 4);
  }

  drawCursor(g, X, Y) {
    const s = this.series[0];
    if (this.at === null || !s || !s.x.length) return;
    this.at = Math.max(0, Math.min(this.at, s.x.length - 1));
    g.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue('--fore');
    g.beginPath();
    g.moveTo(X(s.x[this.at]), this.box.top);
    g.lineTo(X(s.x[this.at]), this.box.bottom);
    g.stroke();
    const step = s.x[this.at];
    const all = this.series.map((o) => {
      const k = o.x.indexOf(step);
      return k < 0 ? null : `${o.name} ${number(o.y[k])}`;
    });
    this.said.textContent = `step ${step}: ${all.filter((t) => t).join(', ')}`;
  }

  describe() {
    const parts = this.series.filter((s) => s.y.length).map((s) => {
      const good = s.y.filter((y) => y !== null && Number.isFinite(y)), gaps = s.y.length - good.length;
      return `${s.name}: ${s.y.length} points, first ${number(good[0])}, last ${number(good[good.length - 1])}` +
          (gaps ? `, ${gaps} not a number` : '');
    });
    this.canvas.setAttribute('aria-label', `${this.title}. ${parts.join('; ') || 'No values yet'}. Arrow keys read points.`);
  }

  onKey(event) {
    const s = this.series[0];
    if (!s || !s.x.length) return;
    const last = s.x.length - 1, moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10};
    if (event.key in moves) this.at = (this.at === null ? last : this.at) + moves[event.key];
    else if (event.key === 'Home') this.at = 0;
    else if (event.key === 'End') this.at = last;
    else return;
    event.preventDefault();
    this.said.setAttribute('aria-live', 'polite');
    this.draw();
  }
  onPointer(event) {
    const s = this.series[0];
    if (!s || !s.x.length || !this.box) return;
    const b = this.limits, x = b.x0 + (event.offsetX - this.box.left) / (this.box.right - this.box.left) * (b.x1 - b.x0);
    let low = 0, high = s.x.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (s.x[middle] < x) low = middle + 1;
      else high = middle;
    }
    this.at = low;
    this.said.setAttribute('aria-live', 'off');
    this.later();
  }

  fillTable() {
    const rows = new Map();
    this.series.forEach((s, i) => s.x.forEach((x, k) => {
      if (!rows.has(x)) rows.set(x, []);
      rows.get(x)[i] = s.y[k];
    }));
    const steps = [...rows.keys()].sort((a, b) => a - b);
    const stride = Math.max(1, Math.ceil(steps.length / 200));
    this.table.replaceChildren(el('table', {},
        el('thead', {}, el('tr', {}, el('th', {scope: 'col'}, 'step'), this.series.map((s) => el('th', {scope: 'col', class: 'number'}, s.name)))),
        el('tbody', {}, steps.filter((x, i) => i % stride === 0 || i === steps.length - 1).map((x) => el('tr', {}, el('th', {scope: 'row'}, x),
            this.series.map((s, i) => el('td', {class: 'number'}, number(rows.get(x)[i]))))))));
  }
}

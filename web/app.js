// SPDX-License-Identifier: Apache-2.0
// The page: takes the token from the address, shows the view that the address names.
import {el, notice, token, get} from '/dom.js';
import {showSetup} from '/setup.js';
import {showRun, showResults} from '/run.js';
import {showHistory} from '/history.js';
import {showCompare} from '/compare.js';

const views = {setup: showSetup, run: showRun, results: showResults, history: showHistory, compare: showCompare};
let leave = null;

function takeToken() {
  const match = location.hash.match(/^#token=([^&]+)/);
  if (!match) return;
  sessionStorage.setItem('kdlib-token', decodeURIComponent(match[1]));
  history.replaceState(null, '', '#/setup');
}

function askForToken(main) {
  const input = el('input', {id: 'token', type: 'password', autocomplete: 'off', required: true});
  const form = el('form', {onsubmit: (event) => {
    event.preventDefault();
    sessionStorage.setItem('kdlib-token', input.value.trim());
    show();
  }}, el('h1', {}, 'Which token?'), el('label', {for: 'token'}, 'Token',
      el('span', {class: 'help'}, 'serve prints an address with it at its start; it is also in RUNS/.service/token.')),
  input, el('div', {class: 'row'}, el('button', {class: 'main'}, 'Go on')));
  main.replaceChildren(form);
}

async function show() {
  takeToken();
  if (leave) leave();
  leave = null;
  notice('');
  const main = document.getElementById('main');
  const [name, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  const view = views[name] ? name : 'setup';
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === '#/' + view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (!token()) return askForToken(main);
  try {
    await get('/presets');
  } catch (error) {
    if (error.status === 401 || error.status === 429) {
      askForToken(main);
      return notice(error.message);
    }
    return notice(error.message);
  }
  main.replaceChildren();
  leave = await views[view](main, rest.map(decodeURIComponent)) || null;
  const title = main.querySelector('h1');
  document.title = (title ? title.textContent + ' – ' : '') + 'kdlib';
  main.focus({preventScroll: true});
}

addEventListener('hashchange', show);
show();

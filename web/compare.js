// SPDX-License-Identifier: Apache-2.0
// One prompt, several models. Tokens are shaded by how much likelier the reference finds them than the model that wrote them
// does, or the other way round; the number is said on focus.
import {attempt, el, get, number, pick, post} from '/dom.js';

const heat = (difference) => Math.min(4, Math.floor(Math.abs(difference) / 0.5));

function modelRow(name, path = '', adapter = '') {
  const inputs = [el('input', {'aria-label': 'Name', value: name}), el('input', {'aria-label': 'Model of ' + name, value: path, placeholder: 'model', spellcheck: 'false'}),
    el('input', {'aria-label': 'Adapter of ' + name, value: adapter, placeholder: 'adapter (optional)', spellcheck: 'false'})];
  const chooser = (input, kinds, title) => el('button', {type: 'button', 'aria-label': `Choose ${title} of ${name}`, onclick: async () => {
    const chosen = await pick(kinds);
    if (chosen) input.value = chosen;
  }}, '…');
  const row = el('div', {class: 'row model'}, el('div', {}, inputs[0]), el('div', {class: 'grow'}, inputs[1]), chooser(inputs[1], ['model', 'run'], 'model'),
      el('div', {class: 'grow'}, inputs[2]), chooser(inputs[2], ['adapter'], 'adapter'));
  row.read = () => ({name: inputs[0].value.trim(), model_path: inputs[1].value.trim(), adapter_path: inputs[2].value.trim()});
  return row;
}

function showAnswer(model, reference) {
  const own = model.log_probs[model.name] || [], other = model.log_probs[reference] || [];
  const said = el('p', {class: 'help', 'aria-live': 'polite'}, 'Focus or point at a token.');
  const tokens = model.tokens.map((text, i) => {
    const mine = own[i], theirs = other[i], known = mine !== undefined && theirs !== undefined;
    const difference = known ? theirs - mine : 0;
    const words = `“${text}”: ${model.name} ${number(mine)}, ${reference || 'no reference'} ${number(theirs)}` + (known ? `, difference ${number(difference)} nats` : '');
    return el('span', {class: 'h' + heat(difference), tabindex: i === 0 ? '0' : '-1', title: words, onfocus: () => said.textContent = words, onmouseover: () => said.textContent = words,
      onkeydown: (event) => {
        const next = {ArrowRight: 'nextElementSibling', ArrowLeft: 'previousElementSibling'}[event.key];
        if (next && event.target[next]) event.target[next].focus();
      }}, text);
  });
  const sum = (list) => list.length ? list.reduce((a, b) => a + b, 0) / list.length : NaN;
  return el('section', {class: 'answer', 'aria-label': model.name}, el('h2', {}, model.name), model.problem ? el('p', {class: 'problem'}, model.problem) : null,
      el('div', {class: 'tokens', role: 'group', 'aria-label': 'Tokens of ' + model.name}, tokens), said,
      el('p', {class: 'help'}, `${model.ids.length} tokens, ${number(model.tokens_per_second, 3)} tokens/s`),
      el('table', {}, el('caption', {class: 'sr'}, 'Mean log-probability of this answer'), el('tbody', {}, Object.entries(model.log_probs).map(([name, list]) =>
        el('tr', {}, el('th', {scope: 'row'}, 'by ' + name), el('td', {class: 'number'}, number(sum(list)) + ' nats a token'))))));
}

export async function showCompare(main, [run]) {
  const rows = el('div'), answers = el('div', {class: 'columns', 'aria-live': 'polite'});
  const prompt = el('textarea', {id: 'prompt', rows: 3}), chat = el('input', {id: 'chat', type: 'checkbox'});
  const count = el('input', {id: 'length', inputmode: 'numeric', value: 64}), heatOf = el('input', {id: 'heat', inputmode: 'decimal', value: 0});
  rows.append(modelRow('teacher'), modelRow('distilled'));
  if (run) {
    const about = await attempt(() => get('/runs/' + encodeURIComponent(run)));
    if (about) {
      const r = about.run;
      rows.replaceChildren(modelRow('teacher', r.teacher_model), modelRow('base', r.student_model || r.teacher_model));
      if (r.student_adapter) rows.append(modelRow('fine-tuned', r.student_model || r.teacher_model, r.student_adapter));
      rows.append(modelRow('distilled', about.folder));
    }
  }
  const go = el('button', {class: 'main', id: 'go'}, 'Compare');
  const form = el('form', {novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    attempt(compare);
  }}, el('fieldset', {}, el('legend', {}, 'Models; the first is the reference'), rows, el('div', {class: 'row'}, el('button', {type: 'button', onclick: () => {
    if (rows.children.length < 4) rows.append(modelRow('model-' + (rows.children.length + 1)));
  }}, 'One more'))), el('label', {for: 'prompt'}, 'Prompt'), prompt, el('div', {class: 'row'}, el('label', {for: 'length'}, 'Longest answer'), el('div', {}, count),
      el('label', {for: 'heat'}, 'Temperature'), el('div', {}, heatOf), el('label', {for: 'chat'}, chat, ' as a user’s turn'), go));
  async function compare() {
    const models = [...rows.children].map((r) => r.read()).filter((m) => m.model_path);
    for (const m of models) if (!m.adapter_path) delete m.adapter_path;
    const body = {models, prompt: prompt.value, chat: chat.checked, max_new_tokens: Number(count.value), temperature: Number(heatOf.value)};
    if (models.length) body.reference = models[0].name;
    go.disabled = true;
    answers.replaceChildren(el('p', {}, 'The models write, one after the other…'));
    try {
      const {id} = await post('/compare', body);
      let answer = {state: 'running'};
      while (answer.state === 'running') {
        await new Promise((resolve) => setTimeout(resolve, 500));
        answer = await get('/compare/' + id);
      }
      if (answer.state === 'failed') throw new Error(answer.detail);
      answers.replaceChildren(...answer.models.map((m) => showAnswer(m, answer.reference)));
    } catch (error) {
      answers.replaceChildren();
      throw error;
    } finally {
      go.disabled = false;
    }
  }
  main.append(el('h1', {}, 'Compare answers'), form, el('p', {class: 'help'},
      'Shades: difference of log-probabilities to the reference, steps of 0.5 nats; the arrow keys go from token to token.'), answers);
  return null;
}

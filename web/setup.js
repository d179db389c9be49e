// SPDX-License-Identifier: Apache-2.0
// Setting a run up: the fields of the interface, every further setting of distil from its own table, a check before the start.
import {attempt, bytes, card, duration, el, get, number, pick, post, wide} from '/dom.js';

const MAIN = {
  distil: [
    ['teacher_model_path', 'Teacher', 'the frozen model: a folder or GGUF file', ['model', 'run']],
    ['base_model_path', 'Student', 'empty: a copy of the teacher', ['model', 'run']],
    ['student_adapter_path', 'Start from adapter', 'of a fine-tuning, for example; empty: a new one', ['adapter']],
    ['validation_prompts_path', 'Prompts', 'JSON lines; a fifth is held out', ['prompts']],
  ],
  fine_tune: [
    ['model_path', 'Model', 'what learns', ['model', 'run']],
    ['data_path', 'Data', 'given text, JSON lines; a tenth is held out', ['prompts']],
  ],
};
const NUMBERS = {
  distil: [
    ['num_steps', 'Steps', 'integer'], ['batch_size', 'Batch', 'integer'],
    ['gradient_accumulation_steps', 'Micro-batches', 'integer'], ['learning_rate', 'Learning rate', 'number'],
    ['temperature', 'Temperature of the divergence', 'number'], ['max_prompts', 'Prompts used (0: all)', 'integer'],
    ['max_generation_tokens', 'Longest answer', 'integer'], ['generation_temperature', 'Temperature of the sampler', 'number'],
    ['kl_weight', 'Weight of reverse KL', 'number'], ['ce_weight', 'Weight of cross-entropy', 'number'],
    ['checkpoint_every', 'Checkpoint every', 'integer'], ['eval_every', 'Measure every', 'integer'], ['seed', 'Seed', 'integer'],
  ],
  fine_tune: [
    ['num_steps', 'Steps', 'integer'], ['batch_size', 'Batch', 'integer'],
    ['gradient_accumulation_steps', 'Micro-batches', 'integer'], ['learning_rate', 'Learning rate', 'number'],
    ['checkpoint_every', 'Checkpoint every', 'integer'], ['eval_every', 'Measure every', 'integer'], ['seed', 'Seed', 'integer'],
  ],
};
const SAID = new Set(['teacher', 'student', 'student-adapter', 'prompts', 'steps', 'batch', 'micro-batches', 'learning-rate',
  'temperature', 'max-prompts', 'max-new-tokens', 'sample-temperature', 'save-every', 'evaluate-every', 'seed']);

function field(name, title, help, input) {
  input.id = 'f-' + name;
  input.dataset.field = name;
  const problem = el('span', {class: 'problem', id: 'p-' + name});
  input.setAttribute('aria-describedby', 'p-' + name);
  return el('div', {}, el('label', {for: 'f-' + name}, title, help ? el('span', {class: 'help'}, help) : null), input, problem);
}

function pathField([name, title, help, kinds], value) {
  const input = el('input', {autocomplete: 'off', spellcheck: 'false', value: value || ''});
  const box = field(name, title, help, input);
  box.append(el('div', {class: 'row'}, el('button', {type: 'button', 'aria-label': `Choose: ${title}`, onclick: async () => {
    const path = await pick(kinds);
    if (path) input.value = path;
  }}, 'Choose…')));
  return box;
}

// One setting of distil's own table.
function settingField(s) {
  let input;
  if (s.choices || s.type === 'switch' || s.type === 'choice') {
    const words = s.choices || (s.type === 'switch' ? ['on', 'off'] : ['auto', 'on', 'off']);
    input = el('select', {}, el('option', {value: ''}, `default: ${s.default || '–'}`), words.map((w) => el('option', {value: w}, w)));
  } else {
    input = el('input', {placeholder: s.default, autocomplete: 'off', spellcheck: 'false'});
    if (s.type === 'integer' || s.type === 'number') input.inputMode = 'decimal';
  }
  input.dataset.setting = s.name;
  input.dataset.type = s.type;
  return field('settings.' + s.name, s.name + (s.unit ? ` (${s.unit})` : ''), s.help, input);
}

function readForm(form) {
  const body = {}, settings = {};
  const value = (input, type) => {
    const text = input.value.trim();
    if (type === 'integer' || type === 'number') return Number.isFinite(Number(text)) ? Number(text) : text;
    if (type === 'switch') return text === 'on';
    if (type === 'list') return text.split(/[\s,]+/);
    return text;
  };
  for (const input of form.querySelectorAll('[data-field]')) {
    const text = input.value.trim();
    if (!text) continue;
    if (input.dataset.setting) settings[input.dataset.setting] = value(input, input.dataset.type);
    else body[input.dataset.field] = value(input, input.dataset.kind || 'text');
  }
  if (Object.keys(settings).length) body.settings = settings;
  if (typeof body.tags === 'string') body.tags = body.tags.split(/[\s,]+/);
  return body;
}

function showProblems(form, error) {
  for (const input of form.querySelectorAll('[aria-invalid]')) input.removeAttribute('aria-invalid');
  for (const place of form.querySelectorAll('.problem')) place.textContent = '';
  if (!error || !error.errors) return;
  let first = null;
  for (const problem of error.errors) {
    const input = form.querySelector(`[data-field="${CSS.escape(problem.field)}"]`);
    if (!input) continue;
    input.setAttribute('aria-invalid', 'true');
    document.getElementById(input.getAttribute('aria-describedby')).textContent = problem.message;
    first = first || input;
  }
  if (first) {
    const details = first.closest('details');
    if (details) details.open = true;
    first.focus();
  }
}

function showPlan(place, plan) {
  const memory = Object.entries(plan.memory_bytes).filter(([name]) => name !== 'total');
  place.replaceChildren(el('h2', {}, 'What the run will need'),
      el('div', {class: 'cards'}, card('Memory', bytes(plan.memory_bytes.total)),
          card('Fits', plan.machine.fits ? 'yes' : 'no'), card('This machine has', bytes(plan.machine.memory_bytes)),
          card('All steps, before evaluation', duration(plan.total_seconds)), card('Trained parameters', number(plan.parameters.trained)),
          card('A step', duration(plan.step.training_seconds + plan.step.writing_seconds))),
      el('details', {}, el('summary', {}, 'Memory by part'), wide('Memory by part', el('table', {}, el('tbody', {},
          memory.map(([name, size]) => el('tr', {}, el('th', {scope: 'row'}, name), el('td', {class: 'number'}, bytes(size)))))))));
}

export async function showSetup(main, [kindAsked, ...start]) {
  const [table, presets] = await Promise.all([get('/settings'), get('/presets')]);
  const kind = kindAsked === 'fine_tune' ? 'fine_tune' : 'distil';
  const given = kindAsked === 'from' ? {base_model_path: start[0], student_adapter_path: start[1]} : {};
  const form = el('form', {novalidate: true});
  const plan = el('section', {'aria-live': 'polite'});
  const preset = el('select', {}, el('option', {value: ''}, 'none'),
      presets.presets.map((p) => el('option', {value: p.name}, `${p.name}: ${p.help}`)));
  const numbers = NUMBERS[kind].map(([name, title, type]) => {
    const input = el('input', {inputmode: 'decimal', autocomplete: 'off'});
    input.dataset.kind = type;
    return field(name, title, '', input);
  });
  const text = kind === 'distil' ? [field('use_teacher_targets', 'Who writes the text', '', el('select', {},
      el('option', {value: ''}, 'default'), el('option', {value: 'on'}, 'the teacher'), el('option', {value: 'off'}, 'the student (on-policy)')))] : [];
  for (const box of text) box.querySelector('select').dataset.kind = 'switch';
  const groups = new Map();
  for (const s of table.settings) {
    if (SAID.has(s.name)) continue;
    if (!groups.has(s.group)) groups.set(s.group, []);
    groups.get(s.group).push(settingField(s));
  }
  const send = async (path, done) => {
    showProblems(form, null);
    for (const button of form.querySelectorAll('button')) button.disabled = true;
    try {
      await attempt(async () => {
        try {
          done(await post(path, readForm(form)));
        } catch (error) {
          showProblems(form, error);
          throw error;
        }
      });
    } finally {
      for (const button of form.querySelectorAll('button')) button.disabled = false;
    }
  };
  const check = kind === 'distil' ? el('button', {type: 'button', id: 'check', onclick: () => send('/opd/estimate', (p) => showPlan(plan, p))},
      'Check memory and time') : null;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send(kind === 'distil' ? '/opd/start' : '/opd/fine_tune', (answer) => location.hash = '#/run/' + encodeURIComponent(answer.run_id));
  });
  form.append(
      el('fieldset', {}, el('legend', {}, 'Models and text'), el('div', {class: 'grid'}, MAIN[kind].map((f) => pathField(f, given[f[0]])))),
      el('fieldset', {}, el('legend', {}, 'Training'), el('p', {class: 'help'}, 'Empty fields have the defaults of the preset, else those of distil.'),
          el('div', {class: 'grid'}, field('preset', 'Preset', '', preset), text, numbers)),
      el('fieldset', {}, el('legend', {}, 'For the list of runs'), el('div', {class: 'grid'},
          field('run_id', 'Name', 'default: distil_ and the time', el('input', {autocomplete: 'off'})),
          field('label', 'Label', '', el('input', {autocomplete: 'off'})), field('tags', 'Tags', 'with spaces between', el('input', {autocomplete: 'off'})))),
      el('details', {}, el('summary', {}, 'Every other setting'), [...groups].map(([name, boxes]) =>
          el('fieldset', {}, el('legend', {}, name), el('div', {class: 'grid'}, boxes)))),
      plan, el('div', {class: 'row'}, check, el('button', {class: 'main', id: 'start'}, 'Start')));
  main.append(el('h1', {}, kind === 'distil' ? 'Set up a distillation' : 'Fine-tune first'),
      el('p', {}, kind === 'distil' ? 'A frozen teacher marks every token; the student moves towards it. ' : 'Cross-entropy on given text. Distil the result afterwards. ',
          el('a', {class: 'link', href: kind === 'distil' ? '#/setup/fine_tune' : '#/setup'},
              kind === 'distil' ? 'Fine-tune a model on your own text first' : 'Back to distillation')), form);
}

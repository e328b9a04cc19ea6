/**
 * Signing in and signing up, in one window: who came to book seats should not leave the page. What
 * the server refuses is shown at the field it is about. On a demo instance its accounts are
 * offered.
 */

import { call, fieldName, inWords, Problem } from './api.js';
import { note } from './announce.js';
import { openDialog } from './dialog.js';
import { busyWhile, el, put, refill } from './dom.js';
import { begin } from './session.js';

const FIELDS = {
  name: { label: 'Your name', autocomplete: 'name', maxlength: 200 },
  email: { label: 'E-mail', type: 'email', autocomplete: 'username', maxlength: 254 },
  password: { label: 'Password', type: 'password', maxlength: 128 },
};
const MODES = {
  in: {
    title: 'Sign in',
    path: '/auth/login',
    fields: ['email', 'password'],
    other: 'New here? Create an account',
    secret: 'current-password',
  },
  up: {
    title: 'Create an account',
    path: '/auth/register',
    fields: ['name', 'email', 'password'],
    other: 'You have an account? Sign in',
    secret: 'new-password',
  },
};

/**
 * Opens the window.
 *
 * @param {string} [why] what it is needed for
 * @returns {Promise<boolean>} whether somebody is signed in afterwards
 */
export function signIn(why) {
  return new Promise((resolve) => {
    let done = false;
    const { dialog, body, close } = openDialog('Sign in', {
      class: 'dialog-small',
      onClose: () => resolve(done),
    });
    const finished = (name) => {
      done = true;
      close();
      note(`Welcome, ${name}.`, 'good');
    };
    const show = (mode) => {
      dialog.querySelector('h2').textContent = MODES[mode].title;
      refill(body, why ? el('p', { class: 'muted' }, why) : null, form(mode, show, finished));
      if (mode === 'in') put(body, demo(finished));
      body.querySelector('input').focus();
    };
    show('in');
  });
}

function form(mode, show, finished) {
  const { title, path, fields, other, secret } = MODES[mode];
  const inputs = new Map(fields.map((name) => [name, field(name, secret)]));
  const wrong = el('p', { class: 'field-error', role: 'alert', hidden: true });
  const submit = el('button', { class: 'button button-primary button-wide' }, title);
  const send = async () => {
    clear(inputs, wrong);
    const body = Object.fromEntries([...inputs].map(([name, one]) => [name, one.input.value]));
    try {
      const answer = await call('POST', path, { body, anonymous: true });
      begin(answer);
      finished(answer.user.name);
    } catch (problem) {
      showProblem(problem, inputs, wrong);
    }
  };
  return el(
    'form',
    {
      class: 'stack',
      novalidate: true,
      on: {
        submit: (event) => {
          event.preventDefault();
          busyWhile(submit, send);
        },
      },
    },
    [...inputs.values()].map((one) => one.box),
    wrong,
    submit,
    el(
      'button',
      {
        type: 'button',
        class: 'link-button',
        on: { click: () => show(mode === 'in' ? 'up' : 'in') },
      },
      other,
    ),
  );
}

function field(name, secret) {
  const { label, ...attributes } = FIELDS[name];
  const id = `field-${name}`;
  const more = name === 'password' ? { autocomplete: secret } : {};
  const input = el('input', {
    id,
    name,
    type: 'text',
    required: true,
    'aria-describedby': `${id}-error`,
    ...attributes,
    ...more,
  });
  const hint = name === 'password' && secret === 'new-password' ? ' (at least 8 characters)' : '';
  const error = el('p', { class: 'field-error', id: `${id}-error`, hidden: true });
  const box = el(
    'div',
    { class: 'field' },
    el('label', { for: id }, label, hint ? el('span', { class: 'muted' }, hint) : null),
    input,
    error,
  );
  return { box, input, error };
}

function clear(inputs, wrong) {
  wrong.hidden = true;
  for (const { input, error } of inputs.values()) {
    input.removeAttribute('aria-invalid');
    error.hidden = true;
  }
}

function showProblem(problem, inputs, wrong) {
  let elsewhere = problem instanceof Problem ? problem.errors : [];
  let first = null;
  for (const [name, { input, error }] of inputs) {
    const mine = elsewhere.filter((one) => one.pointer === `/${name}`);
    if (mine.length === 0) continue;
    elsewhere = elsewhere.filter((one) => !mine.includes(one));
    error.textContent = mine.map((one) => `${fieldName(one.pointer)} ${one.detail}.`).join(' ');
    error.hidden = false;
    input.setAttribute('aria-invalid', 'true');
    first ??= input;
  }
  if (!first || elsewhere.length > 0) {
    wrong.textContent = inWords(problem);
    wrong.hidden = false;
  }
  (first ?? inputs.get('email').input).focus();
}

/** The accounts of a demo instance, one click each. Others have no such tags in their pages. */
function demo(finished) {
  const told = (name) => document.querySelector(`meta[name="${name}"]`)?.content;
  const [people, password] = [told('demo-accounts'), told('demo-password')];
  if (!people || !password) return null;
  const wrong = el('p', { class: 'field-error', role: 'alert', hidden: true });
  const buttons = people.split(';').map((line) => {
    const [email, name, what] = line.split('|');
    const enter = async () => {
      try {
        const body = { email, password };
        begin(await call('POST', '/auth/login', { body, anonymous: true }));
        finished(name);
      } catch (problem) {
        wrong.textContent = inWords(problem);
        wrong.hidden = false;
      }
    };
    const button = el(
      'button',
      {
        type: 'button',
        class: 'button demo-account',
        on: { click: () => busyWhile(button, enter) },
      },
      el('strong', {}, name),
      el('span', { class: 'muted' }, what),
    );
    return button;
  });
  return el(
    'section',
    { class: 'demo', 'aria-label': 'Demo accounts' },
    el('p', { class: 'muted' }, 'This is a demo. Come in as one of these:'),
    el('div', { class: 'demo-accounts' }, buttons),
    wrong,
  );
}

// The board, browser side: draws one section of a page and reports what the reader does.
//
// Python sends `section` (a payload of texts, numbers and chart specs, see publish/board.py) and reads `event`.
// Nothing is decided here: an event is only a wish, Python checks it and answers with a new section.
// All text from a payload is set as text, never as HTML.
//
// Each board of a page runs its own copy of this module (anywidget imports it from a blob), so what they share,
// the Vega file, the theme and the revision counts, lives on `window`.

const VEGA_FILE = '/aftersales-vega/vega.mjs';
const THEME_KEY = 'aftersales-theme';
const BUSY_LONGEST = 120_000;
const SVG = 'http://www.w3.org/2000/svg';

const shared = (window.__aftersales ??= { vega: null, revs: new Map(), words: {}, pending: new Set(), count: 0 });

// ------------------------------------------------------------------ small tools

/** An element with attributes, listeners (`onclick`) and children; strings become text nodes. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'selected') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ''));
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** The address if it leads to a page, nothing if it would run a script. */
function safeHref(href) {
  if (!href) return null;
  try {
    return ['http:', 'https:'].includes(new URL(href, location.href).protocol) ? href : null;
  } catch {
    return null;
  }
}

const onOurPage = () => document.body.dataset.aftersalesPage !== undefined;

// ------------------------------------------------------------------ theme

function storedTheme() {
  try {
    return localStorage.getItem(THEME_KEY);
  } catch {
    return null; // private windows may refuse storage
  }
}

/** Light or dark: the reader's choice, else JupyterLab's theme, else the system's. */
function theme() {
  const chosen = onOurPage() ? storedTheme() : null;
  if (chosen) return chosen;
  const lab = document.body.dataset.jpThemeLight;
  if (lab && !onOurPage()) return lab === 'false' ? 'dark' : 'light';
  return document.documentElement.dataset.asTheme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}

function setTheme(next) {
  try {
    localStorage.setItem(THEME_KEY, next);
  } catch {
    // the choice then lasts until the page is left
  }
  document.documentElement.dataset.asTheme = next;
  window.dispatchEvent(new CustomEvent('aftersales:theme'));
}

/** In JupyterLab the charts follow the theme of the Lab. */
function followLab() {
  if (shared.labWatch || onOurPage() || document.body.dataset.jpThemeLight === undefined) return;
  shared.labWatch = new MutationObserver(() => window.dispatchEvent(new CustomEvent('aftersales:theme')));
  shared.labWatch.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light'] });
}

// ------------------------------------------------------------------ Vega

/** Vega from one file of the same origin, which Voila and JupyterLab both serve; once per page. */
function loadVega() {
  shared.vega ??= (() => {
    const node = document.getElementById('jupyter-config-data');
    const config = node ? JSON.parse(node.textContent) : {};
    const base = config.fullLabextensionsUrl || '/voila/labextensions';
    return import(new URL(base + VEGA_FILE, location.href).href);
  })();
  return shared.vega;
}

/** A copy of the spec in the colours of the current look. */
function coloured(spec, look, mode) {
  if (mode === 'light') return structuredClone(spec);
  return JSON.parse(JSON.stringify(spec).replace(/#[0-9a-f]{6}/gi, (hex) => look.swap[hex.toLowerCase()] ?? hex));
}

/** Resolves when the node has a width: a chart that is drawn into nothing stays empty. */
function shown(node) {
  if (node.clientWidth > 0) return Promise.resolve();
  return new Promise((resolve) => {
    const watch = new ResizeObserver(() => {
      if (node.clientWidth === 0) return;
      watch.disconnect();
      resolve();
    });
    watch.observe(node);
  });
}

// ------------------------------------------------------------------ parts that only show

function messageBox(message, word) {
  const serious = message.kind === 'error' || message.kind === 'refused';
  return make(
    'div',
    { class: `as-message as-message-${message.kind}`, role: serious ? 'alert' : 'status' },
    make('strong', {}, message.text),
    message.detail ? make('p', {}, message.detail) : null,
    message.id ? make('p', { class: 'as-small' }, `${word('error_id')} ${message.id}`) : null,
  );
}

function answerBox(answer) {
  return make(
    'div',
    { class: `as-answer as-answer-${answer.tone || 'finding'}` },
    make('p', { class: 'as-answer-text' }, answer.text),
    answer.detail ? make('p', { class: 'as-answer-detail' }, answer.detail) : null,
  );
}

/** The interval as a thin bar on its range, the value as a tick on it. */
function rangeBar([low, value, high, least, most]) {
  const place = (number) => `${Math.max(0, Math.min(100, (100 * (number - least)) / (most - least || 1)))}%`;
  const band = make('span', { class: 'as-range-band' });
  band.style.left = place(low);
  band.style.right = `calc(100% - ${place(high)})`;
  const tick = make('span', { class: 'as-range-tick' });
  tick.style.left = place(value);
  return make('div', { class: 'as-range', 'aria-hidden': 'true' }, band, tick);
}

/** A line without axes; a missing month is a gap. */
function sparkline(numbers) {
  const known = numbers.filter((number) => number !== null);
  if (known.length < 2) return null;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const x = (place) => 2 + (place * 92) / (numbers.length - 1);
  const y = (number) => 24 - (20 * (number - least)) / (most - least || 1);
  let path = '';
  numbers.forEach((number, place) => {
    if (number === null) return;
    const starts = place === 0 || numbers[place - 1] === null;
    path += `${starts ? 'M' : 'L'}${x(place).toFixed(1)} ${y(number).toFixed(1)}`;
  });
  const svg = shape('svg', { viewBox: '0 0 98 28', class: 'as-spark', 'aria-hidden': 'true' });
  svg.append(shape('path', { d: path }));
  const last = numbers.findLastIndex((number) => number !== null);
  svg.append(shape('circle', { cx: x(last), cy: y(numbers[last]), r: 2.5 }));
  return svg;
}

/** The change with an arrow of its sign; the colour tells whether that is the better way. */
function changeLine({ change, better }) {
  const up = /^\s*\+/.test(change);
  const down = /^\s*[-−–]/.test(change);
  if (!up && !down) return make('div', { class: 'as-figure-change' }, change);
  const tone = better ? ((better === 'up') === up ? 'better' : 'worse') : 'none';
  const arrow = make('span', { class: 'as-arrow', 'aria-hidden': 'true' }, up ? '▴ ' : '▾ ');
  return make('div', { class: `as-figure-change as-change-${tone}` }, arrow, change);
}

function figureCard(figure) {
  const href = safeHref(figure.href);
  const known = figure.state === undefined || figure.state === 'ok' || figure.state === 'unripe';
  return make(
    href ? 'a' : 'div',
    { class: `as-figure as-figure-${figure.state || 'ok'}`, href, 'data-key': `figure:${figure.label}` },
    make('div', { class: 'as-figure-label' }, figure.label),
    make(
      'div',
      { class: 'as-figure-main' },
      make(
        'div',
        { class: 'as-figure-value' },
        figure.value ?? '',
        known && figure.unit ? make('span', { class: 'as-figure-unit' }, figure.unit) : null,
      ),
      known && figure.spark ? sparkline(figure.spark) : null,
    ),
    figure.interval ? rangeBar(figure.interval) : null,
    figure.low && figure.high ? make('div', { class: 'as-small' }, `[${figure.low}, ${figure.high}]`) : null,
    figure.change ? changeLine(figure) : null,
    figure.n ? make('div', { class: 'as-small' }, figure.n) : null,
    figure.note ? make('div', { class: 'as-figure-note' }, figure.note) : null,
  );
}

function linkRow(links) {
  const nodes = links.filter((link) => safeHref(link.href)).map((link) => make('a', { href: link.href }, link.text));
  return nodes.length ? make('p', { class: 'as-links' }, nodes) : null;
}

function indexCard(card) {
  const href = safeHref(card.href);
  return make(
    href ? 'a' : 'div',
    { class: `as-card as-index-card as-state-${card.state || 'ok'}`, href, 'data-key': `card:${card.href}` },
    make('h3', {}, card.title),
    card.text ? make('p', {}, card.text) : null,
    card.meta ? make('p', { class: 'as-small' }, card.meta) : null,
  );
}

// ------------------------------------------------------------------ tables

function numberText(value, digits, lang) {
  if (typeof value !== 'number') return value ?? '';
  const places = digits ?? (Number.isInteger(value) ? 0 : 1);
  return value.toLocaleString(lang === 'zh' ? 'zh-CN' : 'en-US', {
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  });
}

function cellText(value, column, lang) {
  if (value === null || value === undefined) return '';
  if (column.kind === 'share') return `${numberText(value * 100, column.digits ?? 1, lang)} %`;
  if (column.kind === 'interval' && Array.isArray(value)) {
    return `[${value.map((side) => numberText(side, column.digits, lang)).join(', ')}]`;
  }
  if (column.kind === 'number' || column.kind === 'bar') return numberText(value, column.digits, lang);
  if (column.kind === 'date') return String(value).slice(0, 10);
  return String(value);
}

function tableCell(value, column, most, lang) {
  const text = cellText(value, column, lang);
  const side = column.align || (['text', 'date'].includes(column.kind) ? 'left' : 'right');
  const cell = make('td', { class: `as-${side} as-kind-${column.kind}` });
  if (column.kind !== 'bar') {
    if (column.kind === 'text' && text.length > 24) cell.title = text;
    cell.textContent = text;
    return cell;
  }
  const bar = make('span', { class: 'as-bar' });
  bar.style.width = `${Math.max(0, (100 * (value || 0)) / (most || 1))}%`;
  cell.append(make('span', { class: 'as-bar-track' }, bar), make('span', { class: 'as-bar-text' }, text));
  return cell;
}

function tableRow(row, table, mosts, lang, send) {
  const node = make('tr', { class: row.selected ? 'as-selected' : null });
  node.append(...table.columns.map((column) => tableCell(row[column.field], column, mosts[column.field], lang)));
  if (!table.filter) return node;
  const value = row[table.filter.field];
  const choose = () => send({ kind: 'toggle', name: table.filter.name, value });
  node.tabIndex = 0;
  node.dataset.key = `row:${table.id}:${value}`;
  node.setAttribute('aria-selected', String(Boolean(row.selected)));
  node.classList.add('as-clickable');
  node.addEventListener('click', choose);
  node.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    choose();
  });
  return node;
}

function tableCard(table, lang, word, send) {
  const mosts = {};
  for (const column of table.columns) {
    if (column.kind === 'bar') mosts[column.field] = Math.max(...table.rows.map((row) => row[column.field] || 0));
  }
  const heads = table.columns.map((column) => {
    const side = column.align || (['text', 'date'].includes(column.kind) ? 'left' : 'right');
    const sorted = column.field === table.sorted;
    return make('th', { class: `as-${side}${sorted ? ' as-sorted' : ''}`, scope: 'col' }, column.title);
  });
  const body = make('tbody', {}, table.rows.map((row) => tableRow(row, table, mosts, lang, send)));
  const total = table.total ?? table.rows.length;
  const count =
    total > table.rows.length
      ? `${numberText(table.rows.length, 0, lang)} / ${numberText(total, 0, lang)} ${word('rows')}`
      : `${numberText(total, 0, lang)} ${word('rows')}`;
  const downloads = (table.downloads || []).map((format) =>
    make(
      'button',
      {
        class: 'as-button as-quiet',
        'data-key': `download:${table.id}:${format}`,
        'aria-label': `${word('download')} ${table.title || table.id} ${format}`,
        onclick: () => send({ kind: 'download', table: table.id, format }),
      },
      `↓ ${format === 'csv' ? 'CSV' : format}`,
    ),
  );
  return make(
    'div',
    { class: 'as-card as-table-card', 'data-table': table.id },
    make(
      'div',
      { class: 'as-table-head' },
      make('h3', {}, table.title || ''),
      make('span', { class: 'as-small' }, count),
      make('span', { class: 'as-downloads' }, downloads),
    ),
    table.rows.length
      ? make(
          'div',
          { class: 'as-table-scroll', 'data-scroll': `table:${table.id}`, tabindex: '0', role: 'region', 'aria-label': table.title || '' },
          make('table', {}, make('thead', {}, make('tr', {}, heads)), body),
        )
      : make('p', { class: 'as-none' }, word('no_rows')),
  );
}

// ------------------------------------------------------------------ the strip: navigation, filters, switches

function choiceControl(control, send) {
  const options = (control.choices || []).map((choice) =>
    make('option', { value: String(choice.value), selected: String(choice.value) === String(control.value ?? '') }, choice.label),
  );
  const values = new Map((control.choices || []).map((choice) => [String(choice.value), choice.value]));
  return make(
    'select',
    {
      'data-key': `control:${control.name}`,
      onchange: (event) => send({ kind: 'set', name: control.name, value: values.get(event.target.value) ?? null }),
    },
    options,
  );
}

function choicesControl(control, word, send) {
  const chosen = new Set((control.value || []).map(String));
  const choices = control.choices || [];
  const report = (event) => {
    const boxes = [...event.target.closest('.as-menu').querySelectorAll('input')];
    const value = choices.filter((_choice, place) => boxes[place].checked).map((choice) => choice.value);
    send({ kind: 'set', name: control.name, value });
  };
  const boxes = choices.map((choice) =>
    make(
      'label',
      { class: 'as-option' },
      make('input', {
        type: 'checkbox',
        checked: chosen.has(String(choice.value)),
        'data-key': `control:${control.name}:${choice.value}`,
        onchange: report,
      }),
      choice.label,
    ),
  );
  const names = choices.filter((choice) => chosen.has(String(choice.value))).map((choice) => choice.label);
  const text = names.length === 0 ? word('all') : names.length < 3 ? names.join(', ') : `${names.length} ${word('chosen')}`;
  return make(
    'details',
    { class: 'as-choices', 'data-open': `choices:${control.name}` },
    make('summary', { 'data-key': `control:${control.name}`, 'aria-label': `${control.label}: ${text}` }, text),
    make('div', { class: 'as-menu' }, boxes),
  );
}

function inputControl(control, send) {
  const flag = control.type === 'flag';
  const type = { date: 'date', month: 'month', number: 'number', flag: 'checkbox' }[control.type] || 'text';
  const read = (input) => {
    if (flag) return input.checked;
    if (control.type === 'number') return input.value === '' ? null : Number(input.value);
    return input.value;
  };
  return make('input', {
    type,
    value: flag ? 'on' : String(control.value ?? ''),
    checked: flag && Boolean(control.value),
    step: control.type === 'number' ? 'any' : null,
    'data-key': `control:${control.name}`,
    onchange: (event) => send({ kind: 'set', name: control.name, value: read(event.target) }),
  });
}

function controlField(control, word, send) {
  const input =
    control.type === 'choice'
      ? choiceControl(control, send)
      : control.type === 'choices'
        ? choicesControl(control, word, send)
        : inputControl(control, send);
  const tag = control.type === 'choices' ? 'div' : 'label';
  return make(
    tag,
    { class: `as-control as-control-${control.type}`, title: control.help || null },
    make('span', { class: 'as-control-label' }, control.label),
    input,
  );
}

async function share(button, word) {
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = word('copied');
  } catch {
    window.prompt(word('share'), location.href); // no clipboard on plain http: let the reader copy
  }
}

function toolButtons(section, word, send) {
  const dark = theme() === 'dark';
  const languages = [
    ['zh', '中文'],
    ['en', 'EN'],
  ].map(([lang, text]) =>
    make(
      'button',
      {
        class: 'as-button as-quiet',
        'data-key': `lang:${lang}`,
        lang,
        'aria-pressed': String(section.lang === lang),
        onclick: () => section.lang === lang || send({ kind: 'lang', value: lang }),
      },
      text,
    ),
  );
  const buttons = [make('span', { class: 'as-languages', role: 'group' }, languages)];
  if (!onOurPage()) return buttons;
  return [
    ...buttons,
    make(
      'button',
      { class: 'as-button as-quiet', 'data-key': 'theme', onclick: () => setTheme(dark ? 'light' : 'dark') },
      word(dark ? 'light' : 'dark'),
    ),
    make('button', { class: 'as-button as-quiet', 'data-key': 'share', onclick: (event) => share(event.target, word) }, word('share')),
  ];
}

function chipRow(chips, word, send) {
  if (!chips.length) return null;
  const buttons = chips.map((chip) =>
    make(
      'button',
      {
        class: 'as-chip',
        'data-key': `chip:${chip.name}:${chip.value}`,
        'aria-label': `${word('remove')}: ${chip.text}`,
        onclick: () => send(chip.value === null ? { kind: 'clear', name: chip.name } : { kind: 'toggle', name: chip.name, value: chip.value }),
      },
      chip.text,
      make('span', { 'aria-hidden': 'true' }, '×'),
    ),
  );
  const all = make('button', { class: 'as-button as-quiet', 'data-key': 'clear', onclick: () => send({ kind: 'clear', name: null }) }, word('clear_all'));
  return make('div', { class: 'as-chips' }, buttons, all);
}

function strip(section, word, send) {
  const links = (section.nav || [])
    .filter((item) => safeHref(item.href))
    .map((item) => make('a', { href: item.href, 'aria-current': item.current ? 'page' : null }, item.title));
  return [
    make(
      'div',
      { class: 'as-top' },
      make('span', { class: 'as-product' }, section.product || ''),
      make('nav', { 'aria-label': word('pages') }, links),
      make('div', { class: 'as-tools' }, toolButtons(section, word, send)),
    ),
    make(
      'div',
      { class: 'as-head' },
      make('h1', {}, section.page_title || section.title || ''),
      section.lead ? make('p', { class: 'as-lead' }, section.lead) : null,
      section.freshness ? make('p', { class: 'as-fresh' }, section.freshness) : null,
    ),
    section.message ? messageBox(section.message, word) : null,
    (section.controls || []).length
      ? make('div', { class: 'as-filters', role: 'search' }, section.controls.map((control) => controlField(control, word, send)))
      : null,
    chipRow(section.chips || [], word, send),
  ];
}

/** What the strip says about the whole document: language, title, address. */
function tellDocument(section) {
  document.documentElement.lang = section.lang === 'zh' ? 'zh-CN' : 'en';
  document.body.dataset.lang = section.lang;
  if (!onOurPage()) return;
  document.title = [section.page_title, section.product].filter(Boolean).join(' · ');
  if (section.query === undefined || section.query === null) return;
  const address = new URL(location.href);
  address.search = section.query;
  history.replaceState(null, '', address);
}

// ------------------------------------------------------------------ charts

/** Charts of one board: each is embedded once and then fed. */
class Charts {
  constructor(look, send, word) {
    Object.assign(this, { look, send, word, held: new Map() });
    this.watch = new ResizeObserver(() => this.resized());
  }

  /** The card of a chart; drawing happens in `draw`, when the card is in the page. */
  card(chart) {
    let held = this.held.get(chart.id);
    if (!held) {
      held = { key: null, view: null, width: 0 };
      held.title = make('h3');
      held.subtitle = make('p', { class: 'as-small' });
      held.plot = make('div', { class: 'as-plot', role: 'img' });
      held.none = make('p', { class: 'as-none' });
      held.node = make('figure', { class: 'as-card as-chart', 'data-chart': chart.id }, held.title, held.subtitle, held.plot, held.none);
      this.held.set(chart.id, held);
    }
    held.chart = chart;
    held.title.textContent = chart.title || '';
    held.subtitle.textContent = chart.subtitle || '';
    held.plot.setAttribute('aria-label', chart.alt || chart.title || '');
    held.none.textContent = chart.rows.length ? '' : this.word('no_rows');
    held.plot.hidden = !chart.rows.length;
    held.node.classList.toggle('as-wide', Boolean(chart.wide));
    return held.node;
  }

  async draw(charts, lang) {
    const kept = new Set(charts.map((chart) => chart.id));
    for (const id of [...this.held.keys()]) if (!kept.has(id)) this.drop(id);
    await Promise.all(charts.filter((chart) => chart.rows.length).map((chart) => this.drawOne(this.held.get(chart.id), lang)));
  }

  async drawOne(held, lang) {
    const { chart } = held;
    const mode = theme();
    const key = JSON.stringify([chart.spec, mode, lang]);
    if (held.key === key && held.view) return this.feed(held);
    await shown(held.plot);
    const { vegaEmbed } = await loadVega();
    held.view?.finalize();
    const spec = coloured(chart.spec, this.look, mode);
    spec.data = { name: 'source', values: structuredClone(chart.rows) };
    held.plot.style.minHeight = `${held.plot.clientHeight}px`; // the card keeps its size while it is drawn anew
    const result = await vegaEmbed(held.plot, spec, {
      actions: false,
      defaultStyle: false,
      renderer: 'canvas', // gradients in SVG vanish after history.replaceState
      mode: 'vega-lite',
      config: this.config(mode, held.plot.clientWidth),
      formatLocale: this.look.number,
      timeFormatLocale: this.look.time[lang] || this.look.time.en,
      tooltip: { disableDefaultStyle: true },
    });
    held.plot.style.minHeight = '';
    held.view = result.view;
    held.key = key;
    held.width = held.plot.clientWidth;
    held.view.addEventListener('click', (_event, item) => this.clicked(held, item));
    this.setSelection(held);
    await held.view.runAsync();
    this.watch.observe(held.plot);
  }

  /** The look, with shorter category names on a narrow card. */
  config(mode, width) {
    const config = structuredClone(this.look[mode]);
    config.axis.labelLimit = Math.round(Math.max(90, Math.min(240, width * 0.4)));
    return config;
  }

  async feed(held) {
    const rows = structuredClone(held.chart.rows);
    held.view.change('source', held.view.changeset().remove(() => true).insert(rows));
    this.setSelection(held);
    await held.view.runAsync();
  }

  setSelection(held) {
    try {
      held.view.signal('sel', held.chart.selected || []);
    } catch {
      // a spec without `sel` shows no selection
    }
  }

  clicked(held, item) {
    const datum = item && item.datum;
    const { filter, filters } = held.chart;
    if (!datum || datum.k === undefined) return;
    if (filters && datum.k2 !== undefined) this.send({ kind: 'toggle_pair', names: filters, values: [datum.k, datum.k2] });
    else if (filter) this.send({ kind: 'toggle', name: filter, value: datum.k });
  }

  /** Vega follows the window only; tell it when a card alone changed. */
  resized() {
    const changed = [...this.held.values()].filter((held) => held.view && held.plot.clientWidth && held.plot.clientWidth !== held.width);
    if (!changed.length) return;
    for (const held of changed) held.width = held.plot.clientWidth;
    requestAnimationFrame(() => window.dispatchEvent(new Event('resize')));
  }

  drop(id) {
    const held = this.held.get(id);
    held.view?.finalize();
    this.watch.unobserve(held.plot);
    held.node.remove();
    this.held.delete(id);
  }

  end() {
    for (const id of [...this.held.keys()]) this.drop(id);
    this.watch.disconnect();
  }
}

// ------------------------------------------------------------------ one board

/** Keeps focus, open menus and scroll positions over a redraw of the parts. */
function keepPlace(root, redraw) {
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = [...root.querySelectorAll('details[open][data-open]')].map((node) => node.dataset.open);
  const scrolls = [...root.querySelectorAll('[data-scroll]')].map((node) => [node.dataset.scroll, node.scrollTop, node.scrollLeft]);
  redraw();
  for (const name of open) {
    const node = root.querySelector(`[data-open="${CSS.escape(name)}"]`);
    if (node) node.open = true;
  }
  for (const [name, top, left] of scrolls) root.querySelector(`[data-scroll="${CSS.escape(name)}"]`)?.scrollTo({ top, left });
  if (key) root.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function sectionParts(section, charts, word, send) {
  const cards = (section.charts || []).map((chart) => charts.card(chart));
  const narrow = (section.charts || []).filter((chart) => !chart.wide);
  // a lone narrow chart takes the row: half an empty row looks broken
  cards.forEach((card, place) => card.classList.toggle('as-alone', narrow.length % 2 === 1 && section.charts[place] === narrow.at(-1)));
  return [
    section.title ? make('h2', {}, section.title) : null,
    section.lead ? make('p', { class: 'as-lead' }, section.lead) : null,
    section.message ? messageBox(section.message, word) : null,
    section.answer ? answerBox(section.answer) : null,
    (section.figures || []).length ? make('div', { class: 'as-figures' }, section.figures.map(figureCard)) : null,
    cards.length ? make('div', { class: 'as-charts' }, cards) : null,
    (section.tables || []).map((table) => tableCard(table, section.lang, word, send)),
    (section.cards || []).length ? make('div', { class: 'as-index' }, section.cards.map(indexCard)) : null,
    linkRow(section.links || []),
  ].flat();
}

function countRevisions(id, rev) {
  if (rev === null) shared.revs.delete(id);
  else shared.revs.set(id, rev);
  document.body.dataset.boardRev = String([...shared.revs.values()].reduce((sum, value) => sum + value, 0));
}

function markBusy(root, id, busy, text) {
  clearTimeout(root.busyTimer);
  if (busy) root.busyTimer = setTimeout(() => markBusy(root, id, false), BUSY_LONGEST); // an answer may never come
  root.classList.toggle('as-busy', busy);
  root.setAttribute('aria-busy', String(busy));
  if (busy) shared.pending.add(id);
  else shared.pending.delete(id);
  document.body.toggleAttribute('data-as-busy', shared.pending.size > 0);
  if (busy) root.dataset.busyText = text;
}

function saveFile(message, buffers) {
  const address = URL.createObjectURL(new Blob(buffers, { type: message.mime }));
  make('a', { href: address, download: message.name }).click();
  URL.revokeObjectURL(address);
}

function render({ model, el }) {
  const id = (shared.count += 1);
  followLab();
  const look = model.get('look');
  const root = make('section', { class: 'as-board' });
  el.append(root);

  const word = (name) => {
    const { lang, words } = model.get('section');
    return words?.[name] ?? shared.words[lang]?.[name] ?? look.words[lang]?.[name] ?? look.words.en[name] ?? name;
  };
  const send = (event) => {
    markBusy(root, id, true, word('busy'));
    model.set('event', { ...event, n: Math.round(performance.timeOrigin + performance.now() * 1000) % 1e12 });
    model.save_changes();
  };
  const charts = new Charts(look, send, word);

  const draw = async () => {
    const section = model.get('section');
    const rev = model.get('rev');
    if (section.words) shared.words[section.lang] = section.words;
    document.documentElement.dataset.asTheme = theme();
    root.dataset.kind = section.kind;
    root.dataset.section = section.id;
    root.lang = section.lang === 'zh' ? 'zh-CN' : 'en';
    keepPlace(root, () => {
      const parts = section.kind === 'strip' ? strip(section, word, send) : sectionParts(section, charts, word, send);
      root.replaceChildren(...parts.filter(Boolean));
    });
    if (section.kind === 'strip') tellDocument(section);
    markBusy(root, id, false);
    window.dispatchEvent(new CustomEvent('aftersales:drawn'));
    await charts.draw(section.charts || [], section.lang);
    root.dataset.drawn = String(rev);
    countRevisions(id, rev);
  };

  // one redraw at a time, and one for several traits that change together
  let waiting = false;
  let last = Promise.resolve();
  const soon = () => {
    if (waiting) return;
    waiting = true;
    last = last.then(async () => {
      await null;
      waiting = false;
      await draw();
    });
    last = last.catch((error) => {
      markBusy(root, id, false);
      console.error('aftersales board', error);
      root.append(messageBox({ kind: 'error', text: word('draw_failed'), detail: String(error.message || error) }, word));
    });
  };
  const received = (message, buffers) => {
    if (message?.kind === 'file') saveFile(message, buffers);
    markBusy(root, id, false);
  };

  model.on('change:section', soon);
  model.on('change:rev', soon);
  model.on('msg:custom', received);
  window.addEventListener('aftersales:theme', soon);
  soon();
  return () => {
    model.off('change:section', soon);
    model.off('change:rev', soon);
    model.off('msg:custom', received);
    window.removeEventListener('aftersales:theme', soon);
    charts.end();
    markBusy(root, id, false);
    countRevisions(id, null);
  };
}

export default { initialize: () => void loadVega().catch(() => {}), render };

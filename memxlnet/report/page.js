"use strict";

// Texts of the data reach the page as text nodes and attributes alone, never as markup. Places count Unicode code
// points, and strings UTF-16 units: a text is taken apart into code points before it is cut.

const data = JSON.parse(document.getElementById("data").textContent);
const search = document.getElementById("search");
const labelFilter = document.getElementById("label");
const verdictFilters = [...document.querySelectorAll("select.verdict")];
const changeFilter = document.getElementById("change");
const order = document.getElementById("order");
const list = document.getElementById("list");
const detail = document.getElementById("detail");

const GOOD = new Set(["correct", "correct: no answer", "exact"]);
const BAD = new Set(["wrong", "missed", "false answer", "dropped", "unreachable"]);
const MIDDLE = new Set(["partly correct", "repaired"]);

// More segments than this have no number in the map, and more have no tokens until one is chosen.
const NUMBERED = 60;
const WITH_TOKENS = 8;

let shown = [];
let current = null;
let segment = null;
let withTokens = false;
let withNBest = true;

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") element.className = value;
    else if (name === "click") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function badge(text) {
  const kind = GOOD.has(text) ? " good" : BAD.has(text) ? " bad" : MIDDLE.has(text) ? " middle" : "";
  return make("span", { class: "badge" + kind }, text);
}

const percent = (share) => (100 * share).toFixed(0);

function change(one) {
  const [first, second] = one.runs.map((run) => (run.score ? run.score.f1 : 0));
  return Math.abs(second - first) < 1e-9 ? "equal" : second > first ? "better" : "worse";
}

// --- the list

const searched = new Map();

function textOf(one) {
  if (!searched.has(one)) {
    const texts = [one.id, one.question, data.contexts[one.context], ...Object.values(one.kept), ...one.golds.map((gold) => gold[0])];
    searched.set(one, [...texts, ...one.runs.map((run) => run.text || "")].join("\n").toLowerCase());
  }
  return searched.get(one);
}

function fits(one) {
  const wanted = search.value.toLowerCase().trim();
  if (wanted && !textOf(one).includes(wanted)) return false;
  if (labelFilter.value && one.label !== labelFilter.value) return false;
  if (verdictFilters.some((filter, number) => filter.value && one.runs[number].verdict !== filter.value)) return false;
  return !changeFilter || !["better", "worse", "equal"].includes(changeFilter.value) || change(one) === changeFilter.value;
}

const ORDERS = {
  worst: () => 0, // as the page holds them
  cache: (one, other) => one.number - other.number,
  segments: (one, other) => other.segments.length - one.segments.length || one.number - other.number,
};

function entry(one) {
  const facts = make("span", { class: "facts" }, badge(one.label));
  for (const run of one.runs) {
    facts.append(badge(run.verdict));
    if (run.verdict === "partly correct") facts.append(make("span", {}, `F1 ${percent(run.score.f1)}`));
  }
  if (one.segments.length > 1) facts.append(make("span", {}, `${one.segments.length} segments`));
  facts.append(make("span", { class: "id" }, one.id));
  const button = make("button", { type: "button", "data-number": one.number, click: () => select(one) });
  button.append(make("span", { class: "question", dir: "auto" }, one.question || "(no question)"), facts);
  return make("li", {}, button);
}

function update() {
  shown = data.documents.filter(fits).sort(ORDERS[order.value]);
  list.replaceChildren(...shown.map(entry));
  if (!shown.length) list.append(make("li", { class: "empty" }, "No document fits. Press Escape to clear the search and the filters."));
  document.getElementById("count").textContent = `${shown.length} of ${data.documents.length} shown`;
  if (shown.includes(current)) mark();
  else select(shown[0] || null);
}

function mark() {
  for (const button of list.querySelectorAll("button")) {
    const chosen = current !== null && button.dataset.number === String(current.number);
    button.setAttribute("aria-current", chosen);
    if (chosen) {
      const top = button.offsetTop - list.offsetTop;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + button.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + button.offsetHeight - list.clientHeight;
    }
  }
}

function select(one) {
  current = one;
  segment = null;
  mark();
  draw();
}

function move(by) {
  if (!shown.length) return;
  const place = shown.indexOf(current);
  select(shown[Math.min(Math.max(place + by, 0), shown.length - 1)]);
  list.querySelector('[aria-current="true"]').focus({ preventScroll: true });
}

// --- one document

function draw() {
  if (!current) {
    detail.replaceChildren(make("p", { class: "note" }, "No document is selected."));
    return;
  }
  const one = current;
  const characters = [...data.contexts[one.context]];
  const facts = make("p", { class: "note" }, `document ${one.number}, `, make("code", {}, one.id), ` - ${factsOf(one)} `, badge(one.label));
  detail.replaceChildren(facts, make("h3", { dir: "auto" }, one.question));
  const kept = Object.entries(one.kept).map(([name, value]) => `${name}: ${value}`);
  if (kept.length) detail.append(make("p", { class: "note kept", dir: "auto" }, kept.join("\n")));
  for (const note of [one.detail, one.contradiction]) if (note) detail.append(make("p", { class: "note" }, note));
  detail.append(make("h4", {}, "Gold answers"), golds(one));
  if (one.runs.length) detail.append(make("h4", {}, "Predictions"), predictions(one));
  detail.append(make("h4", {}, "Context and segments"), segmentMap(one, characters.length), context(one, characters), legend(one));
  const toggle = make("button", { type: "button", id: "tokens", "aria-expanded": withTokens, click: toggleTokens });
  toggle.append(withTokens ? "Hide tokens" : "Show tokens");
  detail.append(make("h4", {}, toggle));
  if (withTokens) detail.append(...tokens(one));
  scrollContext();
}

// Show the chosen segment, or else the answer, where the context is longer than its part of the page.
function scrollContext() {
  const text = detail.querySelector(".context");
  const wanted = segment === null ? text.querySelector(".chosen") : text.querySelector(":scope > :is(span, mark):not(.faded, .start)");
  if (wanted) text.scrollTop = wanted.offsetTop - text.offsetTop - text.clientHeight / 3;
}

function factsOf(one) {
  const many = one.segments.length === 1 ? "1 segment" : `${one.segments.length} segments`;
  return one.step < 0 ? many : `${many}, answer at time step ${one.step}`;
}

function toggleTokens() {
  withTokens = !withTokens;
  draw();
}

function golds(one) {
  const answers = make("ul", { class: "answers" });
  one.golds.forEach(([text, start, stands], number) => {
    const item = make("li", {}, make("span", { class: "text swatch gold", dir: "auto" }, text), make("span", { class: "note" }, `at ${start}${stands ? "" : ", where it does not stand"}`));
    if (number === one.chosen) item.append(badge("chosen"));
    answers.append(item);
  });
  if (one.span && one.golds[one.chosen] && one.span[0] !== one.golds[one.chosen][1]) {
    answers.append(make("li", { class: "note" }, `The chosen one was found at ${one.span[0]} to ${one.span[1]}.`));
  }
  if (!one.golds.length) answers.append(make("li", { class: "note" }, one.label === "unlabelled" ? "It is not known." : "There is none."));
  return answers;
}

function predictions(one) {
  const answers = make("ul", { class: "answers" });
  one.runs.forEach((run, number) => {
    const item = make("li", {}, make("span", { class: "note" }, `${data.runs[number]}:`));
    if (run.text) item.append(make("span", { class: `text swatch run-${number}`, dir: "auto" }, run.text));
    else item.append(run.text === null ? "no prediction" : "no answer");
    item.append(badge(run.verdict));
    if (run.score) item.append(make("span", { class: "note" }, `F1 ${percent(run.score.f1)}`));
    if (run.text && !run.times) item.append(make("span", { class: "note" }, "does not stand in the context"));
    if (run.times > 1) item.append(make("span", { class: "note" }, `stands ${run.times} times; ${run.times > run.places.length ? `the first ${run.places.length} are` : "each is"} marked`));
    answers.append(item);
    if (run.n_best.length) answers.append(nBest(run, number));
  });
  return answers;
}

// The best is marked by its order and its swatch; open it once and it stays open for every document.
function nBest(run, number) {
  const rows = run.n_best.map(([text, probability], place) => {
    const shown = text ? make("span", { class: "text" + (place ? "" : ` swatch run-${number}`), dir: "auto" }, text) : make("span", { class: "note" }, "no answer");
    const bar = make("span", { class: "bar" });
    bar.style.width = `${100 * probability}%`;
    return make("tr", place ? {} : { class: "best" }, make("td", { class: "number" }, String(place + 1)), make("td", { class: "number" }, `${(100 * probability).toFixed(1)} %`), make("td", { class: "share" }, bar), make("td", {}, shown));
  });
  const head = make("tr", {}, ...["", "probability", "", "answer"].map((name, place) => make("th", { scope: "col", class: place < 2 ? "number" : "" }, name)));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const details = make("details", {}, make("summary", {}, `${run.n_best.length} best of ${data.runs[number]}`), make("div", { class: "scroll" }, table));
  details.open = withNBest;
  details.addEventListener("toggle", () => { withNBest = details.open; });
  return make("li", { class: "n-best" }, details);
}

function chooseSegment(number) {
  segment = number;
  draw();
  detail.querySelector('.map button[tabindex="0"]').focus({ preventScroll: true });
}

function moveSegment(by) {
  const next = segment === null ? (by > 0 ? 0 : current.segments.length - 1) : segment + by;
  chooseSegment(Math.min(Math.max(next, 0), current.segments.length - 1));
}

function segmentMap(one, length) {
  const map = make("div", { class: "map", role: "group", "aria-label": "Segments" });
  one.segments.forEach((each, number) => {
    const [start, stop] = each.characters;
    const title = `segment ${number}: row ${each.row}, characters ${start} to ${stop}${each.holds ? ", holds the whole answer" : ""}`;
    const button = make("button", { type: "button", class: (number % 2 ? "odd" : "even") + (one.segments.length > 1 ? "" : " only"), title, "aria-label": title, "aria-pressed": segment === number, tabindex: number === (segment ?? 0) ? 0 : -1, click: () => chooseSegment(segment === number ? null : number) });
    if (one.segments.length <= NUMBERED) button.append(String(number));
    button.style.left = `${(100 * start) / Math.max(length, 1)}%`;
    button.style.width = `${(100 * (stop - start)) / Math.max(length, 1)}%`;
    map.append(button);
  });
  if (one.span) {
    const answer = make("div", { class: "answer", title: "answer" });
    answer.style.left = `${(100 * one.span[0]) / Math.max(length, 1)}%`;
    answer.style.width = `${(100 * (one.span[1] - one.span[0])) / Math.max(length, 1)}%`;
    map.append(answer);
  }
  return map;
}

function spans(one) {
  const found = [];
  one.segments.forEach((each, number) => found.push({ kind: "segment", number, start: each.characters[0], stop: each.characters[1] }));
  one.golds.forEach(([text, start, stands]) => {
    if (stands && start >= 0) found.push({ kind: "gold", start, stop: start + [...text].length });
  });
  if (one.span) found.push({ kind: "chosen", start: one.span[0], stop: one.span[1] });
  one.runs.forEach((run, number) => run.places.forEach(([start, stop]) => found.push({ kind: `run-${number}`, start, stop })));
  return found.filter((each) => each.stop > each.start);
}

function context(one, characters) {
  const text = make("div", { class: "context", dir: "auto", tabindex: "0", role: "region", "aria-label": "Context" });
  const all = spans(one);
  const edges = [...new Set([0, characters.length, ...all.flatMap((each) => [each.start, each.stop])])].sort((a, b) => a - b);
  const begins = [...all].sort((a, b) => a.start - b.start);
  let next = 0;
  let active = [];
  for (let place = 0; place + 1 < edges.length; place++) {
    const start = edges[place];
    active = active.filter((each) => each.stop > start);
    while (next < begins.length && begins[next].start <= start) {
      const each = begins[next++];
      active.push(each);
      if (each.kind === "segment" && each.start === start && one.segments.length > 1) {
        text.append(make("span", { class: "start", "data-segment": each.number, title: `segment ${each.number} begins` }));
      }
    }
    text.append(piece(characters.slice(start, edges[place + 1]).join(""), active));
  }
  return text;
}

function piece(text, active) {
  const kinds = new Set(active.map((each) => each.kind));
  const segments = active.filter((each) => each.kind === "segment").map((each) => each.number);
  const isGold = kinds.has("gold") || kinds.has("chosen");
  const classes = [];
  if (isGold) classes.push("gold");
  else if (segments.length > 1) classes.push("overlap");
  else if (segments.length) classes.push(segments[0] % 2 ? "odd" : "even");
  for (const kind of ["chosen", "run-0", "run-1"]) if (kinds.has(kind)) classes.push(kind);
  if (segment !== null && !segments.includes(segment)) classes.push("faded");
  return make(isGold ? "mark" : "span", { class: classes.join(" ") }, text);
}

function legend(one) {
  const parts = [];
  if (one.segments.length > 1) {
    const kinds = ["even", "odd", "overlap"].flatMap((kind) => [make("span", { class: `swatch ${kind}` }, kind), " "]);
    parts.push(make("span", {}, "segments: ", ...kinds));
  }
  if (one.golds.length) parts.push(make("span", { class: "swatch gold" }, "gold"));
  if (one.span) parts.push(make("span", { class: "swatch gold chosen" }, "chosen gold"));
  one.runs.forEach((run, number) => parts.push(make("span", { class: `swatch run-${number}` }, data.runs[number])));
  return make("p", { class: "legend" }, ...parts);
}

function tokens(one) {
  const chosen = segment === null ? one.segments.map((_, number) => number).slice(0, WITH_TOKENS) : [segment];
  const left = segment === null ? one.segments.length - chosen.length : 0;
  const note = left ? [make("p", { class: "note" }, `The first ${WITH_TOKENS} segments of ${one.segments.length}; choose one above to see its tokens.`)] : [];
  const parts = chosen.flatMap((number) => {
    const each = one.segments[number];
    const title = make("h4", {}, `Segment ${number}, row ${each.row}: ${each.ids.length} tokens, positions ${each.label[0]} to ${each.label[1]}`);
    const row = make("p", { class: "tokens" });
    each.ids.forEach((id, place) => {
      const position = each.first + place;
      const [role, name] = roleOf(each, position);
      const piece = data.vocabulary[id] || `#${id}`;
      row.append(make("span", { class: role, title: `position ${position}, id ${id}, ${name}` }, piece), "\u200b");
    });
    return [title, row];
  });
  return [...note, ...parts];
}

function roleOf(each, position) {
  const within = (start, count) => position >= start && position < start + count;
  const [contextStart, contextCount] = each.context;
  const [questionStart, questionCount] = each.question;
  if (within(contextStart, contextCount)) {
    const answer = each.holds && position >= each.label[0] && position <= each.label[1];
    return answer ? ["answer", "answer"] : ["", "context"];
  }
  if (within(questionStart, questionCount)) return ["question", "question"];
  if (within(questionStart - data.memory, data.memory)) return ["memory", "memory read"];
  if (within(contextStart + contextCount, data.memory)) return ["memory", "memory write"];
  return ["special", "special"];
}

// --- controls

function fill(select, values) {
  for (const value of values) select.append(make("option", { value }, value));
}

function clear() {
  search.value = labelFilter.value = "";
  for (const filter of verdictFilters) filter.value = "";
  if (changeFilter) changeFilter.selectedIndex = 0;
  update();
}

function showOnly(filter, value) {
  clear();
  filter.value = value;
  update();
  document.getElementById("documents").scrollIntoView();
  search.focus({ preventScroll: true });
}

function isTyping(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (shown.length === data.documents.length) document.activeElement.blur();
    clear();
    return;
  }
  if (event.target === search && ["ArrowDown", "Enter"].includes(event.key)) {
    event.preventDefault();
    move(0);
    return;
  }
  if (isTyping(event.target)) return;
  const inside = list.contains(event.target);
  if (event.key === "/") search.focus();
  else if (event.key === "j" || (inside && event.key === "ArrowDown")) move(1);
  else if (event.key === "k" || (inside && event.key === "ArrowUp")) move(-1);
  else if (event.key === "t" && current) toggleTokens();
  else if (current && event.key === "ArrowRight") moveSegment(1);
  else if (current && event.key === "ArrowLeft") moveSegment(-1);
  else return;
  event.preventDefault();
});

const scheme = document.documentElement.style;

function keepTheme(theme) {
  try {
    localStorage.setItem("memxlnet-theme", theme);
  } catch {
    // A page from the disk may have no storage; the theme then lasts as long as the page.
  }
}

document.getElementById("theme").addEventListener("click", () => {
  const isDark = scheme.colorScheme ? scheme.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  scheme.colorScheme = isDark ? "light" : "dark";
  keepTheme(scheme.colorScheme);
});

try {
  scheme.colorScheme = localStorage.getItem("memxlnet-theme") || "";
} catch {
  // Without storage the theme is that of the system.
}

for (const button of document.querySelectorAll("button[data-label]")) {
  button.addEventListener("click", () => showOnly(labelFilter, button.dataset.label));
}
for (const button of document.querySelectorAll("button[data-verdict]")) {
  button.addEventListener("click", () => showOnly(verdictFilters[0], button.dataset.verdict));
}
for (const button of document.querySelectorAll("button[data-change]")) {
  button.addEventListener("click", () => showOnly(changeFilter, button.dataset.change));
}
for (const button of document.querySelectorAll(".examples button[data-number]")) {
  button.addEventListener("click", () => {
    clear();
    select(data.documents.find((one) => String(one.number) === button.dataset.number));
    document.getElementById("documents").scrollIntoView();
  });
}
fill(labelFilter, data.labels.filter((label) => data.documents.some((one) => one.label === label)));
verdictFilters.forEach((filter, number) => fill(filter, data.verdicts.filter((verdict) => data.documents.some((one) => one.runs[number].verdict === verdict))));
search.addEventListener("input", update);
for (const control of [labelFilter, ...verdictFilters, changeFilter]) if (control) control.addEventListener("change", update);
order.addEventListener("change", () => {
  current = null;
  update();
});
update();

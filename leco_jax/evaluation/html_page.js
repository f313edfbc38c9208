// The browser of chains: problems on the left; of the chosen one every round of a method.
//
// What it reads is made by leco_jax/evaluation/chain_browser.py. Places in a text are in code
// points. Texts come from models: they become text nodes, nothing is parsed as HTML.
"use strict";

const PAGE = 100; // problems that are added to the list at a time
const SIGNS = { right: "✓", wrong: "✗", unanswered: "–", failed: "!" };
const FILTERS = ["all", "gained", "lost", "right", "wrong", "unanswered", "failed"];
const ORDERS = {
  "place in the data": () => 0,
  "most tokens": (a, b) => b.tokens - a.tokens,
  "most rounds": (a, b) => b.rounds.length - a.rounds.length,
  "least mass": (a, b) => a.mass - b.mass,
  "weakest step": (a, b) => a.weakest - b.weakest,
};

const $ = (id) => document.getElementById(id);
const passes = (result, filter) => filter === "all" || filter === result.outcome || filter === result.change;

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function browse(data) {
  const form = $("chains").querySelector("form");
  const { method: methodBox, sort: sortBox, query: queryBox, show } = form.elements;
  for (const problem of data.problems) problem.results = {};
  for (const result of data.results) {
    result.rounds = result.rounds.map((round) => ({ ...data.chains[round.chain], ...round }));
    result.tokens = result.rounds.reduce((sum, round) => sum + round.sampled, 0);
    result.mass = Math.max(0, ...result.masses.map(([, mass]) => mass));
    result.weakest = Math.min(9, ...result.rounds.slice(0, 1).flatMap((r) => r.steps.map((s) => s[2])));
    result.problem = data.problems[result.problem];
    result.problem.results[result.method] = result;
  }
  let shown = [];
  let at = 0;
  let later = 0; // the timer that puts the choice into the address

  function list() {
    const own = data.results.filter((result) => result.method === methodBox.value);
    const query = queryBox.value.toLowerCase();
    const found = own.filter(({ problem, answer, rounds }) => !query
      || [problem.id, problem.question, answer ?? "", ...rounds.map((round) => round.text)]
        .some((text) => text.toLowerCase().includes(query)));
    for (const input of $("filters").querySelectorAll("input")) {
      const count = found.filter((result) => passes(result, input.value)).length;
      input.nextSibling.textContent = `${input.value} ${count}`;
    }
    const before = shown[at]?.problem;
    const filter = $("filters").querySelector(":checked").value;
    shown = found.filter((result) => passes(result, filter)).sort(ORDERS[sortBox.value]);
    $("count").textContent = `${shown.length} of ${own.length} problems`;
    $("list").replaceChildren();
    more();
    choose(shown.findIndex((result) => result.problem === before));
  }

  function more() {
    const first = $("list").childElementCount;
    $("list").append(...shown.slice(first, first + PAGE).map((result, i) => {
      const { outcome, change, problem } = result;
      const button = make("button", "", make("span", outcome, `${SIGNS[outcome]} `),
        make("b", change, change && `${change} `), problem.question || problem.id);
      button.title = `${outcome}: ${problem.question}`;
      button.addEventListener("click", () => choose(first + i));
      return make("li", "", button);
    }));
  }

  function choose(index) {
    at = Math.max(0, Math.min(index, shown.length - 1));
    $("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
    if (!shown.length) {
      $("shown").replaceChildren("No problem is like that.");
      return;
    }
    while (at >= $("list").childElementCount) more();
    const button = $("list").children[at].firstChild;
    button.setAttribute("aria-current", "true");
    // Within the list: scrollIntoView would move the page too.
    const [box, place] = [$("list").getBoundingClientRect(), button.getBoundingClientRect()];
    $("list").scrollTop += Math.min(place.top - box.top - 4, 0) + Math.max(place.bottom - box.bottom + 4, 0);
    $("shown").replaceChildren(...details(shown[at]));
    clearTimeout(later); // browsers complain of more than twenty addresses a second
    const address = [methodBox.value, shown[at].problem.id].map(encodeURIComponent).join("/");
    later = setTimeout(() => history.replaceState(null, "", `#${address}`), 300);
  }

  function setMethod(method) {
    methodBox.value = method ?? methodBox.value;
    list();
  }

  function details(result) {
    const { problem, outcome, change, masses, rounds } = result;
    const tabs = data.methods.filter((method) => problem.results[method]).map((method) => {
      const other = problem.results[method];
      const tab = make("button", "", `${method} `, make("span", other.outcome, `${SIGNS[other.outcome]} ${other.answer ?? ""}`));
      tab.setAttribute("aria-pressed", other === result);
      tab.addEventListener("click", () => setMethod(method));
      return tab;
    });
    const facts = [`answer ${result.answer ?? "none"} (${[outcome, change].filter(Boolean).join(", ")})`,
      `gold ${problem.gold ?? "not known"}`, `${result.tokens} tokens`,
      result.error === null ? `ended by: ${result.stopped}` : `failed: ${result.error}`];
    const total = masses.reduce((sum, [, mass]) => sum + mass, 0) || 1;
    const bars = masses.flatMap(([answer, mass]) => {
      const share = `${Math.round((100 * mass) / total)}%`;
      const bar = make("i", "");
      bar.style.width = share;
      return [make("span", answer === problem.gold ? "right" : "", answer), make("span", "", bar),
        make("span", "", `${share} (${mass.toPrecision(2)})`)];
    });
    return [make("h3", "", problem.id), make("p", "", problem.question), make("div", "tabs", ...tabs),
      make("p", "facts", facts.join(" · ")),
      make("p", "facts", bars.length ? "Mass of each answer: the probabilities of its chains" : ""),
      make("div", "mass", ...bars), make("div", "rounds", ...rounds.map((_, i) => column(result, i)))];
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.activeElement.blur();
    if (event.target.matches("input[type=search], select")) return;
    const step = { j: 1, k: -1 }[event.key];
    const turn = { "]": 1, "[": -1 }[event.key];
    if (step) choose(at + step);
    if (turn) setMethod(data.methods[data.methods.indexOf(methodBox.value) + turn]);
    if (event.key === "/") {
      event.preventDefault();
      queryBox.focus();
    }
  });
  methodBox.append(...data.methods.map((method) => new Option(method)));
  sortBox.append(...Object.keys(ORDERS).map((order) => new Option(order)));
  $("filters").append(...FILTERS.map((name) => {
    const input = Object.assign(make("input", ""), { type: "radio", name: "show", value: name });
    input.checked = name === "all";
    return make("label", "", input, make("span", ""));
  }));
  form.addEventListener("input", list);
  form.addEventListener("submit", (event) => event.preventDefault());
  $("list").addEventListener("scroll", () => {
    const { scrollTop, clientHeight, scrollHeight } = $("list");
    if (scrollTop + clientHeight > scrollHeight - 300) more();
  });
  const [method, id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  setMethod(data.methods.find((name) => name === method));
  if (id) choose(shown.findIndex((result) => result.problem.id === id));
}

function column(result, index) {
  const round = result.rounds[index];
  const { gold } = result.problem;
  const known = gold !== null && round.answer !== null;
  const outcome = !known ? "" : round.answer === gold ? "right" : "wrong";
  const chosen = round.answer !== null && round.answer === result.answer;
  return make("section", chosen ? "round chosen" : "round",
    make("h4", "", `${result.independent ? "Sample" : "Round"} ${index + 1} of ${result.rounds.length}: `,
      make("span", outcome, `${round.answer ?? "no answer"} ${SIGNS[outcome] ?? ""}`)),
    make("p", "facts", `${round.sampled} sampled, ${round.kept} kept · log p ${round.sum_logprob?.toFixed(2) ?? "not finite"} · ${round.finish}`),
    ...chain(round, result.independent ? [] : forks(result.rounds, index)));
}

// Where later rounds leave round `index`: [place, text]. Where a step was cut, that says it.
function forks(rounds, index) {
  const found = [];
  for (let later = index + 1; later < rounds.length; later++) {
    if (rounds[later - 1].cut !== null) continue;
    const letters = [...rounds[later].text];
    // The first round with all that was kept and put in, or else (what was put in is new) kept.
    for (const place of rounds[later].spans.toReversed()) {
      const beginning = letters.slice(0, place).join("");
      const origin = rounds.slice(0, later).findIndex((round) => round.text.startsWith(beginning));
      if (origin === index && place) found.push([place, `to ${later + 1}`]);
      if (origin >= 0) break;
    }
  }
  return found;
}

// The steps of a chain, each in the colour of its score; what stands between them as it is.
function chain(round, flags) {
  const letters = [...round.text];
  const [kept, put] = round.spans;
  const nodes = [];
  let done = 0;

  function pieces(from, to) {
    const places = [from, to, kept, put, ...flags.map(([place]) => place), ...round.weak.flatMap((token) => token.slice(0, 2))];
    const ends = [...new Set(places)].filter((place) => from <= place && place <= to).sort((a, b) => a - b);
    return ends.slice(1).flatMap((end, i) => {
      const start = ends[i];
      const weak = round.weak.find((token) => token[0] <= start && end <= token[1]);
      const names = [end <= kept && "kept", kept <= start && end <= put && "put", weak && "weak"];
      const span = make("span", names.filter(Boolean).join(" "), letters.slice(start, end).join(""));
      if (weak) span.title = `probability ${weak[2].toFixed(2)}`;
      return [...flags.filter(([place]) => place === start).map(([, text]) => make("span", "flag", text)), span];
    });
  }

  function between(to) {
    if (letters.slice(done, to).join("").trim()) nodes.push(make("div", "step", ...pieces(done, to)));
  }

  round.steps.forEach(([start, end, score], i) => {
    between(start);
    const step = make("div", i === round.cut ? "step cut" : "step", ...pieces(start, end), make("output", "", score.toFixed(2)));
    if (i === round.cut) step.prepend(make("span", "flag", "cut"));
    step.style.setProperty("--doubtful", Math.min(Math.max(35 * (2 - score), 0), 70));
    nodes.push(step);
    done = end;
  });
  between(letters.length);
  return nodes;
}

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

unpack($("data").textContent).then((data) => {
  browse(data);
  document.documentElement.dataset.ready = Math.round(performance.now());
}).catch((error) => {
  $("shown").textContent = `The chains cannot be shown: ${error.message}`;
  throw error;
});

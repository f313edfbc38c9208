// The browser of chains: problems on the left; of the chosen one every round of a method.
//
// The data, as leco_jax/evaluation/report.py packs them:
//   problems  [id, question, gold]
//   chains    [text, steps [start, end, score], weak tokens [start, end, probability]]
//   results   [problem, method, answer, outcome, change, stopped, error, weakest step's score,
//              tokens, independent, masses [answer, mass], rounds]
//   rounds    [chain, answer, cut, end of kept, end of put in, sampled, kept, finish, log p]
// Places are in characters (code points). Everything becomes a text node: nothing is parsed as HTML.
"use strict";

const PAGE = 100; // problems that are added to the list at a time
const SIGNS = { right: "✓", wrong: "✗", unanswered: "–", failed: "!" };
const FILTERS = {
  all: () => true, gained: (r) => r.change === "gained", lost: (r) => r.change === "lost",
  right: (r) => r.outcome === "right", wrong: (r) => r.outcome === "wrong",
  unanswered: (r) => r.outcome === "unanswered", failed: (r) => r.outcome === "failed",
};
const heaviest = (r) => Math.max(0, ...r.masses.map(([, mass]) => mass));
const ORDERS = {
  "place in the data": () => 0, "most tokens": (a, b) => b.tokens - a.tokens,
  "most rounds": (a, b) => b.rounds.length - a.rounds.length,
  "least mass": (a, b) => heaviest(a) - heaviest(b), "weakest step": (a, b) => a.weakest - b.weakest,
};

const $ = (id) => document.getElementById(id);

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children.filter((child) => child !== null));
  return node;
}

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function browse(data) {
  const form = document.forms[0];
  const { method: methodBox, sort: sortBox, query: queryBox } = form.elements;
  const chains = data.chains.map(([text, steps, weak]) => ({ text, steps, weak }));
  const problems = data.problems.map(([id, question, gold]) => ({ id, question, gold, results: {} }));
  for (const [problem, method, answer, outcome, change, stopped, error, weakest, tokens, independent,
    masses, rounds] of data.results) {
    problems[problem].results[method] = { problem: problems[problem], method, answer, outcome, change,
      stopped, error, weakest, tokens, independent, masses,
      rounds: rounds.map(([chain, own, cut, kept, put, sampled, tokensKept, finish, logprob]) => (
        { ...chains[chain], answer: own, cut, kept, put, sampled, tokensKept, finish, logprob })) };
  }
  let shown = [];
  let at = 0;

  function list() {
    const own = problems.map((p) => p.results[methodBox.value]).filter((r) => r);
    const query = queryBox.value.toLowerCase();
    const found = own.filter((r) => !query || [r.problem.id, r.problem.question, r.answer ?? "",
      ...r.rounds.map((round) => round.text)].some((text) => text.toLowerCase().includes(query)));
    for (const input of form.elements.show) {
      input.nextSibling.textContent = `${input.value} ${found.filter(FILTERS[input.value]).length}`;
    }
    const before = shown[at]?.problem;
    shown = found.filter(FILTERS[form.elements.show.value]).sort(ORDERS[sortBox.value]);
    $("count").textContent = `${shown.length} of ${own.length} problems`;
    $("list").replaceChildren();
    more();
    choose(Math.max(shown.findIndex((r) => r.problem === before), 0));
  }

  function more() {
    const first = $("list").childElementCount;
    $("list").append(...shown.slice(first, first + PAGE).map((r, i) => {
      const button = make("button", "", make("span", r.outcome, SIGNS[r.outcome]), " ",
        r.change ? make("b", r.change, `${r.change} `) : null, r.problem.question || r.problem.id);
      button.type = "button";
      button.title = `${r.outcome}: ${r.problem.question}`;
      button.addEventListener("click", () => choose(first + i));
      return make("li", "", button);
    }));
  }

  function choose(index) {
    at = Math.min(Math.max(index, 0), shown.length - 1);
    while (at >= $("list").childElementCount) more();
    $("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
    const button = $("list").children[at]?.firstChild;
    button?.setAttribute("aria-current", "true");
    if (button) scrollTo(button);
    $("shown").replaceChildren(...(shown[at] ? details(shown[at]) : ["Nothing is found."]));
    if (shown[at]) history.replaceState(null, "", `#${encodeURIComponent(methodBox.value)}/${encodeURIComponent(shown[at].problem.id)}`);
  }

  function scrollTo(button) { // within the list: scrollIntoView would move the page too
    const { top, bottom } = $("list").getBoundingClientRect();
    const place = button.getBoundingClientRect();
    $("list").scrollTop += Math.min(place.top - top - 4, 0) + Math.max(place.bottom - bottom + 4, 0);
  }

  function setMethod(method) {
    if (!method) return;
    methodBox.value = method;
    list();
  }

  function details(result) {
    const { problem } = result;
    const tabs = data.methods.filter((method) => problem.results[method]).map((method) => {
      const r = problem.results[method];
      const tab = make("button", "", `${method} `, make("span", r.outcome, `${SIGNS[r.outcome]} ${r.answer ?? ""}`));
      tab.setAttribute("aria-pressed", method === result.method);
      tab.addEventListener("click", () => setMethod(method));
      return tab;
    });
    const sum = result.masses.reduce((total, [, mass]) => total + mass, 0) || 1;
    const masses = result.masses.flatMap(([answer, mass]) => {
      const bar = make("i", "");
      bar.style.width = `${(100 * mass) / sum}%`;
      return [make("span", answer === problem.gold ? "right" : "", answer), make("span", "", bar),
        make("span", "", `${((100 * mass) / sum).toFixed(0)} % (${mass.toPrecision(2)})`)];
    });
    const facts = [`answer ${result.answer ?? "none"} (${result.outcome}${result.change && `, ${result.change}`})`,
      problem.gold === null ? "no gold" : `gold ${problem.gold}`, `${result.tokens} tokens`,
      result.error === null ? `ended by: ${result.stopped}` : `failed: ${result.error}`];
    return [make("h3", "", problem.id), make("p", "", problem.question), make("div", "tabs", ...tabs),
      make("p", "facts", facts.join(" · ")),
      masses.length ? make("p", "facts", "Mass of each answer, the sum of its chains' probabilities") : "",
      make("div", "mass", ...masses), make("div", "rounds", ...result.rounds.map((_, i) => column(result, i)))];
  }

  function column(result, index) {
    const round = result.rounds[index];
    const { gold } = result.problem;
    const isRight = round.answer !== null && round.answer === gold;
    const title = `${result.independent ? "Sample" : "Round"} ${index + 1} of ${result.rounds.length}: `;
    const sign = round.answer === null ? "" : gold === null ? "" : isRight ? " ✓" : " ✗";
    return make("section", round.answer !== null && round.answer === result.answer ? "round chosen" : "round",
      make("h4", "", title, make("span", isRight ? "right" : gold === null ? "" : "wrong", (round.answer ?? "no answer") + sign)),
      make("p", "facts", `${round.sampled} sampled, ${round.tokensKept} kept · log p ${round.logprob ?? "not finite"} · ${round.finish}`),
      ...chainOf(round, result.independent ? [] : leaving(result.rounds, index)));
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.activeElement.blur();
    if (event.target.matches("input[type=search], select")) return;
    const step = { j: 1, k: -1 }[event.key];
    const turn = { "]": 1, "[": -1 }[event.key];
    if (step) choose(at + step);
    if (turn) setMethod(data.methods[data.methods.indexOf(methodBox.value) + turn]);
    if (event.key === "/") { event.preventDefault(); queryBox.focus(); }
  });
  methodBox.append(...data.methods.map((method) => new Option(method)));
  sortBox.append(...Object.keys(ORDERS).map((order) => new Option(order)));
  for (const name of Object.keys(FILTERS)) {
    const input = make("input", "");
    Object.assign(input, { type: "radio", name: "show", value: name, checked: name === "all" });
    $("filters").append(make("label", "", input, make("span", "")));
  }
  form.addEventListener("input", list);
  form.addEventListener("submit", (event) => event.preventDefault());
  $("list").addEventListener("scroll", () => {
    const { scrollTop, clientHeight, scrollHeight } = $("list");
    if (scrollTop + clientHeight > scrollHeight - 300) more();
  });
  const [method, id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (data.methods.includes(method)) methodBox.value = method;
  list();
  if (id) choose(shown.findIndex((r) => r.problem.id === id));
}

// Where later rounds leave round `index`: [place, name]. LeCo's cuts are steps and stand with these.
function leaving(rounds, index) {
  const flags = [];
  rounds.forEach((round, later) => {
    if (later <= index || rounds[later - 1].cut !== null || !(round.sampled && round.put + round.kept)) return;
    const letters = [...round.text];
    for (const place of [round.put, round.kept]) {
      const origin = rounds.findIndex((r, i) => i < later && r.text.startsWith(letters.slice(0, place).join("")));
      if (origin >= 0) {
        if (origin === index) flags.push([place, `fork ${later + 1}`]);
        return;
      }
    }
  });
  return flags;
}

// The steps of a chain, each in the colour of its score; what stands between them as it is.
function chainOf(round, flags) {
  const letters = [...round.text];
  const nodes = [];
  let done = 0;
  const piece = (from, to) => {
    const places = [from, to, round.kept, round.put, ...flags.map(([place]) => place),
      ...round.weak.flatMap(([start, end]) => [start, end])];
    const ends = [...new Set(places)].filter((p) => p >= from && p <= to).sort((a, b) => a - b);
    return ends.slice(1).flatMap((end, i) => {
      const start = ends[i];
      const weak = round.weak.find(([a, b]) => a <= start && end <= b);
      const names = [end <= round.kept && "kept", start >= round.kept && end <= round.put && "put", weak && "weak"];
      const span = make("span", names.filter((name) => name).join(" "), letters.slice(start, end).join(""));
      if (weak) span.title = `probability ${weak[2]}`;
      return [...flags.filter(([place]) => place === start).map(([, name]) => make("span", "flag", name)), span];
    });
  };
  const between = (to) => {
    if (letters.slice(done, to).join("").trim()) nodes.push(make("div", "step", ...piece(done, to)));
    done = to;
  };
  round.steps.forEach(([start, end, score], i) => {
    between(start);
    const step = make("div", i === round.cut ? "step cut" : "step", i === round.cut ? make("span", "flag", "cut") : null,
      ...piece(start, end), make("output", "", score.toFixed(2)));
    step.style.setProperty("--doubtful", Math.min(Math.max(35 * (2 - score), 0), 70));
    nodes.push(step);
    done = end;
  });
  between(letters.length);
  return nodes;
}

unpack($("data").textContent).then((data) => {
  browse(data);
  document.documentElement.dataset.ready = Math.round(performance.now());
}).catch((error) => {
  $("shown").textContent = `The chains cannot be shown: ${error.message}`;
  throw error;
});

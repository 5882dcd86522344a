import { element, encodeName, number, socket } from "./common.js";

const runs = new Map(), chosen = new Set();
const body = document.querySelector("#runs tbody"), drawn = new Map();
let sort = "written", ascending = false;

const progress = (run) => (run.planned ? Math.min(run.step / run.planned, 1) : 0);
const value = (run) => (sort === "progress" ? progress(run) : run[sort]);

function compareRuns(a, b) {
  const [x, y] = [value(a), value(b)];
  if (x === null || x === undefined) return 1;
  if (y === null || y === undefined) return -1;
  const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return ascending ? order : -order;
}

function row(run) {
  const name = encodeName(run.name);
  const box = element("input", { type: "checkbox", checked: chosen.has(run.name), "aria-label": `Choose ${run.name}` });
  box.onchange = () => { box.checked ? chosen.add(run.name) : chosen.delete(run.name); showChosen(); };
  const share = Math.round(100 * progress(run));
  const bar = element("span", { class: "progress", role: "img", "aria-label": `${share} %` }, element("span", { style: `width:${share}%` }));
  const state = element("td", { class: `state-${run.state}` }, run.problem ? "unreadable" : run.state);
  if (run.problem) state.title = run.problem;
  return element("tr", {},
    element("td", {}, box), element("td", {}, element("a", { href: `/run/${name}` }, run.name)),
    element("td", {}, run.env), element("td", {}, run.preset), element("td", {}, run.variant),
    element("td", {}, number(run.seed)), state, element("td", {}, bar, ` ${share} %`),
    element("td", { class: "n" }, number(run.frames, 0)), element("td", { class: "n" }, number(run.fps, 0)),
    element("td", { class: "n" }, number(run.return)),
    element("td", {}, run.has_agent ? element("a", { href: `/play/${name}` }, "Play") : ""));
}

function show() {
  const words = document.querySelector("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = document.querySelector("#states").value;
  const found = [...runs.values()].filter((run) => {
    const text = `${run.name} ${run.env} ${run.preset} ${run.variant}`.toLowerCase();
    return (!state || run.state === state) && words.every((word) => text.includes(word));
  });
  const rows = found.sort(compareRuns).slice(0, 2000).map((run) => {
    const text = JSON.stringify(run), known = drawn.get(run.name);
    if (known?.text === text) return known.row;
    const made = row(run), focused = known?.row.contains(document.activeElement) ? [...known.row.querySelectorAll("a, input")].indexOf(document.activeElement) : -1;
    if (known?.row.isConnected) known.row.replaceWith(made);
    if (focused >= 0) made.querySelectorAll("a, input")[focused]?.focus();
    drawn.set(run.name, { text, row: made });
    return made;
  });
  // Rows that stay where they are keep the focus, and a click that has begun.
  if (rows.length !== body.children.length || rows.some((each, index) => body.children[index] !== each)) {
    const { activeElement } = document;
    body.replaceChildren(...rows);
    if (activeElement.isConnected) activeElement.focus();
  }
  document.querySelector("#count").textContent = `${number(found.length)} of ${number(runs.size)}`;
  document.querySelector("#empty").hidden = runs.size > 0;
}

function showChosen() {
  const link = document.querySelector("#compare");
  link.setAttribute("aria-disabled", chosen.size < 2);
  link.href = `/compare?${[...chosen].map((name) => `run=${encodeURIComponent(name)}`).join("&")}`;
}

for (const button of document.querySelectorAll("[data-sort]")) {
  button.onclick = () => {
    ascending = sort === button.dataset.sort ? !ascending : true;
    sort = button.dataset.sort;
    for (const each of document.querySelectorAll("#runs th")) each.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", ascending ? "ascending" : "descending");
    show();
  };
}
document.querySelector("#filter").oninput = show;
document.querySelector("#states").onchange = show;
document.querySelector("#filters").onsubmit = (event) => event.preventDefault();

socket("/watch", ({ changed, gone }) => {
  for (const run of changed) runs.set(run.name, run);
  for (const name of gone) { runs.delete(name); chosen.delete(name); }
  show();
}, (state) => { document.querySelector("#state").textContent = state === "open" ? "live" : "The studio does not answer; it is tried again."; });

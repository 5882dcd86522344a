import { chartOptions, colors, element, encodeName, getJson, layout, number } from "./common.js";

const names = new URLSearchParams(location.search).getAll("run");
const runs = await Promise.all(names.map((name) => getJson(`/api/run/${encodeName(name)}`))).catch((error) => {
  document.querySelector("#state").textContent = error.message;
  throw error;
});
const select = document.querySelector("#metric");
const metrics = [...new Set(runs.flatMap((run) => run.metrics))].sort();
select.append(...metrics.map((metric) => element("option", {}, metric)));
select.value = ["eval/return", "episode/return"].find((metric) => metrics.includes(metric)) ?? metrics[0];

const label = (run) => `${run.env} ${run.label}`;
const interpolate = ([x, y], at) => {
  if (!x.length || at < x[0] || at > x[x.length - 1]) return null;
  let index = x.findIndex((each) => each >= at);
  if (index <= 0) return y[0];
  const share = (at - x[index - 1]) / (x[index] - x[index - 1] || 1);
  return y[index - 1] + share * (y[index] - y[index - 1]);
};

async function draw() {
  const metric = select.value, groups = new Map();
  for (const run of runs) {
    const found = (await getJson(`/api/series/${encodeName(run.name)}?metric=${encodeURIComponent(metric)}`))[metric];
    if (found) groups.set(label(run), [...(groups.get(label(run)) ?? []), { run, found }]);
  }
  const lines = [], rows = [];
  [...groups].forEach(([name, members], index) => {
    const color = colors[index % colors.length];
    if (members.length > 1 && document.querySelector("#band").checked) {
      const longest = members.reduce((a, b) => (a.found[0].length >= b.found[0].length ? a : b)).found[0];
      const points = longest.map((at) => members.map((each) => interpolate(each.found, at)).filter((value) => value !== null));
      const mean = points.map((values) => values.reduce((a, b) => a + b, 0) / values.length);
      lines.push({ x: [...longest, ...[...longest].reverse()], y: [...points.map((v) => Math.max(...v)), ...points.map((v) => Math.min(...v)).reverse()], fill: "toself", fillcolor: `${color}33`, line: { width: 0 }, hoverinfo: "skip", showlegend: false });
      lines.push({ x: longest, y: mean, name: `${name} (mean of ${members.length})`, line: { color, width: 2 } });
    } else {
      for (const { run, found } of members) lines.push({ x: found[0], y: found[1], name: members.length > 1 ? `${name} ${run.seed}` : name, line: { color, width: 2 } });
    }
    const last = members.map((each) => each.found[1].at(-1));
    rows.push(element("tr", {}, element("td", {}, name), element("td", {}, members[0].run.env), element("td", { class: "n" }, number(members.length)), element("td", { class: "n" }, number(last.reduce((a, b) => a + b, 0) / last.length))));
  });
  document.querySelector("#compared tbody").replaceChildren(...rows);
  Plotly.react("chart", lines, layout(metric), chartOptions);
}

document.querySelector("#report").href = `/report${location.search}`;
select.onchange = draw;
document.querySelector("#band").onchange = draw;
await draw();

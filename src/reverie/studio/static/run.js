import { chartOptions, colors, element, encodeName, getJson, layout, number, socket } from "./common.js";

const charts = document.querySelector("#charts"), run = charts.dataset.run, name = encodeName(run);
const CHARTS = [
  ["Return", ["eval/return", "episode/return"]], ["Observation loss", ["model/image_loss", "model/vector_loss"]], ["Reward and discount loss", ["model/reward_loss", "model/discount_loss"]],
  ["KL and entropies", ["model/kl", "model/prior_entropy", "model/posterior_entropy"]], ["Policy entropy", ["actor/entropy"]],
  ["Actor and critic", ["actor/loss", "critic/loss"]], ["Imagined", ["imagination/return_mean", "imagination/reward_mean", "critic/value"]],
  ["Held-out episodes", ["validation/loss", "validation/image_loss"]], ["Open-loop error on held-out episodes", ["validation/open_loop_error"]], ["Exploration", ["explore/imagination/reward_mean", "heads/disagreement"]],
  ["Frames a second", ["perf/fps"]], ["Updates a second", ["perf/updates_per_second"]],
];
const PAUSE = 20_000;  // milliseconds between two drawings of all charts, which take processor time from a run on the same machine
let details = null, drawn = Date.now();

async function draw() {
  const wanted = CHARTS.flatMap(([, metrics]) => metrics).filter((metric) => details.metrics.includes(metric));
  const series = await getJson(`/api/series/${name}?${wanted.map((each) => `metric=${encodeURIComponent(each)}`).join("&")}`);
  for (const [title, metrics] of CHARTS) {
    const known = metrics.filter((metric) => series[metric]);
    if (!known.length) continue;
    let place = charts.querySelector(`[data-chart="${title}"]`);
    if (!place) charts.append(place = element("div", { class: "chart", "data-chart": title, role: "img", "aria-label": `${title} over frames` }));
    const lines = known.map((metric, index) => ({
      x: series[metric][0], y: series[metric][1], name: metric, mode: series[metric][0].length < 30 ? "lines+markers" : "lines", line: { color: colors[index], width: 2 },
    }));
    const more = {};
    if (title === "Return") {
      const { lines: levels = {}, curve } = details.references;
      const last = Math.max(...lines.flatMap((line) => line.x));
      if (curve) lines.push({ x: curve[0].filter((x) => x <= last * 1.5), y: curve[1], name: "published DreamerV2", line: { dash: "dot", color: colors[6] } });
      more.shapes = Object.values(levels).map((y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: colors[6], dash: "dash", width: 1 } }));
      more.annotations = Object.entries(levels).map(([text, y]) => ({ xref: "paper", x: 1, xanchor: "right", yanchor: "bottom", y, text, showarrow: false, font: { size: 10 } }));
    }
    Plotly.react(place, lines, layout(title, more), chartOptions);
  }
}

function facts() {
  const shown = {
    Environment: details.env, Preset: details.preset, Variant: details.variant, Seed: details.seed, State: details.problem || details.state,
    Steps: `${number(details.step)} of ${number(details.planned)}`, Frames: number(details.frames), "Frames a second": number(details.fps, 0), "Last return": number(details.return),
  };
  document.querySelector("#facts").replaceChildren(...Object.entries(shown).filter(([, value]) => value !== "" && value !== null)
    .map(([key, value]) => element("div", {}, element("dt", {}, key), element("dd", {}, String(value)))));
}

function fill(selector, rows) {
  document.querySelector(`${selector} tbody`).replaceChildren(...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, String(cell))))));
}

async function load() {
  details = await getJson(`/api/run/${name}`);
  document.querySelector("#play-link").hidden = !details.has_agent;
  document.querySelector("#episodes").hidden = !(details.has_agent && details.has_replay);
  facts();
  fill("#changed", details.changed);
  fill("#settings", details.settings);
  document.querySelector("#messages").hidden = !details.messages.length;
  document.querySelector("#messages pre").textContent = details.messages.join("");
  const videos = details.videos.slice(0, 4);
  document.querySelector("#videos").hidden = !videos.length;
  document.querySelector(".videos").replaceChildren(...videos.map((video) => element("figure", {}, element("img", { src: `/video/${encodeURIComponent(video)}/${name}`, alt: `Open-loop prediction ${video}: truth, model and error`, loading: "lazy" }), element("figcaption", { class: "soft" }, video))));
  document.querySelector("#starts").replaceChildren(...details.starts.map((start) => element("dl", { class: "facts" }, ...Object.entries(start).filter(([, value]) => value !== null).map(([key, value]) => element("div", { class: key }, element("dt", {}, key), element("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))))));
  await draw();
}

async function examine() {
  const button = document.querySelector("#examine"), state = document.querySelector("#examined");
  button.disabled = true;
  state.textContent = "The world model reads its replay; this takes some seconds to a minute …";
  try {
    const found = await getJson(`/api/diagnosis/${name}`);
    document.querySelector("#findings").replaceChildren(...found.findings.map(({ rule, section, severity, seen, means, advice }) => {
      const title = element("b", { class: severity }, severity === "ok" ? section : `${severity}: ${rule}`);
      return element("li", { class: severity }, title, ` ${seen}`, ...[means, advice && `Try: ${advice}`].filter(Boolean).map((text) => element("p", { class: "soft" }, text)));
    }));
    const picture = document.querySelector("#diagnosis-picture");
    picture.src = `data:image/png;base64,${found.picture}`;
    picture.hidden = false;
    state.textContent = `After ${number(found.steps)} steps.`;
  } catch (error) { state.textContent = error.message; }
  button.disabled = false;
}

document.querySelector("#examine").onclick = examine;
load().catch((error) => { document.querySelector("#state").textContent = error.message; });
socket("/watch", ({ changed, gone }) => {
  if (gone.includes(run)) document.querySelector("#state").textContent = "This run is gone.";
  if (details && Date.now() - drawn > PAUSE && changed.some((each) => each.name === run)) { drawn = Date.now(); load().catch(() => {}); }
}, (state) => { document.querySelector("#state").textContent = state === "open" ? "live" : "The studio does not answer; it is tried again."; });

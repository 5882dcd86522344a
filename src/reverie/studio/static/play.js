// A game in the dream of an agent: every state that was seen is kept, so that going back costs nothing.
import { element, encodeName, getJson, number, socket } from "./common.js";

const $ = (selector) => document.querySelector(selector);
const run = $("#play").dataset.run;
let hello = null, meanings = [], nodes = new Map(), current = null, leaf = null, playing = false, waiting = false, saved = null;
let fellBack = false;
let queued = null;  // an action that was clicked while an answer was awaited
let value = [];  // of continuous actions
const pressed = new Set();

// Messages

const connection = socket(`/game/${encodeName(run)}`, receive, (state) => {
  $("#state").textContent = state === "open" ? "The agent is loaded …" : "The studio does not answer; it is tried again.";
  if (state === "lost") { waiting = false; pause(); }
});

function say(text, isError = false) {
  $("#message").textContent = text;
  $("#message").className = isError ? "" : "note";
}

function ask(message) {
  waiting = true;
  say("");
  connection.send(message);
}

function receive(answer) {
  waiting = false;
  follow(answer);
  if (queued !== null && !waiting && current !== null && !answer.error) { const action = queued; queued = null; step(action); }
}

function follow(answer) {
  if (answer.error) {
    say(answer.error, true);
    if (answer.ended) { $("#state").textContent = ""; connection.close(); }
    pause();
    if (hello && current === null && hello.has_replay && !fellBack) {  // no environment here: its recorded episodes are left
      fellBack = true;
      connection.send({ do: "begin", from: "replay" });
    }
    return;
  }
  if (answer.did === "hello") return begin(answer);
  if (answer.did === "begin" || answer.did === "load") {
    nodes = new Map();
    meanings = answer.meanings;
    for (const node of answer.nodes) nodes.set(node.id, node);
    leaf = answer.nodes.at(-1).id;
    lastBegin = answer.begin;
    $("#seed").value = answer.begin.seed;
    showActions();
    const watched = answer.did === "begin" && answer.begin.from === "replay";
    go(watched ? 0 : leaf, answer.begin.from === "env" ? null : "dream");
    if (watched) say("Play shows the episode; go back to a step and act to dream on from there.");
    if (answer.notes?.length) say(answer.notes.join(" "));
  }
  if (answer.did === "step") {
    nodes.set(answer.node.id, answer.node);
    leaf = answer.node.id;
    go(leaf);
    if (answer.node.real?.is_last) { pause(); say("The real episode is over. The dream goes on, or rewind, or begin a new game."); }
  }
  if (answer.did === "episodes") showEpisodes(answer.episodes);
  if (answer.did === "save") saved(answer.file);
  if (answer.did === "record") download(answer.name, Uint8Array.from(atob(answer.data), (letter) => letter.charCodeAt(0)));
}

function begin(answer) {
  const first = hello === null;
  $("#state").textContent = "";
  hello = answer;
  $("#agent").textContent = `${hello.env}, ${hello.checkpoint}, ${number(hello.frames)} frames`;
  $("#new-env").disabled = !hello.has_env;
  $("#new-replay").disabled = !hello.has_replay;
  const link = location.hash.startsWith("#dream=") && first ? decode(location.hash.slice(7)) : null;
  if (link) ask({ do: "load", file: link });
  else if (current !== null && nodes.size) restore();
  else if (hello.has_env) ask({ do: "begin", from: "env", seed: Number($("#seed").value) });
  else if (hello.has_replay) ask({ do: "begin", from: "replay" });
  if (hello.has_replay) setTimeout(() => connection.send({ do: "episodes" }), 300);
}

function restore() {  // the server was started again: it is given the path to play once more
  const path = pathTo(leaf);
  const steps = path.slice(1).filter((node) => node.world !== "recorded").map((node) => [node.action, node.world, node.by]);
  ask({ do: "load", file: { format: "reverie-dream-1", run: hello.run, checkpoint: hello.checkpoint, begin: lastBegin, settings: settings(), steps } });
}

let lastBegin = { from: "env", seed: 0 };
function start(message) { pause(); ask({ do: "begin", ...message }); }

// The tree

function pathTo(id) {
  const path = [];
  for (let node = nodes.get(id); node; node = nodes.get(node.parent)) path.push(node);
  return path.reverse();
}

function go(id, world = null) {
  current = id;
  if (world) document.querySelector(`[name=world][value=${world}]`).checked = true;
  show();
}

const chosen = (name) => document.querySelector(`[name=${name}]:checked`).value;

function step(action) {
  const node = nodes.get(current);
  const ended = !node.real || node.real.is_last;
  const world = ended ? "dream" : chosen("world");
  ask({ do: "step", node: current, world, ...(action === undefined ? {} : { action }) });
}

// Input

const ARROWS = { ArrowUp: "UP", ArrowDown: "DOWN", ArrowLeft: "LEFT", ArrowRight: "RIGHT", " ": "FIRE", w: "UP", s: "DOWN", a: "LEFT", d: "RIGHT" };
const LETTERS = { U: "UP", D: "DOWN", L: "LEFT", R: "RIGHT", F: "FIRE", N: "NOOP" };

function actionNames() {
  const size = hello.action.sizes[0];
  if (meanings.length === size) return meanings.map((name) => LETTERS[name.toUpperCase()] ?? name.toUpperCase());
  if (size === 2) return ["LEFT", "RIGHT"];
  return [...Array(size).keys()].map(String);
}

function keyedAction() {  // undefined where no key is held and there is no action for that
  const names = actionNames(), held = new Set([...pressed].map((key) => ARROWS[key]).filter(Boolean));
  const digit = [...pressed].find((key) => /^[0-9]$/.test(key) && Number(key) < names.length);
  if (digit !== undefined) return Number(digit);
  const noop = names.indexOf("NOOP");
  if (!held.size) return noop >= 0 ? noop : undefined;
  let best, most = 0;
  names.forEach((name, index) => {
    const parts = ["UP", "DOWN", "LEFT", "RIGHT", "FIRE"].filter((part) => name.includes(part));
    const matched = parts.filter((part) => held.has(part)).length;
    if (parts.length && matched === parts.length && matched > most) { best = index; most = matched; }
  });
  return best ?? (noop >= 0 ? noop : undefined);
}

const acting = () => chosen("player") === "policy" || [...pressed].some((key) => key in ARROWS || /^[0-9]$/.test(key));

function continuousAction() {
  const size = hello.action.sizes[0], pad = navigator.getGamepads?.().find(Boolean);
  return [...Array(size).keys()].map((index) => {
    if (pad && Math.abs(pad.axes[index] ?? 0) > 0.1) return Math.max(-1, Math.min(1, pad.axes[index]));
    const [low, high] = index === 0 ? ["ArrowLeft", "ArrowRight"] : index === 1 ? ["ArrowDown", "ArrowUp"] : [];
    if (pressed.has(high)) return 1;
    if (pressed.has(low)) return -1;
    return value[index] ?? 0;
  });
}

function personAction() {
  if (hello.action.kind === "continuous") return continuousAction();
  if (hello.action.sizes.length > 1) return hello.action.sizes.map((_, index) => value[index] ?? 0);
  return keyedAction();
}

function showActions() {
  const place = $("#actions");
  if (hello.action.kind === "discrete" && hello.action.sizes.length === 1) {
    place.replaceChildren(...actionNames().map((name, index) => {
      const button = element("button", { type: "button" }, meanings[index] && meanings[index].length > 1 ? meanings[index].toLowerCase() : name.toLowerCase());
      button.onclick = () => { if (waiting) queued = index; else step(index); };
      return button;
    }));
    $("#keys").textContent = "Arrow keys or WASD and space, or the numbers 0 to 9; P plays and pauses, N one step, B back, M forward. Without a key, time stands still where there is no action for it.";
  } else {
    const continuous = hello.action.kind === "continuous";
    const labels = continuous ? [...Array(hello.action.sizes[0]).keys()] : hello.action.sizes;
    place.replaceChildren(...labels.map((size, index) => {
      const slider = element("input", { type: "range", min: continuous ? -1 : 0, max: continuous ? 1 : size - 1, step: continuous ? 0.05 : 1, value: 0 });
      slider.oninput = () => { value[index] = Number(slider.value); };
      return element("label", {}, `Action ${index + 1} `, slider);
    }));
    $("#keys").textContent = "Sliders, arrow keys for the first two, or a gamepad; P plays and pauses, N one step, B back, M forward.";
  }
}

addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=radio]):not([type=checkbox]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const onControl = event.target.matches("button, summary, input, .button");
  if (event.key === " " && onControl && event.target !== $("#pause")) return;
  if (event.key.startsWith("Arrow") && event.target.matches("input[type=range], input[type=radio]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in ARROWS || /^[0-9]$/.test(key)) { pressed.add(key); event.preventDefault(); }
  else if (key === "p") toggle();
  else if (key === "n") one();
  else if (key === "b") back();
  else if (key === "m") forward();
});
addEventListener("keyup", (event) => pressed.delete(event.key.length === 1 ? event.key.toLowerCase() : event.key));
addEventListener("blur", () => pressed.clear());

// Playing

function toggle() { playing ? pause() : resume(); }
function resume() { playing = true; $("#pause").textContent = "Pause"; $("#pause").setAttribute("aria-pressed", "true"); }
function pause() { playing = false; $("#pause").textContent = "Play"; $("#pause").setAttribute("aria-pressed", "false"); }
function one() { pause(); if (!waiting && current !== null) step(chosen("player") === "policy" ? undefined : personAction() ?? 0); }
function back() { pause(); const parent = nodes.get(current)?.parent; if (parent !== null && parent !== undefined) go(parent); }
function forward() { pause(); const path = pathTo(leaf), next = path[path.findIndex((node) => node.id === current) + 1]; if (next) go(next.id); }

let last = 0;
function tick(now) {
  requestAnimationFrame(tick);
  const wanted = 1000 / Number($("#fps").value);
  if (!playing || waiting || current === null || now - last < wanted - 2) return;
  const path = pathTo(leaf), next = path[path.findIndex((node) => node.id === current) + 1];
  if (next?.world === "recorded" && !acting()) { last = now; go(next.id); return; }
  if (next === undefined && nodes.get(current).world === "recorded" && !acting()) { pause(); return; }
  if (chosen("player") === "policy") { last = now; step(); return; }
  const action = personAction();
  if (action !== undefined) { last = Math.max(now - wanted, last + wanted); if (now - last > wanted) last = now; step(action); }
}
requestAnimationFrame(tick);

// Drawing

const picture = new Image(), realPicture = new Image();

function draw(canvas, image, found) {
  const data = Object.values(found?.images ?? {})[0];
  canvas.hidden = !data;
  if (!data) return;
  image.onload = () => { canvas.width = image.width; canvas.height = image.height; canvas.getContext("2d").drawImage(image, 0, 0); };
  image.src = `data:image/png;base64,${data}`;
}

function drawVectors(place, found, other, color) {
  const bars = Object.entries(found?.vectors ?? {});
  place.replaceChildren(...bars.map(([key, values]) => {
    const top = Math.max(1e-6, ...values.map(Math.abs), ...(other?.vectors?.[key] ?? []).map(Math.abs)), width = 100 / values.length;
    const shapes = values.map((value, index) => {
      const height = 48 * Math.abs(value) / top;
      return `<rect x="${index * width + 0.1 * width}" y="${value >= 0 ? 50 - height : 50}" width="${0.8 * width}" height="${height}" fill="${color}"/>`;
    }).join("");
    const drawn = new DOMParser().parseFromString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" preserveAspectRatio="none" role="img"><line x1="0" x2="100" y1="50" y2="50" stroke="currentColor" stroke-width="0.3"/>${shapes}</svg>`, "image/svg+xml").documentElement;
    drawn.setAttribute("aria-label", `${key}: ${values.map((each) => number(each)).join(", ")}`);
    return element("div", {}, `${key} `, element("span", { class: "soft" }, values.slice(0, 8).map((each) => number(each)).join(", ")), drawn);
  }));
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const LINES = [
  ["Predicted reward", (node) => node.dream.reward, "#E69F00"], ["Reward", (node) => node.real?.reward ?? node.recorded?.reward, "#0072B2"],
  ["Value", (node) => node.dream.value, "#009E73"], ["Continues", (node) => node.dream.continues, "#999999"],
  ["Divergence", (node) => node.divergence, "#CC79A7"], ["Surprise", (node) => node.real?.surprise ?? node.recorded?.surprise, "#D55E00"],
];

function drawLines(path, at) {
  const canvas = $("#lines"), scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale; canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const shown = path.slice(-300), row = height / LINES.length, x = (index) => 4 + (width - 8) * index / Math.max(shown.length - 1, 1);
  const texts = [];
  LINES.forEach(([name, read, color], line) => {
    const values = shown.map(read), known = values.filter((each) => each !== undefined);
    const low = Math.min(...known, 0), high = Math.max(...known, 1e-6), y = (each) => row * (line + 1) - 5 - (row - 10) * (each - low) / (high - low || 1);
    pen.strokeStyle = style("--line"); pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(0, row * (line + 1) - 1); pen.lineTo(width, row * (line + 1) - 1); pen.stroke();
    pen.strokeStyle = color; pen.lineWidth = 2; pen.beginPath();
    let drawing = false;
    values.forEach((each, index) => {
      if (each === undefined) { drawing = false; return; }
      drawing ? pen.lineTo(x(index), y(each)) : pen.moveTo(x(index), y(each));
      drawing = true;
    });
    pen.stroke();
    const now = read(nodes.get(at));
    const mark = element("i", { style: `border-color:${color}` });
    texts.push(element("span", {}, mark, `${name} ${now === undefined ? "–" : number(now, name === "Divergence" ? 4 : 2)}`));
  });
  const index = shown.findIndex((node) => node.id === at);
  if (index >= 0) { pen.strokeStyle = style("--ink"); pen.lineWidth = 1; pen.beginPath(); pen.moveTo(x(index), 0); pen.lineTo(x(index), height); pen.stroke(); }
  $("#legend").replaceChildren(...texts);
}

function drawPolicy(node) {
  const discrete = hello.action.kind === "discrete", names = discrete && hello.action.sizes.length === 1 ? actionNames() : node.dream.policy.map((_, index) => `${index + 1}`);
  $("#policy").replaceChildren(...node.dream.policy.flatMap((share, index) => [
    element("span", {}, (meanings[index]?.length > 1 ? meanings[index] : names[index] ?? "").toLowerCase()),
    element("b", { style: `width:${100 * Math.abs(share)}%` }), element("span", {}, number(share)),
  ]));
}

function drawLatent(node) {
  const { latent, classes } = node.dream, canvas = $("#latent");
  canvas.closest("div").hidden = !classes;
  if (!classes) return;
  canvas.width = classes; canvas.height = latent.length;
  const pen = canvas.getContext("2d");
  pen.fillStyle = style("--shade"); pen.fillRect(0, 0, classes, latent.length);
  pen.fillStyle = style("--accent");
  latent.forEach((each, index) => pen.fillRect(each, index, 1, 1));
}

function show() {
  const node = nodes.get(current), path = pathTo(leaf), truth = node.real ?? node.recorded;
  draw($("#dream"), picture, node.dream);
  draw($("#real"), realPicture, truth);
  drawVectors($("#dream-vectors"), node.dream, truth, style("--dream"));
  drawVectors($("#real-vectors"), truth, node.dream, style("--real"));
  $("#real-title").textContent = node.recorded ? "Recorded" : "Reality";
  $("#real-screen").style.visibility = truth ? "visible" : "hidden";
  $("#real-note").textContent = truth?.is_last ? "the episode is over" : "";
  $("#dream-note").textContent = node.dream.continues < 0.5 ? "the model expects the end" : "";
  $("#path").max = path.length - 1;
  $("#path").value = path.findIndex((each) => each.id === current);
  $("#depth").textContent = `${node.depth} of ${path.length - 1}`;
  const parents = new Set([...nodes.values()].map((each) => each.parent));
  const leaves = [...nodes.values()].filter((each) => !parents.has(each.id));
  if ($("#branches").length !== leaves.length || Number($("#branches").value) !== leaf) {
    $("#branches").replaceChildren(...leaves.map((each, index) => element("option", { value: each.id, selected: each.id === leaf }, `${index + 1}: ${each.depth} steps, value ${number(each.dream.value)}`)));
  }
  drawLines(path, current);
  drawPolicy(node);
  drawLatent(node);
}

// Buttons

const settings = () => ({
  temperature: Number($("#temperature").value), deterministic: $("#deterministic").checked, policy_mode: $("#sample").checked ? "sample" : "mode", policy_temperature: Number($("#policy-temperature").value),
});
for (const id of ["temperature", "deterministic", "sample", "policy-temperature"]) $(`#${id}`).onchange = () => connection.send({ do: "settings", ...settings() });
for (const slider of document.querySelectorAll("details input[type=range]")) slider.oninput = () => { slider.nextElementSibling.textContent = slider.value; };
$("#pause").onclick = toggle;
$("#one").onclick = one;
$("#back").onclick = back;
$("#forward").onclick = forward;
$("#path").oninput = () => { pause(); go(pathTo(leaf)[Number($("#path").value)].id); };
$("#branches").onchange = () => { pause(); leaf = Number($("#branches").value); go(leaf); };
$("#new-env").onclick = () => start({ from: "env", seed: Number($("#seed").value) });
$("#new-replay").onclick = () => start({ from: "replay", seed: Number($("#seed").value), episode: Number($("#episode").value) });
for (const id of ["gif", "mp4"]) $(`#${id}`).onclick = () => { pause(); ask({ do: "record", node: current, format: id }); };

function showEpisodes(episodes) {
  $("#episode").replaceChildren(...episodes.map((each) => element("option", { value: each.number }, `${each.number}: ${each.length} steps, return ${number(each.return)}`)));
  $("#new-replay").disabled = !episodes.length;
}

function download(name, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content])), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

$("#save").onclick = () => {
  saved = (file) => download(`${hello.run}-dream.json`, JSON.stringify(file));
  ask({ do: "save", node: current });
};
$("#link").onclick = () => {
  saved = async (file) => {
    location.hash = `dream=${encode(file)}`;
    try { await navigator.clipboard.writeText(location.href); $("#state").textContent = "The link is copied."; }
    catch { $("#state").textContent = "The link is in the address line."; }
  };
  ask({ do: "save", node: current });
};
$("#open").onchange = async () => {
  try { ask({ do: "load", file: JSON.parse(await $("#open").files[0].text()) }); }
  catch { say("The file is not a saved dream.", true); }
  $("#open").value = "";
};
const encode = (file) => btoa(JSON.stringify(file)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
function decode(text) {
  try { return JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/"))); }
  catch { say("The link is damaged; a new game begins.", true); return null; }
}
addEventListener("resize", () => current !== null && show());

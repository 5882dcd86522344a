// A game in the dream of an agent: every state that was seen is kept, so that going back costs nothing.
import { element, encodeName, number, pack, socket, style, unpack } from "./common.js";
import { drawImage, drawLatent, drawLines, drawPolicy, drawVectors } from "./draw.js";

const $ = (selector) => document.querySelector(selector);
const run = $("#play").dataset.run;
let hello = null, meanings = [], nodes = new Map(), current = null, leaf = null, playing = false, saved = null;
let fellBack = false, notice = "", restoring = false, begunWith = null;
let queued = null;  // an action that was clicked while an answer was awaited
let held = null, wasHeld = false;  // an action whose button is held down, and whether a step has taken it
const release = () => { held = null; };
for (const event of ["pointerup", "pointercancel", "blur"]) addEventListener(event, release);
let value = [];  // of continuous actions
const pressed = new Set();

// Messages: each is answered once, in order, and the game waits for most of them

const sent = [];  // whether the game waits, for each message without an answer
const waiting = () => sent.some(Boolean);
const connection = socket(`/game/${encodeName(run)}`, receive, (state) => {
  $("#state").textContent = state === "open" ? "The agent is loaded …" : "The studio does not answer; it is tried again.";
  sent.length = 0;
  if (state === "lost") pause();
});

function say(text, isError = false) {
  $("#message").textContent = text;
  $("#message").className = isError ? "" : "note";
}

function send(message, waits = false) {
  if (connection.send(message) !== false) sent.push(waits);
}

function ask(message) {
  say("");
  send(message, true);
}

function receive(answer) {
  if (answer.did !== "hello") sent.shift();
  follow(answer);
  if (queued !== null && !waiting() && current !== null && !answer.error) { const action = queued; queued = null; step(action); }
}

function follow(answer) {
  if (answer.error) {
    queued = null;
    say(answer.error, true);
    if (answer.ended) { $("#state").textContent = ""; connection.close(); }
    pause();
    if (hello && current === null && hello.has_replay && !fellBack) {  // no environment here: its recorded episodes are left
      fellBack = true;
      send({ do: "begin", from: "replay" }, true);
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
    begunWith = hello.checkpoint;
    restoring = false;
    queued = null;
    document.querySelector(".controls").inert = false;
    $("#seed").value = answer.begin.seed;
    showActions();
    showSettings(answer.settings);
    lastSettings = answer.begun;
    const watched = answer.did === "begin" && answer.begin.from === "replay";
    go(watched ? 0 : leaf, answer.begin.from === "env" ? null : "dream");
    if (watched) document.querySelector("[name=player][value=person]").checked = true;
    if (watched) say("Play shows the episode; go back to a step and act to dream on from there.");
    if (answer.notes?.length) say(answer.notes.join(" "));
    if (notice) { say(notice, true); notice = ""; }
  }
  if (answer.did === "step") {
    nodes.set(answer.node.id, answer.node);
    const stayed = current === answer.node.parent;  // or one has gone elsewhere since
    if (stayed || leaf === answer.node.parent) leaf = answer.node.id;
    if (!stayed) { show(); return; }
    go(leaf);
    if (answer.node.real?.is_last) { pause(); say("The real episode is over. The dream goes on, or rewind, or begin a new game."); }
  }
  if (answer.did === "settings") showSettings(answer.settings);
  if (answer.did === "episodes") showEpisodes(answer.episodes);
  if (answer.did === "save") saved(answer.file);
  if (answer.did === "record") download(answer.name, Uint8Array.from(atob(answer.data), (letter) => letter.charCodeAt(0)));
}

async function begin(answer) {
  $("#state").textContent = "";
  hello = answer;
  $("#agent").textContent = `${hello.env}, ${hello.checkpoint}, ${number(hello.frames)} frames`;
  $("#new-env").disabled = !hello.has_env;
  $("#new-replay").disabled = !hello.has_replay;
  const isLink = location.hash.startsWith("#dream=") && current === null, link = isLink ? await unpack(location.hash.slice(7)) : null;
  if (isLink && !link) notice = "The link is damaged; a new game begins.";
  if (link) ask({ do: "load", file: link });
  else if (current !== null && nodes.size && !restoring) restore();
  else if (hello.has_env && !(location.hash === "#episodes" && hello.has_replay)) ask({ do: "begin", from: "env", seed: Number($("#seed").value) });
  else if (hello.has_replay) ask({ do: "begin", from: "replay" });
  else say("This agent has no environment on this machine and no replay, so that no game can begin. Open a saved dream, or name an environment: reverie play RUN --env ID.", true);
  if (hello.has_replay) send({ do: "episodes" });
}

function restore() {  // the server was started again: it is given the path to play once more, and only once
  restoring = true;
  const path = pathTo(leaf), played = path.filter((node) => node.settings);
  const steps = played.map((node, index) => {
    const before = index ? played[index - 1].settings : lastSettings;
    return [node.action, node.world, node.by, ...(JSON.stringify(node.settings) === JSON.stringify(before) ? [] : [node.settings])];
  });
  const begin = lastBegin.from === "replay" ? { ...lastBegin, step: lastBegin.first + path.length - played.length - 1 } : lastBegin;
  const others = [...nodes.values()].filter((node) => node.settings).length > played.length;
  if (others) notice = "The studio was started again. This branch is as it was; the others are gone.";
  ask({ do: "load", file: { format: "reverie-dream-1", run: hello.run, checkpoint: begunWith, begin, settings: lastSettings, steps } });
}

let lastBegin = { from: "env", seed: 0 }, lastSettings = {};
function start(message) { pause(); queued = null; ask({ do: "begin", ...message }); }

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
// Parts of the names of actions that keys stand for: Atari's, MinAtar's letters, MiniGrid's and Crafter's words.
const LETTERS = { U: "UP", D: "DOWN", L: "LEFT", R: "RIGHT", F: "FIRE", N: "NOOP", FORWARD: "UP", TOGGLE: "FIRE", DO: "FIRE" };

function actionNames() {
  const size = hello.action.sizes[0];
  if (meanings.length === size) return meanings.map((name) => LETTERS[name.toUpperCase()] ?? name.toUpperCase());
  if (size === 2) return ["LEFT", "RIGHT"];
  return [...Array(size).keys()].map(String);
}

const shownName = (index, name) => (meanings[index]?.length > 1 ? meanings[index] : name).toLowerCase();

function policyNames(shares) {
  const names = hello.action.kind === "discrete" && hello.action.sizes.length === 1 ? actionNames() : shares.map((_, index) => `${index + 1}`);
  return names.map((name, index) => shownName(index, name));
}

function keyedAction() {  // undefined where no key is held and there is no action for that
  if (held !== null) { wasHeld = true; return held; }
  const names = actionNames(), keys = new Set([...pressed].map((key) => ARROWS[key]).filter(Boolean));
  const digit = [...pressed].find((key) => /^[0-9]$/.test(key) && Number(key) < names.length);
  if (digit !== undefined) return Number(digit);
  const noop = names.indexOf("NOOP");
  if (!keys.size) return noop >= 0 ? noop : undefined;
  let best, most = 0;
  names.forEach((name, index) => {
    const parts = ["UP", "DOWN", "LEFT", "RIGHT", "FIRE"].filter((part) => name.includes(part));
    const matched = parts.filter((part) => keys.has(part)).length;
    if (parts.length && matched === parts.length && matched > most) { best = index; most = matched; }
  });
  return best ?? (noop >= 0 ? noop : undefined);
}

const acting = () => chosen("player") === "policy" || held !== null || [...pressed].some((key) => key in ARROWS || /^[0-9]$/.test(key));

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
  value = [];
  if (hello.action.kind === "discrete" && hello.action.sizes.length === 1) {
    place.replaceChildren(...actionNames().map((name, index) => {
      const button = element("button", { type: "button" }, shownName(index, name));
      button.onpointerdown = (event) => { if (event.button === 0) { held = index; wasHeld = false; } };
      button.onpointerleave = release;
      button.onclick = (event) => {
        if (playing && event.detail && wasHeld) { wasHeld = false; return; }  // the game has taken it already
        if (waiting()) queued = index; else step(index);
      };
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
    $("#keys").textContent = `Sliders${continuous ? ", arrow keys for the first two, or a gamepad" : ""}; P plays and pauses, N one step, B back, M forward.`;
  }
}

addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=radio]):not([type=checkbox]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const onControl = event.target.matches("button, summary, input, .button");
  if (event.key === " " && onControl && (event.target !== $("#pause") || !playing)) return;
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
function pause() { playing = false; queued = null; $("#pause").textContent = "Play"; $("#pause").setAttribute("aria-pressed", "false"); }
function one() { pause(); if (!waiting() && current !== null) step(chosen("player") === "policy" ? undefined : personAction() ?? 0); }
function back() { pause(); const parent = nodes.get(current)?.parent; if (parent !== null && parent !== undefined) go(parent); }
function forward() { pause(); const path = pathTo(leaf), next = path[path.findIndex((node) => node.id === current) + 1]; if (next) go(next.id); }

let last = 0;
function tick(now) {
  requestAnimationFrame(tick);
  const wanted = 1000 / Number($("#fps").value);
  if (!playing || waiting() || current === null || now - last < wanted - 2) return;
  const path = pathTo(leaf), next = path[path.findIndex((node) => node.id === current) + 1];
  if (next?.world === "recorded" && !acting()) { last = now; go(next.id); return; }
  const hasButtons = hello.action.kind === "discrete" && hello.action.sizes.length === 1;
  if (next === undefined && nodes.get(current).world === "recorded" && hasButtons && !acting()) { pause(); return; }
  if (chosen("player") === "policy") { last = now; step(); return; }
  const action = personAction();
  if (action !== undefined) { last = Math.max(now - wanted, last + wanted); if (now - last > wanted) last = now; step(action); }
}
requestAnimationFrame(tick);

// Showing

function show() {
  const node = nodes.get(current), path = pathTo(leaf), truth = node.real ?? node.recorded;
  drawImage($("#dream"), node.dream);
  drawImage($("#real"), truth);
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
  const others = leaves.filter((each) => each.id !== leaf).slice(-8).map((each) => pathTo(each.id));
  drawLines($("#lines"), $("#legend"), path, node, others);
  drawPolicy($("#policy"), node.dream.policy, policyNames(node.dream.policy));
  drawLatent($("#latent"), node.dream);
}

// Buttons

function showSettings(now) {
  for (const [id, value] of [["temperature", now.temperature], ["policy-temperature", now.policy_temperature]]) {
    $(`#${id}`).value = value;
    $(`#${id}`).nextElementSibling.textContent = value;
  }
  $("#deterministic").checked = now.deterministic;
  $("#sample").checked = now.policy_mode === "sample";
}

const settings = () => ({
  temperature: Number($("#temperature").value), deterministic: $("#deterministic").checked, policy_mode: $("#sample").checked ? "sample" : "mode", policy_temperature: Number($("#policy-temperature").value),
});
for (const id of ["temperature", "deterministic", "sample", "policy-temperature"]) $(`#${id}`).onchange = () => send({ do: "settings", ...settings() });
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
let linked = "";  // the link that this page has made itself
$("#link").onclick = () => {
  saved = async (file) => {
    linked = `#dream=${await pack(file)}`;
    location.hash = linked;
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

// Bookmarks: saved dreams that this browser remembers for the agent

const shelf = `reverie-bookmarks:${run}`;

function bookmarks() {
  try { return JSON.parse(localStorage.getItem(shelf)) ?? []; } catch { return []; }
}

function keepBookmarks(kept) {
  try { localStorage.setItem(shelf, JSON.stringify(kept)); }
  catch { say("The browser keeps no more bookmarks. Forget some, or save the dream as a file.", true); }
  showBookmarks();
}

function showBookmarks() {
  const kept = bookmarks();
  $("#bookmarks").replaceChildren(...kept.map(({ id, name }) => element("option", { value: id }, name)));
  for (const name of ["bookmarks", "recall", "forget"]) $(`#${name}`).disabled = !kept.length;
}

$("#bookmark").onclick = () => {
  const { depth } = nodes.get(current);
  saved = (file) => {
    const name = `${depth} steps from ${file.begin.from === "env" ? `seed ${file.begin.seed}` : `episode ${file.begin.episode}`}`;
    keepBookmarks([{ id: crypto.randomUUID(), name, file }, ...bookmarks()]);
  };
  ask({ do: "save", node: current });
};
$("#recall").onclick = () => {
  const found = bookmarks().find(({ id }) => id === $("#bookmarks").value);
  if (found) { pause(); ask({ do: "load", file: found.file }); }
};
$("#forget").onclick = () => keepBookmarks(bookmarks().filter(({ id }) => id !== $("#bookmarks").value));
addEventListener("storage", showBookmarks);
showBookmarks();
addEventListener("hashchange", async () => {
  const link = location.hash.startsWith("#dream=") && location.hash !== linked && hello ? await unpack(location.hash.slice(7)) : null;
  if (link) { pause(); ask({ do: "load", file: link }); }
});
addEventListener("resize", () => current !== null && show());

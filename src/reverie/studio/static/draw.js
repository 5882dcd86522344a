// What is drawn for a step of a game: images or bars of vectors, lines along the path, probabilities, latent classes.
import { element, number, style } from "./common.js";

const pictures = new Map();  // a decoder for each canvas

export function drawImage(canvas, found) {
  const data = Object.values(found?.images ?? {})[0];
  canvas.hidden = !data;
  if (!data) return;
  const image = pictures.get(canvas) ?? new Image();
  pictures.set(canvas, image);
  image.onload = () => { canvas.width = image.width; canvas.height = image.height; canvas.getContext("2d").drawImage(image, 0, 0); };
  image.src = `data:image/png;base64,${data}`;
}

export function drawVectors(place, found, other, color) {
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

const LINES = [
  ["Predicted reward", (node) => node.dream.reward, "#E69F00"], ["Reward", (node) => node.real?.reward ?? node.recorded?.reward, "#0072B2"],
  ["Value", (node) => node.dream.value, "#009E73"], ["Continues", (node) => node.dream.continues, "#999999"],
  ["Divergence", (node) => node.divergence, "#CC79A7"], ["Surprise", (node) => node.real?.surprise ?? node.recorded?.surprise, "#D55E00"],
];

export function drawLines(canvas, legend, path, at, branches) {
  // Thin lines are other branches, where all begin in sight.
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale; canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const shown = path.slice(-300), others = branches.filter((each) => Math.max(each.length, path.length) <= 300);
  const row = height / LINES.length, last = Math.max(...[shown, ...others].map((each) => each.length - 1), 1), x = (index) => 4 + (width - 8) * index / last;
  const texts = [];
  LINES.forEach(([name, read, color], line) => {
    const values = shown.map(read), thin = others.map((each) => each.map(read)), known = [values, ...thin].flat().filter((each) => each !== undefined);
    const low = Math.min(...known, 0), high = Math.max(...known, 1e-6), y = (each) => row * (line + 1) - 5 - (row - 10) * (each - low) / (high - low || 1);
    pen.strokeStyle = style("--line"); pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(0, row * (line + 1) - 1); pen.lineTo(width, row * (line + 1) - 1); pen.stroke();
    pen.strokeStyle = color;
    for (const each of [...thin, values]) {
      pen.lineWidth = each === values ? 2 : 0.7; pen.beginPath();
      each.forEach((height, index) => {
        if (height === undefined) return;
        index && each[index - 1] !== undefined ? pen.lineTo(x(index), y(height)) : pen.moveTo(x(index), y(height));
      });
      pen.stroke();
    }
    const now = read(at);
    const mark = element("i", { style: `border-color:${color}` });
    texts.push(element("span", {}, mark, `${name} ${now === undefined ? "–" : number(now, name === "Divergence" ? 4 : 2)}`));
  });
  const index = shown.indexOf(at);
  if (index >= 0) { pen.strokeStyle = style("--ink"); pen.lineWidth = 1; pen.beginPath(); pen.moveTo(x(index), 0); pen.lineTo(x(index), height); pen.stroke(); }
  legend.replaceChildren(...texts);
}

export function drawPolicy(place, shares, names) {
  place.replaceChildren(...shares.flatMap((share, index) => [
    element("span", {}, names[index]), element("b", { style: `width:${100 * Math.abs(share)}%` }), element("span", {}, number(share)),
  ]));
}

export function drawLatent(canvas, { latent, classes }) {
  canvas.closest("div").hidden = !classes;
  if (!classes) return;
  canvas.width = classes; canvas.height = latent.length;
  const pen = canvas.getContext("2d");
  pen.fillStyle = style("--shade"); pen.fillRect(0, 0, classes, latent.length);
  pen.fillStyle = style("--accent");
  latent.forEach((each, index) => pen.fillRect(each, index, 1, 1));
}

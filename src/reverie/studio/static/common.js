// What the pages share: requests, numbers, elements, colours.

export async function getJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export const encodeName = (name) => name.split("/").map(encodeURIComponent).join("/");

export function number(value, digits = 2) {
  if (value === null || value === undefined) return "";
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function socket(path, onMessage, onState = () => {}) {
  // A socket that comes back after the server was started again.
  let open = null, wait = 500, closed = false;
  const connect = () => {
    open = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
    open.onopen = () => { wait = 500; onState("open"); };
    open.onmessage = (event) => onMessage(JSON.parse(event.data));
    open.onclose = (event) => {
      if (closed) return;
      onState("lost", event);
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 5000);
    };
  };
  connect();
  return {
    send: (message) => open.readyState === WebSocket.OPEN && open.send(JSON.stringify(message)),
    close: () => { closed = true; open.close(); },
  };
}

export const colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7f7f7f"];
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function layout(title, more = {}) {
  const ink = style("--ink"), line = style("--line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  return {
    title: { text: title, font: { size: 14 } }, paper_bgcolor: style("--ground"), plot_bgcolor: style("--ground"),
    font: { color: ink, size: 12 }, margin: { l: 55, r: 12, t: 34, b: 36 }, hovermode: "x unified",
    xaxis: { ...axis, title: { text: "Frames", standoff: 4 } }, yaxis: axis, legend: { orientation: "h", y: -0.2 }, ...more,
  };
}

export const chartOptions = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

export async function pack(value) {
  // JSON, deflated, in letters that an address may hold: some two bytes for each step of a dream.
  const bytes = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify(value)));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export async function unpack(text) {
  // The value, or null where the text is damaged.
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), bytes)));
  } catch { return null; }
}

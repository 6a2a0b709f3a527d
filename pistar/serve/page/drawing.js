// The distribution of an action as bars and curves. Everything is made of nodes and text, never of markup: a policy file may
// say anything about itself.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const POINTS = 160, HEIGHT = 100;

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made[key] = value;
  made.append(...children);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const short = (x) => typeof x === "number" ? String(Number(x.toPrecision(4))) : String(x);
const flat = (x) => Array.isArray(x) ? x.flatMap(flat) : [x];
const number = (x) => x === "inf" ? Infinity : x === "-inf" ? -Infinity : Number(x);

function bars(probabilities, start, chosen) {
  const most = 40, out = node("div");
  probabilities.slice(0, most).forEach((p, i) => {
    const fill = node("div", { className: "fill" });
    fill.style.width = `${100 * p}%`;
    out.append(node("div", { className: i + start === chosen ? "bar chosen" : "bar" }, node("span", { textContent: i + start }),
      node("div", { className: "track" }, fill), node("span", { textContent: `${(100 * p).toFixed(1)} %` })));
  });
  if (probabilities.length > most) out.append(node("p", { className: "quiet", textContent: `… and ${probabilities.length - most} more` }));
  return out;
}

const gaussian = (mean, std) => (u) => Math.exp(-0.5 * ((u - mean) / std) ** 2) / (std * Math.sqrt(2 * Math.PI));

function cumulative(mean, std) { // Abramowitz & Stegun 7.1.26, absolute error below 1.5e-7
  return (u) => {
    const z = (u - mean) / (std * Math.SQRT2), t = 1 / (1 + 0.3275911 * Math.abs(z));
    const poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const erf = Math.sign(z) * (1 - poly * Math.exp(-z * z));
    return 0.5 * (1 + erf);
  };
}

function logGamma(x) { // Stirling's series after a shift; enough for a picture
  let shift = 0;
  while (x < 7) { shift -= Math.log(x); x += 1; }
  return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * x) - 1 / (360 * x ** 3);
}

function beta(a, b) {
  const scale = logGamma(a + b) - logGamma(a) - logGamma(b);
  return (u) => { const x = (u + 1) / 2; return x <= 0 || x >= 1 ? 0 : 0.5 * Math.exp(scale + (a - 1) * Math.log(x) + (b - 1) * Math.log(1 - x)); };
}

// One action of a Box: the density of what is executed, and the mass that clipping puts on the bounds.
function curve(family, p, scale, i, chosen) {
  const pick = (x, otherwise) => x === undefined || x === null ? otherwise : number(Array.isArray(x) ? flat(x)[i] : x);
  const centre = pick(scale && scale.centre, 0), half = pick(scale && scale.half_range, 1);
  let low = pick(scale && scale.low, -Infinity), high = pick(scale && scale.high, Infinity), density, left = 0, right = 0;
  if (family === "beta") {
    const f = beta(p.alpha, p.beta);
    density = (x) => f((x - centre) / half) / half;
    low = Math.max(low, centre - half); high = Math.min(high, centre + half);
  } else if (family === "squashed-gaussian") {
    const f = gaussian(p.mean, p.std);
    density = (x) => { const y = (x - centre) / half; return Math.abs(y) >= 1 ? 0 : f(Math.atanh(y)) / (1 - y * y) / half; };
    low = Math.max(low, centre - half); high = Math.min(high, centre + half);
  } else {
    const f = gaussian(p.mean, p.std), F = cumulative(p.mean, p.std);
    density = (x) => f((x - centre) / half) / half;
    if (Number.isFinite(low)) left = F((low - centre) / half);
    if (Number.isFinite(high)) right = 1 - F((high - centre) / half);
    if (!Number.isFinite(low)) low = centre + half * (p.mean - 4 * p.std);
    if (!Number.isFinite(high)) high = centre + half * (p.mean + 4 * p.std);
  }
  return { density, low, high, left, right, chosen };
}

function densityPicture({ density, low, high, left, right, chosen }, title) {
  const xs = Array.from({ length: POINTS }, (_, i) => low + (high - low) * (i + 0.5) / POINTS), ys = xs.map(density).map((y) => Number.isFinite(y) ? y : 0);
  const top = Math.max(...ys, 1e-9), at = (x) => 400 * (x - low) / (high - low), up = (y) => HEIGHT - 2 - (HEIGHT - 8) * y;
  const svg = shape("svg", { viewBox: `0 0 400 ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  const line = xs.map((x, i) => `${at(x).toFixed(1)},${up(ys[i] / top).toFixed(1)}`);
  const area = left + right > 0.98 ? "" : `M0,${up(0)} L${line.join(" L")} L400,${up(0)} Z`;
  if (area) svg.append(shape("path", { d: area, class: "area" }));
  svg.append(shape("line", { x1: 0, x2: 400, y1: up(0), y2: up(0), class: "axis" }));
  for (const [mass, x] of [[left, 0], [right, 396]]) {
    if (mass > 0.005) svg.append(shape("rect", { x, width: 4, y: up(mass), height: up(0) - up(mass), class: "mass" }));
  }
  if (Number.isFinite(chosen)) svg.append(shape("line", { x1: at(chosen), x2: at(chosen), y1: 4, y2: up(0), class: "chosen" }));
  const clipped = [left, right].map((m) => m > 0.005 ? ` (${(100 * m).toFixed(0)} % at this bound)` : "");
  return node("div", { className: "density" }, node("p", { textContent: title }), svg, node("div", { className: "ends" },
    node("span", { textContent: short(low) + clipped[0] }), node("span", { textContent: short(high) + clipped[1] })));
}

const follow = (tree, path) => path.reduce((at, key) => at === undefined || at === null ? at : at[key], tree);
function spaceAt(space, path) {
  return path.reduce((at, key) => at && (at.kind === "dict" ? (at.children.find(([name]) => name === key) || [])[1] : (at.children || [])[Number(key)]), space);
}

function drawPart(part, action, actionSpace) {
  const p = part.parameters, chosen = follow(action, part.path), name = part.path.length ? part.path.join(".") : "action";
  const space = spaceAt(actionSpace, part.path) || {}, out = node("div");
  const heading = (text) => out.append(node("p", { className: "quiet", textContent: text }));
  if (part.family === "categorical") {
    if (part.path.length) heading(name);
    out.append(bars(flat(p.probability), space.start || 0, chosen));
  } else if (part.family === "multi-categorical") {
    const starts = flat(space.start ?? 0), all = flat(chosen);
    Object.values(p).forEach((each, i) => { heading(`${name}[${i}]`); out.append(bars(flat(each), starts.length > 1 ? starts[i] : starts[0], all[i])); });
  } else if (part.family === "bernoulli") {
    heading(`${name}: probability of 1`);
    out.append(bars(flat(p.probability), 0, -1));
  } else if ((p.mean && p.std) || (p.alpha && p.beta)) {
    const columns = Object.fromEntries(Object.entries(p).map(([key, value]) => [key, flat(value)])), all = flat(chosen);
    const count = Object.values(columns)[0].length, most = 24;
    for (let i = 0; i < Math.min(count, most); i++) {
      const each = Object.fromEntries(Object.entries(columns).map(([key, value]) => [key, value[i]]));
      const words = count > 1 || part.path.length ? `${name}[${i}] = ${short(all[i])}` : `${name} = ${short(all[i])}`;
      out.append(densityPicture(curve(part.family, each, part.scale, i, all[i]), words));
    }
    if (count > most) heading(`… and ${count - most} more`);
  } else {
    out.append(node("pre", { textContent: JSON.stringify(p, null, 1) }));
  }
  return out;
}

// What a person does on the page, and what is asked of the service for it.
const $ = (id) => document.getElementById(id);
const MANY = 64; // numbers of an entry up to which each has a control of its own
let policy, observation, session = null, first = true, asking = false, again = false, play = null, playing = false, stepping = false;
const controls = [];

async function ask(method, path, body) {
  const headers = {}, token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const value = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error([value.error, value.expected && `expected: ${value.expected}`, value.received && `received: ${value.received}`, value.next].filter(Boolean).join("\n")), { status: answer.status });
  return value;
}

// ---- the observation -------------------------------------------------------------------------------------------------

const size = (space) => (space.shape || []).reduce((a, b) => a * b, 1);
const filled = (shape, make) => shape.length ? Array.from({ length: shape[0] }, () => filled(shape.slice(1), make)) : make();
const entryOf = (bound, i) => number(Array.isArray(bound) ? bound[i] : bound);

function made(space, random) {
  let i = 0;
  switch (space.kind) {
    case "dict": return Object.fromEntries(space.children.map(([key, child]) => [key, made(child, random)]));
    case "tuple": return space.children.map((child) => made(child, random));
    case "discrete": return space.start + (random ? Math.floor(Math.random() * space.n) : 0);
    case "multi-discrete": return filled(space.shape, () => { const start = entryOf(space.start, i), n = entryOf(space.nvec, i++); return start + (random ? Math.floor(Math.random() * n) : 0); });
    case "multi-binary": return filled(space.shape, () => random ? Math.round(Math.random()) : 0);
    default: return filled(space.shape, () => {
      if (space.dtype === "bool") return random && Math.random() < 0.5;
      const [low, high] = range(space, i++), x = random ? low + Math.random() * (high - low) : Math.min(Math.max(0, low), high);
      return space.dtype.startsWith("float") ? Number(x.toPrecision(5)) : Math.round(x);
    });
  }
}

function range(space, i) { // of a slider: the bounds where they are of a use, else three either way
  const low = entryOf(space.low, i), high = entryOf(space.high, i);
  return [low > -1e4 ? low : high < 1e4 ? high - 6 : -3, high < 1e4 ? high : low > -1e4 ? low + 6 : 3];
}

function build(space, path, place) {
  if (space.kind === "dict" || space.kind === "tuple") {
    const children = space.kind === "dict" ? space.children : space.children.map((child, i) => [i, child]);
    for (const [key, child] of children) {
      if (policy.unused.some((unused) => unused.join("\0") === [...path, key].join("\0"))) continue;
      const group = node("fieldset", {}, node("legend", { textContent: key }));
      place.append(group);
      build(child, [...path, key], group);
    }
    return;
  }
  if (size(space) > MANY) {
    place.append(node("p", { className: "quiet", textContent: `${(space.shape || []).join(" × ")} numbers: type or paste them as JSON, or take random ones.` }));
    return;
  }
  for (let i = 0; i < size(space); i++) place.append(control(space, path, i));
}

function placeOf(shape, i) { // flat index -> nested indices
  return shape.map((_, k) => Math.floor(i / shape.slice(k + 1).reduce((a, b) => a * b, 1)) % shape[k]);
}

function write(path, value) {
  const parent = follow(observation, path.slice(0, -1));
  if (path.length) parent[path.at(-1)] = value; else observation = value;
}

function control(space, path, i) {
  const whole = [...path, ...placeOf(space.shape || [], i)], id = `entry-${controls.length}`;
  const label = node("label", { htmlFor: id, textContent: whole.length ? whole.slice(path.length).map((k) => `[${k}]`).join("") || "value" : "value" });
  const row = node("div", { className: "entry" }, label), changed = (value) => { write(whole, value); show(); act(); };
  const choices = space.kind === "discrete" ? [space.start, space.n] : space.kind === "multi-discrete" ? [entryOf(space.start, i), entryOf(space.nvec, i)] : null;
  if (choices) {
    const select = node("select", { id, onchange: () => changed(Number(select.value)) });
    for (let k = 0; k < Math.min(choices[1], 1000); k++) select.append(node("option", { textContent: choices[0] + k, value: choices[0] + k }));
    row.append(select);
    controls.push(() => { select.value = follow(observation, whole); });
  } else if (space.kind === "multi-binary" || space.dtype === "bool") {
    const box = node("input", { id, type: "checkbox", onchange: () => changed(space.dtype === "bool" ? box.checked : Number(box.checked)) });
    row.append(box);
    controls.push(() => { box.checked = Boolean(follow(observation, whole)); });
  } else {
    const real = space.dtype.startsWith("float"), [low, high] = range(space, i);
    const slide = node("input", { type: "range", min: low, max: high, step: real ? (high - low) / 1000 : 1, oninput: () => changed(Number(Number(slide.value).toPrecision(5))) });
    slide.setAttribute("aria-label", `${label.textContent}, by dragging`);
    const typed = node("input", { id, type: "number", step: real ? "any" : 1, inputMode: "decimal", onchange: () => { if (typed.value !== "") changed(Number(typed.value)); } });
    row.append(slide, typed);
    controls.push(() => {
      const x = follow(observation, whole);
      if (x < Number(slide.min)) slide.min = x;
      if (x > Number(slide.max)) slide.max = x;
      slide.value = x;
      if (document.activeElement !== typed) typed.value = short(x);
    });
  }
  return row;
}

function show() {
  controls.forEach((refresh) => refresh());
  if ($("typed").open && document.activeElement !== $("json")) $("json").value = JSON.stringify(observation);
}

// ---- the action ------------------------------------------------------------------------------------------------------

const deterministic = () => document.querySelector("input[name=how]:checked").value === "mode";

async function act(evenWithMemory = false) {
  if (policy.memory && !evenWithMemory) return; // every observation would be a step: only when it is asked for
  if (asking) { again = true; return; }
  asking = true;
  const began = performance.now();
  try {
    if (policy.memory && !session) { session = (await ask("POST", "/v1/sessions", {})).session; first = true; }
    const body = { observation, deterministic: deterministic(), distribution: true };
    if (policy.memory) Object.assign(body, { session, first });
    const answer = await ask("POST", "/v1/act", body);
    first = false;
    showAction(answer.action, answer.distribution);
    $("timing").textContent = `answered in ${(performance.now() - began).toFixed(1)} ms`;
    if (answer.policy !== policy.sha256) await refresh();
  } catch (error) {
    if (error.status === 404) session = null;
    fault(error);
  }
  asking = false;
  if (again) { again = false; act(); }
}

function showAction(action, distribution) {
  $("fault").hidden = true;
  $("action").textContent = JSON.stringify(action, (_, x) => typeof x === "number" ? Number(x.toPrecision(4)) : x).replaceAll(",", ", ");
  $("distribution").replaceChildren(...distribution.map((part) => drawPart(part, action, policy.action_space)));
}

function fault(error) {
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}

// ---- the task --------------------------------------------------------------------------------------------------------

async function beginPlay() {
  if (play) ask("DELETE", `/v1/plays/${play}`).catch(() => {});
  const begun = await ask("POST", "/v1/plays", {});
  play = begun.play;
  picture(begun);
  $("score").textContent = "A new episode.";
}

function picture(came) {
  $("frame").src = came.frame;
  $("frame").hidden = false;
  if (came.observation !== undefined) { observation = came.observation; show(); }
}

async function stepPlay() {
  if (stepping) return null;
  stepping = true;
  try {
    if (!play) await beginPlay();
    const came = await ask("POST", `/v1/plays/${play}`, { deterministic: deterministic() });
    picture(came);
    showAction(came.action, came.distribution);
    const words = came.ended ? `Ended after ${came.steps} steps (${came.ended}).` : `Step ${came.steps}.`;
    $("score").textContent = `${words} Return ${short(came.return)}, last reward ${short(came.reward)}.`;
    return came;
  } catch (error) {
    if (error.status === 404) play = null;
    playing = false;
    $("score").textContent = error.message;
    return null;
  } finally {
    stepping = false;
    $("play").textContent = playing ? "Pause" : "Play";
  }
}

async function run() {
  while (playing) {
    const began = performance.now(), came = await stepPlay();
    if (!came) break;
    await new Promise((done) => setTimeout(done, came.ended ? 900 : Math.max(0, 33 - (performance.now() - began))));
  }
  playing = false;
  $("play").textContent = "Play";
  if (play && !policy.memory) act(); // of what is seen now, no longer of the step before
}

// ---- the policy ------------------------------------------------------------------------------------------------------

function spaceWords(space) {
  if (space.kind === "dict") return space.children.map(([key, child]) => `${key}: ${spaceWords(child)}`).join("; ");
  if (space.kind === "tuple") return space.children.map(spaceWords).join("; ");
  if (space.kind === "discrete") return `one of ${space.n}`;
  const shape = (space.shape || []).join(" × "), many = size(space) !== 1 ? "s" : "";
  const what = { box: `number${many} (${space.dtype})`, "multi-discrete": `choice${many}`, "multi-binary": `bit${many}` }[space.kind] || space.kind;
  const bound = space.kind === "box" && !Array.isArray(space.low) && !Array.isArray(space.high) && space.low !== "-inf" ? ` from ${short(space.low)} to ${short(space.high)}` : "";
  return `${shape || "one"} ${what}${bound}`;
}

function describe() {
  const steps = policy.steps === null || policy.steps === undefined ? null : Number(policy.steps).toLocaleString("en-GB");
  const name = policy.play || (policy.provenance.task && policy.provenance.task.id) || policy.task || "a policy";
  $("task").textContent = name;
  document.title = `${name} · pistar`;
  $("facts").textContent = [policy.algorithm, steps && `${steps} steps`, policy.seed !== null && policy.seed !== undefined && `seed ${policy.seed}`].filter(Boolean).join(" · ");
  const rows = [["sees", spaceWords(policy.observation_space)], ["does", spaceWords(policy.action_space)], ["inside", (policy.inside || []).join(", ")],
    ["memory", policy.memory ? "yes: each session has its own" : "none"], ["mask", policy.mask], ["made by", policy.pistar && `pistar ${policy.pistar}`], ["SHA-256", policy.sha256]];
  $("table").replaceChildren(...rows.filter(([, value]) => value).map(([key, value]) => node("tr", {}, node("th", { textContent: key, scope: "row" }), node("td", { textContent: value }))));
  $("provenance").textContent = JSON.stringify(policy.provenance, null, 2);
  $("notice").hidden = !policy.newest_refused;
  $("notice").textContent = `A newer policy is not served; this is the one before. ${policy.newest_refused || ""}`;
  const example = JSON.stringify({ observation: made(policy.observation_space, false), ...(policy.memory ? { session: "…", first: true } : {}) });
  const auth = sessionStorage.getItem("token") ? ` \\\n  -H "authorization: Bearer $PISTAR_SERVE_TOKEN"` : "";
  $("curl").textContent = `curl ${location.origin}/v1/act -H 'content-type: application/json'${auth} \\\n  -d '${example.length > 400 ? '{"observation": …}' : example}'`;
}

async function refresh() {
  policy = await ask("GET", "/v1/policy");
  describe();
}

async function start() {
  try {
    await refresh();
  } catch (error) {
    $("token-form").hidden = error.status !== 401;
    $("facts").textContent = error.status !== 401 ? error.message : sessionStorage.getItem("token") ? "That is not its token." : "";
    return;
  }
  $("token-form").hidden = true;
  $("links").hidden = Boolean(sessionStorage.getItem("token")); // a link could not carry it
  $("work").hidden = false;
  observation = made(policy.observation_space, false);
  controls.length = 0;
  $("controls").replaceChildren();
  build(policy.observation_space, [], $("controls"));
  $("how").hidden = !policy.sampling;
  $("act").hidden = $("forget").hidden = !policy.memory;
  $("play-card").hidden = !policy.play;
  show();
  if (policy.play) beginPlay().then(() => act()).catch((error) => { $("score").textContent = error.message; act(); });
  else act();
}

$("token-form").onsubmit = (event) => { event.preventDefault(); sessionStorage.setItem("token", $("token").value.trim()); start(); };
$("zeros").onclick = () => { observation = made(policy.observation_space, false); show(); act(); };
$("random").onclick = () => { observation = made(policy.observation_space, true); show(); act(); };
$("act").onclick = () => act(true);
$("forget").onclick = () => { first = true; act(true); };
$("how").onchange = () => act();
$("typed").ontoggle = show;
$("use-json").onclick = () => { try { observation = JSON.parse($("json").value); show(); act(); } catch (error) { fault(error); } };
$("play").onclick = () => { playing = !playing; $("play").textContent = playing ? "Pause" : "Play"; if (playing) run(); };
$("step").onclick = () => { playing = false; stepPlay().then(() => act()); };
$("again").onclick = () => beginPlay().catch((error) => { $("score").textContent = error.message; });
addEventListener("pagehide", () => { if (play) fetch(`/v1/plays/${play}`, { method: "DELETE", keepalive: true, headers: sessionStorage.getItem("token") ? { authorization: `Bearer ${sessionStorage.getItem("token")}` } : {} }); });
start();

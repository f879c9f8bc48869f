// The operator's page. It asks its own server for figures and draws them; nothing is stored beyond this tab.
"use strict";

const KEY = "didmpc operator token";
const TOKEN = /^[\w-]{43}$/;
const MARGIN = { left: 58, right: 10, top: 8, bottom: 20 };
const ROWS = 12; // of the table beside a plot
const SLOWEST = 60;
const SKEW = 1; // seconds from which on it is worth saying that a node's clock is wrong

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const sizes = ["B", "KiB", "MiB", "GiB", "TiB"];

const plain = (value) => number.format(value);
const bytes = (value) => {
  let step = 0;
  for (; Math.abs(value) >= 1024 && step < sizes.length - 1; step++) value /= 1024;
  return `${new Intl.NumberFormat("en", { maximumFractionDigits: step ? 1 : 0 }).format(value)} ${sizes[step]}`;
};
const percent = (value) => `${plain(value * 100)} %`;

const PLOTS = [
  { title: "Messages", unit: "a second", write: plain, series: { messages_in: "in", messages_out: "out" } },
  {
    title: "Sessions", unit: "open now", write: plain,
    series: {
      relay_connections: "relay connections", relay_channels: "channels", sockets: "WebSockets", live: "in live mode",
    },
  },
  { title: "Relayed packets", unit: "a second", write: plain, series: { relay_packets: "packets" } },
  { title: "Relayed bytes", unit: "a second", write: bytes, series: { relay_bytes: "bytes" } },
  { title: "Accounts", unit: "in the store", write: plain, series: { accounts: "accounts", mailboxes: "mailboxes" } },
  { title: "Mail that waits", unit: "messages", write: plain, series: { queued: "messages" } },
  { title: "Size of that mail", unit: "bytes", write: bytes, series: { queued_bytes: "bytes" } },
  { title: "Turned away", unit: "a second", write: plain, series: { refusals: "refused", limits_hit: "limits met" } },
  { title: "Processor", unit: "of one core", write: percent, series: { processor: "used" } },
  { title: "Memory", unit: "resident", write: bytes, series: { memory_bytes: "memory" } },
  { title: "Disk", unit: "free", write: bytes, series: { disk_free_bytes: "free" } },
];

const $ = (id) => document.getElementById(id);

let token = taken();
let samples = []; // each: an object of all figures, and `at`
let count = 0; // samples that the mediator had taken when it was last asked
let since = 0; // when it was started
let every = 5;
let paused = false;
let timer = 0;
let failures = 0;
let asked = 0; // whatever was asked before the token was forgotten is not shown after it
let next = 0; // account to go on from

/** The token of the link (its fragment never reaches a server, and leaves the address bar at once), or of this tab. */
function taken() {
  const given = location.hash.slice(1);
  if (given) history.replaceState(null, "", location.pathname);
  if (TOKEN.test(given)) {
    sessionStorage.setItem(KEY, given);
    return given;
  }
  return sessionStorage.getItem(KEY) ?? "";
}

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", redirect: "error",
    signal: AbortSignal.timeout(20000),
  });
  if (answer.status === 401) throw new Refused("This is not the token of this mediator, or no longer.");
  if (answer.status === 429) {
    throw new Refused(`Too many wrong tokens. Try again in ${answer.headers.get("Retry-After")} s.`);
  }
  if (!answer.ok) throw new Error(`it answered ${answer.status}`);
  return answer.json();
}

async function refresh() {
  clearTimeout(timer);
  const mine = asked;
  try {
    const found = await ask(`state?after=${count}`);
    if (mine !== asked) return;
    failures = 0;
    take(found);
  } catch (problem) {
    if (mine !== asked) return;
    if (problem instanceof Refused) return forget(problem.message);
    failures += 1;
    tell(`No answer from the mediator (${problem.message}). Trying again.`, true);
  }
  if (!paused) timer = setTimeout(refresh, Math.min(SLOWEST, every * 2 ** Math.min(failures, 4)) * 1000);
}

function take({ status, nodes, history: found }) {
  if (status.since !== since) samples = []; // it was started again, and so was its count
  since = status.since;
  every = found.every;
  count = found.taken;
  for (const [at, ...values] of found.samples) {
    samples.push(Object.fromEntries([["at", at], ...found.names.map((name, i) => [name, values[i]])]));
  }
  samples = samples.slice(-3600 / every);
  $("enter").hidden = true;
  $("board").hidden = false;
  $("host").textContent = status.url.replace(/^https?:\/\//, "");
  const obstacles = status.obstacles.join(", ");
  tell(obstacles ? `Takes in no mail: ${obstacles}.` : "Works, and takes in mail.", obstacles !== "");
  showFacts(status);
  if (nodes) showNodes(nodes); // else the table stays, until their database is back
  PLOTS.forEach(draw);
}

/** Said once: who listens to the page is not told every few seconds that all is as it was. */
function tell(text, bad) {
  if ($("state").textContent === text) return;
  $("state").textContent = text;
  $("state").className = bad ? "bad" : "";
}

function forget(why = "") {
  asked += 1;
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = "";
  samples = [];
  count = failures = next = 0;
  $("board").hidden = true;
  $("enter").hidden = false;
  $("refused").textContent = why;
  $("accounts").replaceChildren();
  $("listing").textContent = "";
  $("more").textContent = "Read accounts";
  $("more").hidden = false;
  $("token").value = "";
  tell("", false);
  $("token").focus();
}

function element(name, attributes = {}, ...children) {
  const made = ["svg", "line", "path", "text", "title"].includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function ago(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

function showFacts(status) {
  const most = (counts) => Object.entries(counts).filter(([, times]) => times).sort((a, b) => b[1] - a[1]).slice(0, 3)
    .map(([name, times]) => `${name} ${plain(times)}`).join(", ") || "none";
  const known = (value, write = plain) => (value === null ? "not known" : write(value));
  const facts = {
    "Running for": ago(Date.now() / 1000 - status.since),
    "Registration": status.settings.registration || "open",
    "Accounts": known(status.accounts),
    "Mailboxes": known(status.mailboxes),
    "Mail that waits": known(status.queued, (count) => `${plain(count)}, ${bytes(status.queued_bytes)}`),
    "WebSockets": `${plain(status.sockets)}, ${plain(status.live)} in live mode`,
    "Relay": `${plain(status.relay.connections)} connections, ${plain(status.relay.channels)} channels`,
    "Relayed so far": `${plain(status.relay.packets)} packets, ${bytes(status.relay.bytes)}`,
    "Messages so far": `${plain(status.messages_in)} in, ${plain(status.messages_out)} out`,
    "Refused": most(status.refusals),
    "Limits met": most(status.limits_hit),
    "Disk": `${bytes(status.disk_free_bytes)} free`,
  };
  $("facts").replaceChildren(...Object.entries(facts).map(
    ([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text)),
  ));
}

/** Of a cluster; a mediator alone has none. */
function showNodes(nodes) {
  $("cluster").hidden = nodes.length === 0;
  const state = (node) => (node.there ? (node.this ? "this one" : "there") : "gone");
  $("nodes").replaceChildren(...nodes.map((node) => element("tr", {},
    element("th", { scope: "row" }, `${node.id}`),
    ...[
      node.url, state(node), ago(Math.max(0, Date.now() / 1000 - node.since)), (node.links ?? []).join(", ") || "-",
      ...["sockets", "delivers", "channels"].map((name) => (name in node ? plain(node[name]) : "-")), node.version,
    ].map((text) => element("td", {}, text)),
  )));
  $("clocks").textContent = nodes.filter((node) => node.there && Math.abs(node.clock_ahead ?? 0) >= SKEW).map((node) =>
    `The clock of node ${node.id} is ${plain(Math.abs(node.clock_ahead))} s ${node.clock_ahead > 0 ? "ahead" : "behind"}.`,
  ).join(" ");
}

/** A bound for the axis, at least `highest`: 1, 2 or 5 times a power of ten, or of two for bytes. */
function bound(highest, write) {
  if (write === bytes) return 2 ** Math.max(10, Math.ceil(Math.log2(highest)));
  if (write === percent && highest === 0) return 0.01;
  highest = write === plain ? Math.max(2, highest) : highest;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 5, 10].map((step) => step * power).find((each) => each >= highest) ?? highest;
}

/** The last seconds that are asked for, counted from the newest sample. */
function shown() {
  const from = (samples.at(-1)?.at ?? 0) - Number($("span").value);
  return samples.filter((sample) => sample.at >= from);
}

function frame(plot, index) {
  const title = element("figcaption", { id: `title${index}` }, plot.title, " ", element("span", {}, plot.unit));
  const picture = element("svg", {
    class: "plot", role: "img", "aria-labelledby": `title${index}`, "aria-describedby": `words${index}`,
  });
  const legend = element("ul", { class: "legend" });
  const words = element("p", { id: `words${index}` });
  const body = element("tbody");
  const names = Object.values(plot.series);
  const head = element("tr", {}, ...["Time", ...names].map((name) => element("th", { scope: "col" }, name)));
  const name = `${plot.title} as a table`;
  const table = element("table", {}, element("thead", {}, head), body);
  const wide = element("div", { class: "wide", role: "region", "aria-label": name, tabindex: 0 }, table);
  const details = element("details", {}, element("summary", {}, name), wide);
  details.addEventListener("toggle", () => draw(plot));
  const figure = element("figure", {}, title, picture, legend, words, details);
  $("plots").append(figure);
  return { picture, legend, words, body, details };
}

function draw(plot) {
  plot.parts ??= frame(plot, PLOTS.indexOf(plot));
  const { picture, legend, words, body, details } = plot.parts;
  const rows = shown();
  const names = Object.keys(plot.series);
  const width = picture.clientWidth;
  const height = picture.clientHeight;
  if (!width) return;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const top = bound(Math.max(0, ...rows.flatMap((row) => names.map((name) => row[name]))), plot.write);
  const seconds = Number($("span").value);
  const end = rows.at(-1)?.at ?? 0;
  const x = (at) => MARGIN.left + (width - MARGIN.left - MARGIN.right) * (1 - (end - at) / seconds);
  const y = (value) => height - MARGIN.bottom - (height - MARGIN.top - MARGIN.bottom) * (value / top);

  const parts = [0, top / 2, top].flatMap((value) => [
    element("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
    element("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, plot.write(value)),
  ]);
  parts.push(
    element("text", { x: MARGIN.left, y: height - 4 }, `${ago(seconds)} ago`),
    element("text", { x: width - MARGIN.right, y: height - 4, "text-anchor": "end" }, end ? clock(end) : ""),
  );
  names.forEach((name, i) => {
    const path = rows.map((row, n) => {
      const gap = n === 0 || row.at - rows[n - 1].at > 3 * every; // the mediator was away: no line across
      return `${gap ? "M" : "L"}${x(row.at).toFixed(1)} ${y(row[name]).toFixed(1)}`;
    });
    parts.push(element("path", { class: `curve s${i}`, d: path.join("") }));
  });
  picture.replaceChildren(...parts);

  legend.replaceChildren(...names.map((name, i) => {
    const sample = element("svg", { width: 28, height: 10, "aria-hidden": "true" },
      element("line", { class: `curve s${i}`, x1: 0, x2: 28, y1: 5, y2: 5 }));
    return element("li", {}, sample, `${plot.series[name]} ${rows.length ? plot.write(rows.at(-1)[name]) : "-"}`);
  }));
  words.textContent = rows.length
    ? names.map((name) => {
      const values = rows.map((row) => row[name]);
      return `${plot.series[name]}: lowest ${plot.write(Math.min(...values))}, highest ${plot.write(Math.max(...values))}`;
    }).join("; ")
    : `The first figures come within ${2 * every} seconds.`;
  if (details.open) {
    const step = Math.max(1, Math.ceil(rows.length / ROWS));
    body.replaceChildren(...rows.filter((_, n) => (rows.length - 1 - n) % step === 0).reverse().map(
      (row) => element("tr", {}, element("td", {}, clock(row.at)),
        ...names.map((name) => element("td", {}, plot.write(row[name])))),
    ));
  }
}

async function readAccounts() {
  const mine = asked;
  try {
    const found = await ask(`accounts?after=${next}`);
    if (mine !== asked) return;
    if (next === 0) $("accounts").replaceChildren();
    $("accounts").append(...found.accounts.map((row) => element("tr", {},
      element("th", { scope: "row" }, row.name),
      element("td", {}, new Date(row.created * 1000).toISOString().slice(0, 16).replace("T", " ")),
      ...[plain(row.keys), plain(row.messages), bytes(row.bytes)].map((text) => element("td", {}, text)),
    )));
    next = found.next ?? 0;
    const listed = $("accounts").rows.length;
    $("listing").textContent = listed ? `${plain(listed)} listed${next ? "; there are more." : "."}` : "No accounts yet.";
    $("more").textContent = next ? "Read more" : "Read again";
  } catch (problem) {
    if (mine !== asked) return;
    if (problem instanceof Refused) forget(problem.message);
    else $("listing").textContent = `They cannot be read now (${problem.message}).`;
  }
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  if (!TOKEN.test(token)) return forget("This is not the token of this mediator.");
  sessionStorage.setItem(KEY, token);
  $("refused").textContent = "";
  refresh();
});
$("leave").addEventListener("click", () => forget());
$("more").addEventListener("click", readAccounts);
$("span").addEventListener("change", () => PLOTS.forEach(draw));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", `${paused}`);
  clearTimeout(timer);
  if (!paused) refresh();
});
new ResizeObserver(() => $("board").hidden || PLOTS.forEach(draw)).observe($("plots"));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (token && !paused) refresh();
});

if (token) refresh();
else $("enter").hidden = false;

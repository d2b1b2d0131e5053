// Shows the node: one stream of figures, read with fetch so that a token can be sent. Everything that comes from the node
// is set as text, never as markup.
"use strict";

const HOPS = ["arrival", "queue", "function", "egress"];
const PAUSE_MS_MAX = 5000;
// The node says something at least every few seconds: who hears nothing for longer has lost it.
const SILENCE_MS = 12000;

const at = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let before = null;
let pause = 500;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const count = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");

function time(ns) {
  const units = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];
  const [unit, factor] = units.find(([, f]) => ns >= f) || units[3];
  const value = ns / factor;
  const digits = unit === "ns" || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

const p99 = (latency, hop) => (latency[hop] ? latency[hop].P99 : 0);
const p99OfWhole = (object) => (p99(object.LatencyNs, "total") ? time(p99(object.LatencyNs, "total")) : "–");
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const reasons = (counts) => Object.entries(counts).filter(([, n]) => n).map(([why, n]) => `${count(n)} ${why}`).join(", ") || "0";

function grade(state) {
  if (["failed", "refused", "gone"].includes(state)) return "bad";
  if (["degraded", "draining", "drained", "demoted"].includes(state)) return "poor";
  return "good";
}

function stateCell(object) {
  const cell = element("td", object.State, grade(object.State));
  cell.title = object.Reason;
  return cell;
}

// Rows by key: what stays is kept, so that neither focus nor a reader's place in the table is lost.
function rows(id, objects, cells) {
  const body = at(id);
  const known = new Map([...body.children].map((row) => [row.dataset.name, row]));
  objects.forEach((object, place) => {
    const row = known.get(object.Name) || element("tr");
    known.delete(object.Name);
    row.dataset.name = object.Name;
    const head = element("th", object.Name);
    head.scope = "row";
    row.replaceChildren(head, ...cells(object).map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
  });
  known.forEach((row) => row.remove());
  if (!objects.length) {
    const cell = element("td", "none", "empty");
    cell.colSpan = 20;
    const row = element("tr");
    row.append(cell);
    body.replaceChildren(row);
  }
}

const number = (n) => element("td", typeof n === "number" ? count(n) : n, "n");

function perSecond(name, events) {
  const old = before && before.topics.get(name);
  if (old === undefined || old === null) return "–";
  const seconds = (performance.now() - before.at) / 1000;
  return seconds > 0 && events >= old ? count(Math.round((events - old) / seconds)) : "–";
}

function lanes(levels) {
  at("lanes").replaceChildren(...levels.toSorted((a, b) => b.Rank - a.Rank).map((level) => {
    const card = element("article", undefined, "card");
    card.dataset.name = level.Name;
    const list = element("dl");
    const say = (word, value, className) => list.append(element("dt", word), element("dd", value, className));
    say("state", level.State, grade(level.State));
    say("scheduler", level.Scheduler || "–");
    say("rank, policy", `${level.Rank}, ${level.Policy || "–"}`);
    say("in, out", `${count(level.EventsIn)}, ${count(level.EventsOut)}`);
    say("late", count(level.EventsLate));
    say("dropped", reasons(level.EventsDropped));
    say("p99, max", p99(level.LatencyNs, "total") ? `${p99OfWhole(level)}, ${time(level.LatencyNs.total.Max)}` : "–");
    const queued = `${count(level.Queued)} of ${count(level.CapacityEvents)} queued`;
    say("queue", queued);
    const meter = element("meter");
    meter.max = Math.max(level.CapacityEvents, 1);
    meter.value = level.Queued;
    meter.high = meter.max * 0.8;
    meter.setAttribute("aria-label", `${level.Name}: ${queued}`);
    card.append(element("h3", level.Name), list, meter);
    return card;
  }));
}

function waterfall(levels, topics) {
  const shown = [...levels.map((l) => ["lane ", l]), ...topics.map((t) => ["", t])]
    .filter(([, o]) => p99(o.LatencyNs, "total") || HOPS.some((hop) => p99(o.LatencyNs, hop)))
    .slice(0, 24);
  if (!shown.length) {
    at("waterfall").replaceChildren(element("p", "no event has passed yet", "empty"));
    return;
  }
  at("waterfall").replaceChildren(...shown.map(([what, object]) => {
    const hops = HOPS.map((hop) => p99(object.LatencyNs, hop));
    const total = p99(object.LatencyNs, "total");
    const whole = Math.max(hops.reduce((a, b) => a + b, 0), total, 1);
    const fall = element("div", undefined, "fall");
    const line = element("p");
    const words = HOPS.map((hop, i) => `${hop === "arrival" ? "ingress" : hop} ${hops[i] ? time(hops[i]) : "–"}`).join(", ");
    line.append(element("strong", what + object.Name), element("span", `${words}; whole ${total ? time(total) : "–"}`));
    const track = element("div", undefined, "track");
    track.setAttribute("aria-hidden", "true");
    let left = 0;
    hops.forEach((ns, i) => {
      if (!ns) return;
      const bar = element("span", undefined, `hop ${HOPS[i]}`);
      bar.style.left = `${(100 * left) / whole}%`;
      bar.style.width = `${(100 * ns) / whole}%`;
      left += ns;
      track.append(bar);
    });
    if (total) {
      const mark = element("span", undefined, "total");
      mark.style.left = `calc(${(100 * total) / whole}% - 2px)`;
      track.append(mark);
    }
    fall.append(line, track);
    return fall;
  }));
}

function grants(objects) {
  const asked = objects.filter((object) => object.Requested || object.Grant.length);
  const open = new Set([...document.querySelectorAll("#grants details[open]")].map((d) => d.dataset.name));
  if (!asked.length) {
    at("grants").replaceChildren(element("p", "no topic or workflow asks for anything in figures", "empty"));
    return;
  }
  at("grants").replaceChildren(...asked.map((object) => {
    const details = element("details");
    details.dataset.name = object.Name;
    details.open = open.has(object.Name);
    const summary = element("summary");
    summary.append(element("strong", object.Name), `: asked ${object.Requested || "–"}; `, element("span", object.Granted || "–"));
    const table = element("table");
    const head = element("tr");
    ["Hop", "Asked", "Granted", "Why"].forEach((word) => {
      const cell = element("th", word);
      cell.scope = "col";
      head.append(cell);
    });
    const top = element("thead");
    top.append(head);
    const body = element("tbody");
    object.Grant.forEach((hop) => {
      const row = element("tr");
      const name = element("th", hop.Hop);
      name.scope = "row";
      row.append(name, element("td", hop.Asked || "–"), element("td", hop.Granted), element("td", hop.Why));
      body.append(row);
    });
    table.append(top, body);
    const scroll = element("div", undefined, "scroll");
    scroll.tabIndex = 0;
    scroll.append(table);
    details.append(summary, scroll);
    return details;
  }));
}

function say(words, className) {
  // Only what changes is read out.
  if (at("state").textContent !== words) at("state").textContent = words;
  at("state").className = className || "";
}

function show(figures) {
  const { Node: node, Levels, Topics, Workflows, Channels, Plugins, LeftOut } = figures;
  document.body.classList.remove("stale");
  document.title = `${node.NodeId}: TEMPOS node`;
  at("node").textContent = node.NodeId;
  const calibrating = node.Calibrating ? ` · calibrates, ${node.CalibrationPercent} %` : "";
  say(`${node.State} · TEMPOS ${node.Version} · wiring ${node.Generation}${calibrating}`, grade(node.State));
  at("degraded").replaceChildren(...node.Degraded.map((sentence) => element("li", sentence)));
  lanes(Levels);
  waterfall(Levels, Topics);
  for (const [id, all, key] of [["n-topics", Topics, "Topics"], ["n-workflows", Workflows, "Workflows"], ["n-channels", Channels, "Channels"], ["n-plugins", Plugins, "Plugins"]]) {
    at(id).textContent = LeftOut[key] ? `the first ${all.length} of ${count(all.length + LeftOut[key])}` : String(all.length);
  }
  rows("topics", Topics, (t) => [t.Level, stateCell(t), number(perSecond(t.Name, t.EventsIn)), number(t.EventsIn), number(t.EventsOut), number(t.EventsLate), number(t.Queued), number(p99OfWhole(t)), reasons(t.EventsDropped)]);
  rows("workflows", Workflows, (w) => [w.From, w.To || w.Branches.join(", ") || "–", w.Method, stateCell(w), number(w.EventsDone), number(w.Busy), number(w.Warm), number(p99(w.LatencyNs, "function") ? time(p99(w.LatencyNs, "function")) : "–"), reasons(w.Failures)]);
  rows("channels", Channels, (c) => [c.Adapter, c.Direction, c.Level, c.Address || "–", stateCell(c), number(c.FramesReceived), number(c.FramesSent), number(c.SendErrors)]);
  rows("plugins", Plugins, (p) => [p.PluginKind, p.Version, stateCell(p), p.Reason]);
  grants([...Topics, ...Workflows]);
  before = { at: performance.now(), topics: new Map(Topics.map((t) => [t.Name, t.EventsIn])) };
}

// Server-sent events out of a body: the data of those that are figures.
async function read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let silence;
    const late = new Promise((_, reject) => { silence = setTimeout(() => reject(new Error("the node is silent")), SILENCE_MS); });
    const { done, value } = await Promise.race([reader.read(), late]).catch((error) => { reader.cancel().catch(() => {}); throw error; }).finally(() => clearTimeout(silence));
    if (done) return;
    pause = 500;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const lines = event.split("\n");
      if (!lines.includes("event: figures")) continue;
      show(JSON.parse(lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n")));
    }
  }
}

function ask(why) {
  at("door").hidden = false;
  at("refused").textContent = why;
  say("a token is needed");
  return new Promise((resolve) => {
    at("door").onsubmit = (event) => {
      event.preventDefault();
      token = at("token").value.trim();
      sessionStorage.setItem("token", token);
      at("token").value = "";
      at("door").hidden = true;
      resolve();
    };
  });
}

async function follow() {
  for (;;) {
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const answer = await fetch("v1/live", { headers, cache: "no-store" });
      if (answer.status === 401) {
        await ask(token ? (await answer.json()).detail : "");
        continue;
      }
      if (!answer.ok) throw new Error((await answer.json()).detail);
      await read(answer.body);
    } catch (error) {
      document.body.classList.add("stale");
      before = null;
      say(`not connected, tried again: ${error.message}`, "bad");
    }
    await new Promise((wake) => { setTimeout(wake, pause); });
    pause = Math.min(pause * 2, PAUSE_MS_MAX);
  }
}

follow();

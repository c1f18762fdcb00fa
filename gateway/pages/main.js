// The page: puts its parts together and redraws them a few times a second, however fast channels tick.

import { Refused, base, call, get, logIn, onKeyNeeded, stream as streamPath } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { SendForm } from "./form.js";
import { Feed, perSecond } from "./model.js";
import { QueryBox } from "./query.js";
import { Catalogue } from "./schema.js";
import { Stream } from "./stream.js";
import { Table } from "./table.js";
import { Value } from "./value.js";

const DRAW_MS = 200;
const HEALTH_MS = 2000;
const ONE_COLUMN = matchMedia("(max-width: 960px)"); // as style.css has it: the detail is below the list
const TABS = ["value", "send", "state"];

class Page {
  constructor(feeds, catalogue) {
    this.feeds = new Map(feeds.map((feed) => [feed.path, feed]));
    this.catalogue = catalogue;
    this.states = catalogue.states();
    this.chosen = null;
    this.isPaused = false;
    this.table = new Table(feeds, (feed) => this.badges(feed), (feed) => this.choose(feed));
    this.stream = new Stream((message) => this.receive(message), showConnection);
    this.stream.open([...new Set(feeds.map((feed) => feed.channel))]);
    setInterval(() => this.draw(), DRAW_MS);
    setInterval(() => this.second(), 1000);
    setInterval(() => this.health(), HEALTH_MS);
    this.listen();
    this.health();
    const opened = new Date().toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    setText(byId("since"), `since ${opened}`);
    if (feeds.length) this.table.open(feeds[0]);
  }

  badges(feed) {
    const badges = [];
    if (this.catalogue.canSend(feed)) badges.push("send");
    if (this.states.includes(feed.channel)) badges.push("state");
    return badges;
  }

  receive(message) {
    const path = message.key === undefined ? message.channel : `${message.channel}/${message.key}`;
    const feed = this.feeds.get(path);
    if (feed && Array.isArray(message.data)) feed.take(message.data, Date.now());
  }

  choose(feed) {
    const isFirst = this.chosen === null;
    this.chosen = feed;
    const schema = this.catalogue.struct(feed.channel);
    setText(byId("detail-title"), feed.path);
    setText(byId("detail-type"), schema.title ?? "");
    this.value = new Value(byId("panel-value"), feed);
    this.form = this.catalogue.canSend(feed) ? new SendForm(byId("panel-send"), feed, this.catalogue) : null;
    if (!this.form) {
      byId("panel-send").replaceChildren(element("p", { class: "soft" }, "Clients cannot send to this channel."));
    }
    this.query = this.states.length ? new QueryBox(byId("panel-state"), this.states, feed.channel, feed.nested) : null;
    if (!this.query) byId("panel-state").replaceChildren(element("p", { class: "soft" }, "No channel keeps a state."));
    this.draw();
    if (ONE_COLUMN.matches && !isFirst) {
      byId("detail").scrollIntoView();
      byId("detail").focus({ preventScroll: true });
    }
  }

  draw() {
    if (this.isPaused) return;
    this.table.render(Date.now());
    if (this.chosen?.records) this.value.render();
  }

  second() {
    let rate = 0;
    for (const feed of this.feeds.values()) {
      feed.secondPassed();
      rate += feed.rate;
    }
    setText(byId("total-rate"), `${perSecond(rate)}/s`);
  }

  async health() {
    try {
      showHealth(readMetrics(await (await call("/metrics")).text()));
    } catch (error) {
      if (!(error instanceof Refused || error instanceof TypeError)) throw error;
      for (const id of ["readers", "queued", "dropped", "errors"]) setText(byId(id), "–");
    }
  }

  showTab(name, isFocused = true) {
    for (const tab of TABS) {
      const isChosen = tab === name;
      byId(`tab-${tab}`).setAttribute("aria-selected", String(isChosen));
      byId(`tab-${tab}`).tabIndex = isChosen ? 0 : -1;
      byId(`panel-${tab}`).hidden = !isChosen;
    }
    if (isFocused) byId(`tab-${name}`).focus();
  }

  pause() {
    this.isPaused = !this.isPaused;
    byId("pause").setAttribute("aria-pressed", String(this.isPaused));
    setText(byId("pause"), this.isPaused ? "Resume" : "Pause");
    this.draw();
  }

  listen() {
    byId("filter").addEventListener("input", (event) => this.table.filter(event.target.value));
    byId("filter").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") this.table.focus();
    });
    byId("pause").addEventListener("click", () => this.pause());
    byId("back").addEventListener("click", () => this.table.focusOpened());
    for (const tab of TABS) byId(`tab-${tab}`).addEventListener("click", () => this.showTab(tab));
    byId("tabs").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = TABS.findIndex((tab) => byId(`tab-${tab}`).getAttribute("aria-selected") === "true");
      this.showTab(TABS[(at + step + TABS.length) % TABS.length]);
      event.preventDefault();
    });
    document.addEventListener("keydown", (event) => this.shortcut(event));
  }

  shortcut(event) {
    if (event.key === "Escape") return this.table.focusOpened();
    if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    const open = (tab, part) => () => {
      this.showTab(tab, !part);
      part?.focus();
    };
    const actions = {
      "/": () => byId("filter").focus(),
      p: () => this.pause(),
      s: open("send", this.form),
      q: open("state", this.query),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }
}

function showConnection(state) {
  byId("connection").dataset.state = state;
  setText(byId("connection").querySelector("dd"), state === "open" ? "live" : state === "lost" ? "lost, trying again" : state);
}

function showHealth(metrics) {
  const queued = metrics.get("gateway_queued_messages") ?? 0;
  const dropped = (metrics.get("gateway_dropped_messages_total") ?? 0) + (metrics.get("gateway_slow_closes_total") ?? 0);
  const errors = metrics.get("gateway_handler_errors_total") ?? 0;
  setText(byId("readers"), String(metrics.get("gateway_connections") ?? 0));
  setText(byId("queued"), `${queued.toLocaleString("en")} (${(metrics.get("gateway_queued_bytes") / 1e6 || 0).toFixed(1)} MB)`);
  setText(byId("dropped"), dropped.toLocaleString("en"));
  setText(byId("errors"), errors.toLocaleString("en"));
  byId("queue").dataset.level = queued > 1000 ? "warn" : "";
  byId("losses").dataset.level = dropped > 0 ? "warn" : "";
  byId("faults").dataset.level = errors > 0 ? "bad" : "";
}

/** The metrics without labels, by name. */
function readMetrics(text) {
  const found = [...text.matchAll(/^(gateway_\w+) ([-+.\deE]+)$/gm)];
  return new Map(found.map(([, name, value]) => [name, Number(value)]));
}

function askForKey() {
  const dialog = byId("login");
  return new Promise((resolve) => {
    const check = async (event) => {
      event.preventDefault();
      if (await logIn(byId("key").value)) {
        dialog.removeEventListener("submit", check);
        dialog.close();
        byId("key").value = "";
        setText(byId("login-error"), "");
        resolve();
      } else setText(byId("login-error"), "That key is not known here.");
    };
    dialog.addEventListener("submit", check);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    if (!dialog.open) dialog.showModal();
  });
}

async function start() {
  onKeyNeeded(shared(askForKey));
  const [openapi, paths] = await Promise.all([get("/openapi.json"), get(base + streamPath)]);
  const catalogue = new Catalogue(openapi, base);
  const feeds = paths.filter((path) => path !== "heartbeat").map((path) => {
    const at = path.indexOf("/");
    const [channel, key] = at < 0 ? [path, null] : [path.slice(0, at), path.slice(at + 1)];
    return new Feed(channel, key, catalogue.nested(channel));
  });
  new Page(feeds, catalogue);
}

/** Several calls at once ask only one question. */
function shared(ask) {
  let asked = null;
  return () => (asked ??= ask().finally(() => (asked = null)));
}

start().catch((error) => {
  byId("connection").dataset.state = "lost";
  setText(byId("connection").querySelector("dd"), error.message);
});

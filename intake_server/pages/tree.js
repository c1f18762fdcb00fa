// The tree of catalogs: loaded level by level, used with the mouse or with the arrow keys.

import { make } from "./dom.js";
import { ask, joined } from "./server.js";

const PAGE = 200;

export class Tree {
  constructor(root, choose, fail) {
    this.root = root;
    this.choose = choose;
    this.fail = fail;
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  async show(path = [], query = {}) {
    this.root.replaceChildren();
    await this.more(this.root, path, query, 0);
    const first = this.root.querySelector("[role=treeitem]");
    if (first) first.tabIndex = 0;
    else this.root.append(make("li", { class: "quiet", role: "none" }, "Nothing is here."));
  }

  async more(list, path, query, offset) {
    const place = path.length ? `api/catalog/${joined(path)}` : "api/catalog";
    const found = await ask(place, { ...query, offset, limit: PAGE });
    list.append(...found.entries.map((entry) => this.item(entry)));
    const shown = offset + found.entries.length;
    if (shown >= found.length) return;
    const button = make("button", {
      onclick: () => this.guarded(async () => {
        row.remove();
        await this.more(list, path, query, shown);
      }),
    }, `${found.length - shown} more`);
    const row = make("li", { role: "none" }, button);
    list.append(row);
  }

  item(entry) {
    const label = make("span", { class: "label" }, entry.name);
    const item = make("li", {
      role: "treeitem", tabindex: -1, "aria-label": entry.name, title: entry.description,
      "aria-selected": "false", "aria-expanded": entry.is_catalog ? "false" : null,
    }, label);
    item.entry = entry;
    label.addEventListener("click", () => this.activate(item));
    return item;
  }

  activate(item) {
    this.focus(item);
    if (item.hasAttribute("aria-expanded")) {
      return this.guarded(() => this.expand(item, item.getAttribute("aria-expanded") === "false"));
    }
    this.choose(item.entry.path);
    return undefined;
  }

  async expand(item, isOpen) {
    let list = item.querySelector(":scope > [role=group]");
    if (isOpen && !list) {
      list = make("ul", { role: "group" });
      await this.more(list, item.entry.path, {}, 0);
      item.append(list);
    }
    if (list) list.hidden = !isOpen;
    item.setAttribute("aria-expanded", String(isOpen));
  }

  mark(path) {
    for (const item of this.items(true)) {
      item.setAttribute("aria-selected", String(joined(item.entry.path) === joined(path)));
    }
  }

  items(hiddenToo = false) {
    const all = [...this.root.querySelectorAll("[role=treeitem]")];
    return hiddenToo ? all : all.filter((item) => !item.closest("[role=group][hidden]"));
  }

  focus(item) {
    for (const other of this.items(true)) other.tabIndex = -1;
    item.tabIndex = 0;
    item.focus();
  }

  onKey(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.target !== item || event.ctrlKey || event.altKey || event.metaKey) return;
    const items = this.items(), at = items.indexOf(item);
    const parent = item.parentElement.closest("[role=treeitem]");
    const isOpen = item.getAttribute("aria-expanded");
    const steps = {
      ArrowDown: () => items[at + 1] && this.focus(items[at + 1]),
      ArrowUp: () => items[at - 1] && this.focus(items[at - 1]),
      Home: () => this.focus(items[0]),
      End: () => this.focus(items.at(-1)),
      Enter: () => this.activate(item),
      " ": () => this.activate(item),
      ArrowRight: () => {
        if (isOpen === "false") this.guarded(() => this.expand(item, true));
        else if (isOpen === "true" && items[at + 1]) this.focus(items[at + 1]);
      },
      ArrowLeft: () => {
        if (isOpen === "true") this.guarded(() => this.expand(item, false));
        else if (parent) this.focus(parent);
      },
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    steps[event.key]();
  }

  async guarded(work) {
    try {
      await work();
    } catch (error) {
      this.fail(error);
    }
  }
}

// The browse page: a tree of catalogs on the left, one entry on the right, the address in the fragment.

import { make } from "./dom.js";
import { entryPage } from "./entry.js";
import { forgetKey, hasKey, joined, useKey } from "./server.js";
import { Tree } from "./tree.js";

const main = document.getElementById("entry");
const unlock = document.getElementById("unlock");
const tree = new Tree(document.getElementById("tree"), (path) => { location.hash = `#/${joined(path)}`; }, fail);
let shown = 0;

function fail(error) {
  if (error.status === 403 && !unlocked) {
    unlock.hidden = false;
    document.getElementById("refused").textContent = hasKey() ? "This key is not accepted." : "";
    forgetKey();
    document.getElementById("key").focus();
    return;
  }
  main.replaceChildren(make("p", { class: "error", role: "alert" }, error.message));
}

let unlocked = false;

async function start() {
  try {
    await tree.show();
    unlocked = true;
    unlock.hidden = true;
    await show();
  } catch (error) {
    fail(error);
  }
}

const chosen = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);

async function show(parameters = {}) {
  const path = chosen(), number = ++shown;
  tree.mark(path);
  document.title = path.length ? `${path.join(" / ")} · Catalog` : "Catalog";
  if (!path.length) {
    main.replaceChildren(make("p", { class: "quiet" }, "Choose an entry."));
    return;
  }
  try {
    const parts = await entryPage(path, parameters, show);
    if (number !== shown) return;
    main.replaceChildren(...parts.filter((part) => part !== null));
    main.focus({ preventScroll: true });
  } catch (error) {
    if (number === shown) fail(error);
  }
}

unlock.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(document.getElementById("key").value);
  start();
});

document.getElementById("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = document.getElementById("words").value.trim();
  try {
    await tree.show([], words ? { search: words, depth: 4 } : {});
  } catch (error) {
    fail(error);
  }
});

addEventListener("hashchange", () => show());
start();

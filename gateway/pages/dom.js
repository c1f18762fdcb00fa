// Elements made from data. Text only ever becomes text nodes, so nothing that ticks can become markup.

/** A new element with attributes and children; children are elements or plain text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Change a text only where it differs: what has not changed is not painted again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

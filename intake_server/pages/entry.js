// The page of one entry: what it is, how to open it, its first rows and a plot of them.

import { chart, COLOURS } from "./chart.js";
import { make } from "./dom.js";
import { address, ask, base, file, hasKey, joined } from "./server.js";

const ROWS = 20, PLOTTED = 500;

export async function entryPage(path, parameters, reload) {
  const place = `api/entry/${joined(path)}`;
  const described = await ask(place);
  const parts = [
    make("h2", {}, path.join(" / ")),
    described.description ? make("p", {}, described.description) : null,
  ];
  if (described.user_parameters.length) parts.push(...parameterForm(described.user_parameters, parameters, reload));
  if (described.is_catalog) {
    parts.push(make("p", { class: "quiet" }, "This is a catalog."), ...python(path, {}, { isCatalog: true }), ...metadata(described.metadata));
    return parts;
  }
  let opened;
  try {
    opened = await ask(place, { ...prefixed(parameters), open: "true" });
  } catch (error) {
    parts.push(make("p", { class: "error" }, `It cannot be opened: ${error.message}`), ...python(path, parameters));
    return parts;
  }
  parts.splice(2, 0, facts(opened));
  parts.push(...python(path, parameters, opened), ...schema(opened), ...metadata(opened.metadata));
  if (opened.variables) return [...parts, ...variables(opened.variables, path, parameters)];
  parts.push(...downloads(opened, parameters));
  const shown = make("div", { id: "shown" }, make("p", { class: "quiet" }, "Reading the first rows …"));
  parts.push(shown);
  firstRows(opened, path, parameters).then(
    (found) => shown.replaceChildren(...found),
    (error) => shown.replaceChildren(make("p", { class: "error" }, `It cannot be read: ${error.message}`)),
  );
  return parts;
}

const prefixed = (parameters) => Object.fromEntries(Object.entries(parameters).map(([name, value]) => [`p.${name}`, value]));

function facts({ container, driver, shape, npartitions, direct_access: access }) {
  const names = Array.isArray(driver) ? driver : Object.keys(driver);
  const size = shape?.some((length) => length !== null) ? `, ${shape.map((length) => length ?? "?").join(" × ")}` : "";
  const pieces = npartitions === 1 ? "one partition" : `${npartitions} partitions`;
  return make("p", { class: "quiet" }, `${container}${size}, ${pieces}, driver ${names.join(" or ")}, direct access: ${access}`);
}

function parameterForm(declared, given, reload) {
  const fields = declared.map((parameter) => {
    const value = given[parameter.name] ?? textOf(parameter.default);
    const input = parameter.allowed
      ? make("select", { name: parameter.name },
          ...parameter.allowed.map((choice) => make("option", { selected: textOf(choice) === value }, textOf(choice))))
      : make("input", { name: parameter.name, value });
    return make("label", { title: parameter.description }, `${parameter.name} (${parameter.type})`, input);
  });
  const form = make("form", {
    class: "parameters",
    onsubmit: (event) => {
      event.preventDefault();
      const chosen = {};
      for (const { name, default: unless } of declared) {
        const value = new FormData(form).get(name);
        if (value !== textOf(unless)) chosen[name] = value;
      }
      reload(chosen);
    },
  }, ...fields, make("button", {}, "Open with these"));
  return [make("h3", {}, "Parameters"), form];
}

const textOf = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

function python(path, parameters, { isCatalog = false, container = null } = {}) {
  const where = `intake://${base.host}${base.pathname.replace(/\/$/, "")}`;
  const options = [
    base.protocol === "https:" ? '"ssl": True' : "",
    hasKey() ? '"headers": {"Authorization": "Bearer KEY", "intake-secret": "KEY"}' : "",
  ].filter(Boolean);
  const more = options.length ? `, storage_options={${options.join(", ")}}` : "";
  const given = Object.entries(parameters).map(([name, value]) => `${quoted(name)}: ${quoted(value)}`);
  const call = given.length ? `(**{${given.join(", ")}})` : "";
  const at = path.map((name) => `[${quoted(name)}]`).join("");
  const lines = [
    container === "xarray" ? "import intake, intake_xarray" : "import intake",
    `catalog = intake.open_catalog(${quoted(where)}${more})`,
    isCatalog ? `names = list(catalog${at})` : `data = catalog${at}${call}.read()`,
  ];
  const text = lines.join("\n");
  const shown = make("pre", { id: "python" }, text);
  const button = make("button", { onclick: async () => {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
    } else { // browsers have none on plain HTTP
      getSelection().selectAllChildren(shown);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  } }, "Copy");
  return [make("h3", {}, "Python"), make("div", { class: "with-button" }, shown, button)];
}

// A JSON string is a Python string, but for lone surrogates, which neither can print.
const quoted = (text) => JSON.stringify(text);

function schema({ container, dtype, shape, chunks }) {
  if (container === "dataframe") {
    const rows = Object.entries(dtype ?? {}).map(([name, kind]) => make("tr", {}, make("td", {}, name), make("td", {}, kind)));
    const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "column"), make("th", { scope: "col" }, "type")));
    return [make("h3", {}, "Schema"), make("div", { class: "scroll" }, make("table", { id: "schema" }, head, make("tbody", {}, ...rows)))];
  }
  if (container !== "ndarray") return [];
  const blocks = (chunks ?? []).map((axis) => (axis.length > 8 ? `${axis.length} blocks` : axis.join(" + ")));
  return [make("h3", {}, "Schema"), make("p", { id: "schema" }, `${dtype}, shape ${JSON.stringify(shape)}, in blocks of ${blocks.join(" by ")}`)];
}

function metadata(found) {
  if (!found || !Object.keys(found).length) return [];
  return [make("h3", {}, "Metadata"), make("pre", {}, JSON.stringify(found, null, 2))];
}

function downloads({ formats }, parameters) {
  const links = formats.map(({ name, media_type: media, url }) => {
    const target = address(url, prefixed(parameters));
    const link = make("a", { href: target, title: media, download: true }, name);
    if (hasKey()) {
      link.addEventListener("click", async (event) => {
        event.preventDefault();
        const made = URL.createObjectURL(await file(target));
        make("a", { href: made, download: fileName(url) }).click();
        setTimeout(() => URL.revokeObjectURL(made), 60_000);
      });
    }
    return make("li", {}, link);
  });
  return [make("h3", {}, "Download"), make("ul", { class: "downloads" }, ...links)];
}

function fileName(url) {
  const { pathname, searchParams } = new URL(url, base);
  const name = decodeURIComponent(pathname.split("/").at(-1));
  const variable = searchParams.get("variable");
  return variable === null ? name : name.replace(/\.(\w+)$/, `-${variable}.$1`);
}

// A data set: a table of its variables, and the one that is chosen.
function variables(found, path, parameters) {
  const chosen = make("div", { id: "variable" });
  const choose = async (variable) => {
    for (const row of body.children) row.classList.toggle("chosen", row.dataset.name === variable.name);
    const shown = make("div", { id: "shown" }, make("p", { class: "quiet" }, "Reading …"));
    chosen.replaceChildren(make("h3", {}, variable.name), ...downloads(variable, parameters), shown);
    const query = { ...prefixed(parameters), variable: variable.name };
    try {
      shown.replaceChildren(...await arrayParts(variable, `data/${joined(path)}`, { ...query, format: "json" }, query));
    } catch (error) {
      shown.replaceChildren(make("p", { class: "error" }, `It cannot be read: ${error.message}`));
    }
  };
  const head = make("thead", {}, make("tr", {}, ...["variable", "type", "axes"].map((title) => make("th", { scope: "col" }, title))));
  const body = make("tbody", {}, ...found.map((variable) => {
    const axes = variable.dimensions.map((name, axis) => `${name}: ${variable.shape[axis]}`).join(", ");
    const button = make("button", { class: "name", onclick: () => choose(variable) }, variable.name);
    return make("tr", { "data-name": variable.name }, make("td", {}, button), make("td", {}, variable.dtype), make("td", {}, axes || "a single value"));
  }));
  const first = found.toSorted((one, other) => other.shape.length - one.shape.length)[0];
  if (first) choose(first);
  return [make("h3", {}, "Variables"), make("div", { class: "scroll" }, make("table", { id: "schema" }, head, body)), chosen];
}

async function firstRows(opened, path, parameters) {
  const place = `data/${joined(path)}`;
  const query = { ...prefixed(parameters), format: "json" };
  if (opened.container === "dataframe") {
    const rows = await ask(place, { ...query, rows: `0:${PLOTTED}` });
    const columns = rows.length ? Object.keys(rows[0]) : Object.keys(opened.dtype ?? {});
    return [...rowsTable(columns, rows.slice(0, ROWS).map((row) => columns.map((name) => row[name]))), ...plot(columns, rows)];
  }
  if (opened.container === "ndarray") return arrayParts(opened, place, query, prefixed(parameters));
  if (opened.container !== "python") return [];
  const values = await ask(place, { ...query, rows: `0:${ROWS}` });
  const listed = Array.isArray(values) ? values : [values];
  return [make("h3", {}, "First elements"), make("pre", { id: "rows" }, listed.map((value) => JSON.stringify(value)).join("\n"))];
}

function rowsTable(columns, rows) {
  const head = make("thead", {}, make("tr", {}, ...columns.map((name, number) => {
    const isNumber = rows.some((row) => typeof row[number] === "number");
    return make("th", { scope: "col", class: isNumber ? "number" : null }, name);
  })));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell))));
  return [make("h3", {}, `First ${rows.length} rows`),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "First rows" }, make("table", { id: "rows" }, head, body))];
}

function cell(value) {
  if (value === null || value === undefined) return make("td", { class: "missing" }, "–");
  const text = textOf(value);
  return make("td", { class: typeof value === "number" ? "number" : null, title: text.length > 40 ? text : null }, text);
}

function plot(columns, rows) {
  const numeric = columns.filter((name) => rows.some((row) => typeof row[name] === "number"));
  if (!numeric.length) return [];
  const series = numeric.slice(0, COLOURS.length).map((name, number) => ({
    name, colour: COLOURS[number], values: rows.map((row) => row[name]),
  }));
  const area = make("div", { id: "plot" });
  const boxes = series.map(({ name, colour }, number) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = colour;
    return make("label", {}, make("input", { type: "checkbox", checked: number < 1, onchange: redraw }), swatch, name);
  });
  function redraw() {
    const chosen = series.filter((_, number) => boxes[number].firstChild.checked);
    area.replaceChildren(chart(chosen) ?? make("p", { class: "quiet" }, "Nothing is chosen."));
  }
  redraw();
  return [make("h3", {}, `Plot of the first ${rows.length} rows`), make("div", { class: "choices" }, ...boxes), area];
}

async function arrayParts({ shape, dtype }, place, query, more) {
  const axes = shape.length;
  if (axes === 1) {
    const values = await ask(place, { ...query, slice: `:${PLOTTED}` });
    const drawn = chart([{ name: "values", colour: COLOURS[0], values }]);
    return [make("h3", {}, "First values"), make("pre", { id: "rows" }, JSON.stringify(values.slice(0, ROWS))),
      ...(drawn ? [make("h3", {}, `Plot of the first ${values.length} values`), make("div", { id: "plot" }, drawn)] : [])];
  }
  const leading = Array(Math.max(0, axes - 2)).fill("0");
  const corner = await ask(place, axes ? { ...query, slice: [...leading, ":10", ":10"].join(",") } : query);
  const parts = axes
    ? rowsTable(corner[0]?.map((_, number) => String(number)) ?? [], corner)
    : [make("h3", {}, "Value"), make("pre", { id: "rows" }, JSON.stringify(corner))];
  if (axes >= 2 && /^[<>|]?(bool|u?int|float|complex|[biufc]\d)/.test(dtype)) {
    const picture = await file(address(place, { ...more, format: "png" }));
    parts.push(make("h3", {}, "Picture"), make("div", { id: "plot" },
      make("img", { class: "preview", src: URL.createObjectURL(picture), alt: "The array from dark (small) to bright (large)" })));
  }
  return parts;
}

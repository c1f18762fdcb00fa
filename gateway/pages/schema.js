// What the OpenAPI document says about channels: their structs, their keys, what can be sent, what has a state.

/** Reads the document of one gateway. */
export class Catalogue {
  constructor(openapi, base) {
    this.openapi = openapi;
    this.base = base;
  }

  operation(path, method) {
    return this.openapi.paths[this.base + path]?.[method] ?? null;
  }

  /** The JSON schema of a channel's struct, with references resolved. */
  struct(channel) {
    const found =
      this.operation(`/last/${channel}`, "get") ?? this.operation(`/last/${channel}/{key}`, "get");
    const schema = found?.responses?.["200"]?.content?.["application/json"]?.schema;
    return this.resolve(schema?.items ?? {});
  }

  /** The dotted names of a channel's members that are structs themselves. */
  nested(channel) {
    const found = new Set();
    const visit = (schema, prefix) => {
      for (const [name, member] of Object.entries(schema.properties ?? {})) {
        const path = prefix + name;
        const plain = this.plain(member);
        if (plain.properties && path.split(".").length < 5) {
          found.add(path);
          visit(plain, `${path}.`);
        }
      }
    };
    visit(this.struct(channel), "");
    return found;
  }

  canSend(feed) {
    const path = feed.key === null ? `/send/${feed.channel}` : `/send/${feed.channel}/{key}`;
    return this.operation(path, "post") !== null;
  }

  /** The aliases of all states. */
  states() {
    const prefix = `${this.base}/state/`;
    return Object.keys(this.openapi.paths)
      .filter((path) => path.startsWith(prefix) && path.length > prefix.length && !path.includes("{"))
      .map((path) => path.slice(prefix.length));
  }

  resolve(schema) {
    if (!schema?.$ref) return schema ?? {};
    const target = schema.$ref.replace("#/", "").split("/");
    const found = target.reduce((node, name) => node?.[name], this.openapi) ?? {};
    return { ...found, ...Object.fromEntries(Object.entries(schema).filter(([name]) => name !== "$ref")) };
  }

  /** The one type of a member, null left aside: {type, format, enum, …}. */
  plain(schema) {
    const resolved = this.resolve(schema);
    const options = (resolved.anyOf ?? resolved.oneOf ?? []).map((option) => this.resolve(option));
    const real = options.filter((option) => option.type !== "null");
    if (!options.length) return resolved;
    return real.length === 1 ? { ...real[0], default: resolved.default } : { default: resolved.default };
  }
}

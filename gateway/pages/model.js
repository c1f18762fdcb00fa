// What the page knows of each feed: counts, rate, last value, and the recent past of every number.

export const REMEMBERED = 80;
const RATE_SECONDS = 5;

/** One channel, or one key of a basket. */
export class Feed {
  constructor(channel, key, nested) {
    this.channel = channel;
    this.key = key;
    this.nested = nested;
    this.path = key === null ? channel : `${channel}/${key}`;
    this.ticks = 0;
    this.lastAt = null;
    this.records = null;
    this.series = new Map();
    this.isFresh = false;
    this.perSecond = new Array(RATE_SECONDS).fill(0);
    this.thisSecond = 0;
  }

  take(records, now) {
    this.ticks += 1;
    this.thisSecond += 1;
    this.lastAt = now;
    this.records = records;
    this.isFresh = true;
    for (const record of records) {
      for (const [field, value] of flatten(record, this.nested)) {
        if (typeof value === "number") this.remember(field, value);
      }
    }
  }

  remember(field, value) {
    let values = this.series.get(field);
    if (!values) this.series.set(field, (values = []));
    values.push(value);
    if (values.length > REMEMBERED) values.shift();
  }

  secondPassed() {
    this.perSecond.shift();
    this.perSecond.push(this.thisSecond);
    this.thisSecond = 0;
  }

  get rate() {
    return this.perSecond.reduce((sum, count) => sum + count, 0) / RATE_SECONDS;
  }
}

/** The members of a record; those of nested structs, which `nested` names, with dotted names. */
export function* flatten(record, nested, prefix = "") {
  for (const [name, value] of Object.entries(record)) {
    const path = prefix + name;
    if (value !== null && nested.has(path)) yield* flatten(value, nested, `${path}.`);
    else yield [path, value];
  }
}

/** A value as short text. */
export function brief(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(7)));
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.length > 3) return `[${value.length} items]`;
  return JSON.stringify(value);
}

/** A time span for people. */
export function age(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

/** A rate for people. */
export function perSecond(rate) {
  if (rate === 0) return "0";
  return rate >= 100 ? Math.round(rate).toLocaleString("en") : rate.toFixed(1);
}

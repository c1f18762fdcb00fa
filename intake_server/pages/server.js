// Asking the server: JSON, data and files, with the key that the visitor gave.

export const base = new URL("../", new URL(".", import.meta.url));
const KEY = "intake_server.key";

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

export const joined = (path) => path.map(encodeURIComponent).join("/");

export function address(place, query = {}) {
  const url = new URL(place, base);
  for (const [name, value] of Object.entries(query)) url.searchParams.append(name, value);
  return url;
}

async function answered(url, accept) {
  const key = sessionStorage.getItem(KEY);
  const headers = { Accept: accept };
  if (key !== null) Object.assign(headers, { Authorization: `Bearer ${key}`, "intake-secret": key });
  const answer = await fetch(url, { headers });
  if (answer.ok) return answer;
  let reason = `the server answered ${answer.status}`;
  try {
    reason = (await answer.json()).error.reason;
  } catch { /* an answer of something between us and the server */ }
  throw new Refused(answer.status, reason);
}

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

// JSON in which integers that no number of JavaScript holds are texts: they are shown, and must be shown as they are.
export function exact(text) {
  const isLost = (token) => /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
  return JSON.parse(text.replace(TOKENS, (token) => (isLost(token) ? `"${token}"` : token)));
}

export async function ask(place, query) {
  return exact(await (await answered(address(place, query), "application/json")).text());
}

export async function file(url) {
  return (await answered(url, "*/*")).blob();
}

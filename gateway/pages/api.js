// The gateway's own REST API, as this page uses it.

const settings = JSON.parse(document.querySelector("meta[name=gateway]").content);

/** Root path of the server, base path of the API, path of the stream, name of the key. */
export const { root, base, stream, keyName } = settings;

/** An answer other than success; `detail` is the server's. */
export class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : `status ${status}`);
    this.status = status;
    this.detail = detail;
  }
}

let askForKey = null;

/** Who asks the person for a key when the server wants one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Call the server. Answers the response; asks for a key first, when that is what is missing. */
export async function call(path, options = {}) {
  for (;;) {
    const response = await fetch(root + path, { credentials: "same-origin", ...options });
    if (response.ok) return response;
    const detail = await readDetail(response);
    if (response.status === 403 && detail === "unauthorized" && askForKey && (await isLoggedOut())) {
      await askForKey();
      continue;
    }
    throw new Refused(response.status, detail);
  }
}

/** The JSON of a successful answer. */
export async function get(path) {
  return (await call(path)).json();
}

/** Send JSON, and read JSON. */
export async function post(path, value) {
  const headers = { "content-type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(value) })).json();
}

/** Trade a key for the cookie that the browser then sends by itself. */
export async function logIn(key) {
  const headers = { [keyName]: key };
  await fetch(`${root}${base}/auth/login`, { headers, credentials: "same-origin", redirect: "manual" });
  return !(await isLoggedOut());
}

async function isLoggedOut() {
  const response = await fetch(`${root}${base}${stream}`, { credentials: "same-origin" });
  return response.status === 403;
}

async function readDetail(response) {
  try {
    return (await response.json()).detail ?? response.statusText;
  } catch {
    return response.statusText;
  }
}

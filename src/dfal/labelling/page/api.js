// The HTTP API, and what every view knows: who labels, the classes, how far it is.

export const state = {
  person: "",
  holder: holder(),
  classes: [],
  progress: null,
  model: 0,
};

/** This page's own name for the questions that it holds. It survives a reload, and a second tab gets another one. */
function holder() {
  const kept = sessionStorage.getItem("holder");
  sessionStorage.removeItem("holder");
  const own = kept ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  addEventListener("pagehide", () => sessionStorage.setItem("holder", own));
  addEventListener("pageshow", () => sessionStorage.removeItem("holder"));
  return own;
}

/** The server's refusal: a sentence. */
export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The server did not answer. */
export class Silence extends Error {}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Silence("The server does not answer: is dfal label still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const detail = body.detail;
  const sentence = typeof detail === "string" ? detail : detail?.map?.((one) => one.msg).join("; ");
  throw new Refusal(response.status, sentence ?? `The server answered ${response.status}.`);
}

export const get = (path) => request(path);

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  const found = await request(path, { method: "POST", headers, body: JSON.stringify(body) });
  return found;
}

/** Send until it is acknowledged. To send an answer again changes nothing, so that none is lost and none counts twice. */
export async function surely(path, body, waiting) {
  for (let pause = 300; ; pause = Math.min(2 * pause, 5000)) {
    try {
      const found = await post(path, body);
      waiting("");
      return found;
    } catch (error) {
      if (error instanceof Refusal && error.status !== 507 && error.status !== 429) {
        waiting("");
        throw error;
      }
      waiting(`Not saved yet. ${error.message} Trying again …`);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

export const image = (index) => `/api/images/${index}`;
export const small = (index) => `/api/images/${index}?small=true`;

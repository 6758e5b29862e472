// The HTTP API, and what every view knows: who labels, the classes, how far it is.

export const state = {
  person: "",
  holder: holder(),
  classes: [],
  keys: new Map(JSON.parse(sessionStorage.getItem("keys") ?? "[]")), // of each class, by its name; they survive a reload
  progress: null,
  model: 0,
  store: "", // which one this page was opened over
  moved: false, // whether the server has another one by now
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

/** Give back what this page was asked: somebody else may be waiting for it. It is sent even while the page is closing. */
export function leave() {
  const body = JSON.stringify({ person: state.person, client_id: state.holder });
  if (state.person) navigator.sendBeacon(address("api/leave"), new Blob([body], { type: "application/json" }));
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

const OTHER_STORE = 412;

/** A path with the store of this page, relative to the page: it may be under any prefix. A server with another store refuses it. */
export const address = (path) => (state.store ? `${path}${path.includes("?") ? "&" : "?"}store=${state.store}` : path);

async function request(path, options) {
  let response;
  try {
    response = await fetch(address(path), options);
  } catch {
    throw new Silence("The server does not answer: is dfal label still running?");
  }
  const body = await response.json().catch(() => ({}));
  state.moved = response.status === OTHER_STORE;
  if (response.ok) {
    if (typeof body.store === "string") state.store ||= body.store;
    return body;
  }
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

/** What the server says of this very answer. Whatever else goes wrong can come right: a link that was not right, a full disk. */
const FINAL = new Set([404, 409, 422]);

/** Send until it is acknowledged. To send an answer again changes nothing, so that none is lost and none counts twice. */
export async function surely(path, body, waiting) {
  for (let pause = 300; ; pause = Math.min(2 * pause, 5000)) {
    try {
      const found = await post(path, body);
      waiting("");
      return found;
    } catch (error) {
      if (FINAL.has(error.status)) {
        waiting("");
        throw error;
      }
      waiting(`Not saved yet. ${sentence(error.message)} Trying again …`);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** The server's words begin small and have no stop. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!…]$/.test(text) ? "" : ".");

/** The address of a picture has the version of its content in it: no browser shows another one's from its cache. */
const versioned = (path, { version }) => (version ? `${path}${path.includes("?") ? "&" : "?"}version=${version}` : path);
export const image = (one) => versioned(`api/images/${one.image}`, one);
export const small = (one) => versioned(`api/images/${one.image}?small=true`, one);
export const twin = (question, found, part) => versioned(`api/questions/${question.id}/${part}`, found);

/** Why a picture does not come: where that can change it is tried again, else `gone` hears whether the server has set it aside. */
export async function failed(element, one, gone) {
  const error = await get(image(one)).then(() => null, (reason) => reason);
  const aside = error?.status === 400 || error?.status === 404;
  if (error && !aside) setTimeout(() => (element.src = element.getAttribute("src")), 2000);
  else gone(aside, sentence(error?.message ?? "this browser cannot show the image"));
}

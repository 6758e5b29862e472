// The HTTP API, and what every view knows: who labels, the classes, the progress.

/** @import { components } from "dfal-api" */
/** @typedef {components["schemas"]["QuestionReply"]} Question */
/** @typedef {components["schemas"]["ReviewedReply"]} Reviewed */
/** @typedef {components["schemas"]["StatusReply"]} Status */
/** @typedef {components["schemas"]["ProgressReply"]} Progress */
/** @typedef {components["schemas"]["ReasonReply"]} Reason */
/** @typedef {{ image: number, version: string | null }} Versioned an image and the name of its content */

export const state = {
  person: "",
  clientId: claimClientId(),
  /** @type {string[]} */
  classes: [],
  /** The key of each class, by the class's name. They survive a reload. */
  keys: storedKeys(),
  /** @type {Progress | null} */
  progress: null,
  model: 0,
  /** The store that this page was opened over. */
  store: "",
  /** Whether the server has another store now. */
  moved: false,
};

/** @returns {Map<string, string>} */
function storedKeys() {
  return new Map(JSON.parse(sessionStorage.getItem("keys") ?? "[]"));
}

/** Return the id under which this page holds questions. It survives a reload; a second tab gets another one. */
function claimClientId() {
  const stored = sessionStorage.getItem("clientId");
  sessionStorage.removeItem("clientId");
  const bytes = Array.from(crypto.getRandomValues(new Uint8Array(16)));
  const id = stored ?? bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  addEventListener("pagehide", () => sessionStorage.setItem("clientId", id));
  addEventListener("pageshow", () => sessionStorage.removeItem("clientId"));
  return id;
}

/** Return who asks, as the API wants it. */
export const client = () => ({ person: state.person, client_id: state.clientId });

/** Release this page's questions: somebody else may be waiting for them. It is sent even while the page closes. */
export function leave() {
  const body = new Blob([JSON.stringify(client())], { type: "application/json" });
  if (state.person) navigator.sendBeacon(address("api/leave"), body);
}

/** The server refused a request. The message is its sentence. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} sentence
   */
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The server did not answer. */
export class NetworkError extends Error {}

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

const OTHER_STORE = 412;

/**
 * Return a path with a query parameter more.
 * @param {string} path
 * @param {string} name
 * @param {string | null} value
 */
const withQuery = (path, name, value) =>
  value ? `${path}${path.includes("?") ? "&" : "?"}${name}=${value}` : path;

/**
 * Return an address with the store of this page, relative to the page, which may be under any prefix. A server
 * with another store refuses it.
 * @param {string} path
 */
export const address = (path) => withQuery(path, "store", state.store);

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function request(path, options) {
  let response;
  try {
    response = await fetch(address(path), options);
  } catch {
    throw new NetworkError("The server does not answer: is dfal label still running?");
  }
  const body = await response.json().catch(() => ({}));
  state.moved = response.status === OTHER_STORE;
  if (!response.ok) {
    throw new ApiError(response.status, body.detail ?? `The server answered ${response.status}.`);
  }
  if (typeof body.store === "string") state.store ||= body.store;
  return body;
}

/** @param {string} path */
export const get = (path) => request(path);

/**
 * @param {string} path
 * @param {object} body
 */
export function post(path, body) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Statuses about this very answer. Everything else can come right: an expired link, a full disk. */
const FINAL = new Set([404, 409, 422]);
const FIRST_PAUSE = 300; // ms
const LONGEST_PAUSE = 5000; // ms

/**
 * Send an answer until the server has stored it. A repeated answer counts once, so that none is lost.
 * @param {string} path
 * @param {object} body
 * @param {(text: string) => void} waiting is told why the answer is not saved yet; empty once it is
 * @returns {Promise<Status>}
 */
export async function postUntilSaved(path, body, waiting) {
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      const status = await post(path, body);
      waiting("");
      return status;
    } catch (error) {
      if (error instanceof ApiError && FINAL.has(error.status)) {
        waiting("");
        throw error;
      }
      waiting(`Not saved yet. ${sentence(messageOf(error))} Trying again …`);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/**
 * Return the server's words as a sentence: they begin in lower case and have no full stop.
 * @param {string} text
 */
export const sentence = (text) =>
  text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!…]$/.test(text) ? "" : ".");

/**
 * Return the address of a picture. The version of its content is in it, so that no browser shows another one
 * from its cache.
 * @param {Versioned} item
 */
export const image = (item) => withQuery(`api/images/${item.image}`, "version", item.version);

/** @param {Versioned} item */
export const thumbnail = (item) => withQuery(`api/images/${item.image}?small=true`, "version", item.version);

/**
 * @param {Question} question
 * @param {Reason} reason
 * @param {"image" | "change" | "twin"} part
 */
export const twin = (question, reason, part) =>
  withQuery(`api/questions/${question.id}/${part}`, "version", reason.version);

const PICTURE_PAUSE = 2000; // ms until a picture is requested again

/**
 * Find out why a picture does not load. Where that can change, it is requested again.
 * @param {HTMLImageElement} element
 * @param {Versioned} item
 * @param {(aside: boolean, why: string) => void} gone is told whether the server has set the image aside
 */
export async function pictureFailed(element, item, gone) {
  /** @type {unknown} */
  const error = await get(image(item)).then(
    () => null,
    (reason) => reason,
  );
  const aside = error instanceof ApiError && (error.status === 400 || error.status === 404);
  if (aside) gone(true, sentence(error.message));
  else if (error === null) gone(false, "This browser cannot show the image.");
  else setTimeout(() => (element.src = element.getAttribute("src") ?? ""), PICTURE_PAUSE);
}

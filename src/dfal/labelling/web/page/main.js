// The page: which view, who labels, how far it is.

import { get, leave, post, sentence, state } from "./api.js";
import { ask, byId, h, say, show, toast } from "./dom.js";
import { GridView } from "./grid.js";
import { isOurs, keysOf } from "./keys.js";
import { LabelView } from "./label.js";
import { glance, panel } from "./progress.js";
import { ReviewView } from "./review.js";

const VIEWS = { label: LabelView, grid: GridView, review: ReviewView };
const EVERY = 1500;

let view = null;
let trouble = "";
let silence = ""; // of the server, when it was asked how far it is
let unsaved = ""; // why an answer is not saved yet

const app = {
  /** A reply says how far it is, in short: what is new is fetched. */
  heard(now) {
    if (!state.progress) return;
    state.progress.left = now.left ?? state.progress.left;
    const fresh = now.model !== undefined && now.model !== state.model;
    state.model = now.model ?? state.model;
    if (fresh || now.last_answer_id !== state.progress.last_answer_id) soon();
  },
  /** Why an answer is not saved yet; nothing when it is. */
  waiting(text) {
    unsaved = text;
    notices();
  },
  glance: () => (state.progress ? glance(state.progress) : []),
  async addClass(title = "Add a class") {
    if (document.querySelector("dialog[open]")) return;
    const name = h("input", { name: "name", autocomplete: "off", maxLength: 300, required: true });
    const first = "The name of the first class, for example cat";
    const found = await ask(title, [h("label", { className: "field" }, state.classes.length ? "Its name" : first, name), renaming()], {
      button: "Add", read: () => name.value, check: (text) => post("api/classes", { name: text, person: state.person }),
    });
    if (!found) return;
    setClasses(found.classes);
    say(`Class ${found.classes[found.class]} added.`);
    if (found.classes.length < 2) app.addClass("And the second one?");
  },
  /** Nothing can be labelled without classes: they are asked for once, without being asked. */
  firstClasses() {
    if (!state.classes.length && !asked) app.addClass("What is there to tell apart?");
    asked = true;
  },
};

let asked = false;

/** Every class with a button that gives it another name. */
function renaming() {
  if (!state.classes.length) return null;
  const row = (name, index) => h("li", {}, h("span", {}, name),
    h("button", { type: "button", className: "quiet small", "aria-label": `Rename ${name}`, onclick: (event) => { event.target.closest("dialog").close(); rename(index); } }, "Rename"));
  return h("ul", { className: "names", "aria-label": "Classes" }, state.classes.map(row));
}

async function rename(index) {
  const before = state.classes[index];
  const name = h("input", { name: "name", autocomplete: "off", maxLength: 300, required: true, value: before });
  const found = await ask(`Rename ${before}`, [h("label", { className: "field" }, "Its name from now on; its labels stay", name)], {
    button: "Rename", read: () => name.value, check: (text) => post("api/rename", { class: index, name: text, person: state.person }),
  });
  if (!found) return;
  setClasses(found.classes);
  say(`${before} is called ${found.classes[index]} now.`);
}

function setClasses(classes) {
  if (classes.join("\n") === state.classes.join("\n")) return;
  state.classes = classes;
  state.keys = keysOf(classes, state.keys);
  sessionStorage.setItem("keys", JSON.stringify([...state.keys]));
  view?.changed();
}

function notices() {
  const text = unsaved || silence || trouble;
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

let timer = 0;
let running = false;

function soon(pause = 0) {
  clearTimeout(timer);
  timer = setTimeout(refresh, pause);
}

/** Progress, now and again; not while nobody looks. */
async function refresh() {
  if (running) return;
  running = true;
  try {
    const now = await get("api/progress");
    const before = state.progress;
    state.progress = now;
    setClasses(now.classes);
    if (before && now.model > before.model) say(`Network ${now.model} is ready${now.curve.length ? `: right on ${now.curve.at(-1).right} of ${now.curve.at(-1).of} hold-out answers` : ""}.`);
    state.model = now.model;
    trouble = now.error ? `Training does not work: ${now.error}. Labelling goes on.` : "";
    byId("folder").textContent = now.folder;
    draw();
    view?.update();
    silence = "";
  } catch (error) {
    if (state.moved && !unsaved) reload();
    silence = sentence(error.message);
  }
  notices();
  running = false;
  soon(document.hidden ? 10 * EVERY : EVERY);
}

/** The server has another store than this page was opened over: nothing of the page is true any more. */
function reload() {
  sessionStorage.setItem("reloaded", "yes");
  location.reload();
}

let drawn = "";

/** The panel is drawn again only where something has changed: a link in it keeps its focus. */
function draw() {
  const text = JSON.stringify(state.progress);
  if (text !== drawn) byId("progress").replaceChildren(...panel(state.progress));
  drawn = text;
}

function open() {
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "label";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view?.stop();
  view = new VIEWS[name](byId("work"), app);
  view.update();
  view.start();
}

async function choosePerson(first = false) {
  const name = h("input", { name: "person", value: state.person, maxLength: 60, autocomplete: "nickname", required: true });
  const found = await ask(first ? "Who are you?" : "Who labels here?", [h("label", { className: "field" }, "Your name goes beside your answers", name)], {
    button: "Go on", read: () => name.value.trim(), check: async (text) => { if (!text) throw new Error("Write a name."); return text; },
  });
  if (found) setPerson(found);
  else if (!state.person) setPerson(`somebody-${state.holder.slice(0, 4)}`); // two people are not one
  if (found && !first) open();
}

function setPerson(name) {
  state.person = name;
  localStorage.setItem("person", name);
  byId("person").textContent = name;
  byId("person").setAttribute("aria-label", `You are ${name}. Change who labels`);
}

function help() {
  const row = (keys, what) => [h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, what)];
  const classes = state.classes.flatMap((name) => (state.keys.has(name) ? row([state.keys.get(name).toUpperCase()], name) : []));
  show("Every key", h("dl", { className: "keys" }, classes, row(["Z"], "undo your last answer, and the one before"), row(["S"], "skip: this image is not asked again"),
    row(["F"], "flag, with a note"), row(["W"], "why this one?"), row(["E"], "enlarge the image"), row(["N"], "a new class, or another name for one"), row(["←", "→"], "in the grid: move"), row(["?"], "this list")));
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

setTheme(localStorage.getItem("theme"));
byId("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  localStorage.setItem("theme", dark ? "light" : "dark");
  setTheme(dark ? "light" : "dark");
});
byId("person").addEventListener("click", () => choosePerson());
byId("help").addEventListener("click", help);
addEventListener("hashchange", open);
addEventListener("pagehide", leave);
addEventListener("pageshow", (event) => event.persisted && open()); // what was given back is asked anew
addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
addEventListener("visibilitychange", () => !document.hidden && soon());
addEventListener("keydown", (event) => {
  if (!isOurs(event)) return;
  if (event.key === "?") return help();
  view?.key(event);
});

if (sessionStorage.getItem("reloaded")) toast("The server has opened another store. This page was loaded anew.");
sessionStorage.removeItem("reloaded");

try {
  const now = await get("api/progress");
  state.progress = now;
  state.model = now.model;
  setClasses(now.classes);
  const known = localStorage.getItem("person") || now.person;
  if (known) setPerson(known);
  else await choosePerson(true);
  draw();
  open();
} catch (error) {
  toast(error.message);
}
soon();

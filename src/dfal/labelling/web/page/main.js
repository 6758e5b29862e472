// The page: navigation, who labels, classes, and the progress that is fetched again and again.

import { get, leave, messageOf, post, sentence, state } from "./api.js";
import { ask, byId, h, say, show, toast } from "./dom.js";
import { isOurs, keysOf } from "./keys.js";
import { panel, summary } from "./progress.js";
import { VIEWS } from "./views.js";

/** @import { Progress } from "./api.js" */
/** @import { App, View } from "./views.js" */

/** Milliseconds between two requests for the progress, and while nobody looks. */
const PAUSE = 1500;
const HIDDEN_PAUSE = 10 * PAUSE;

/** @type {View | null} */
let view = null;
/** What goes wrong: the training, the connection, an answer that is not saved yet. */
const problems = { training: "", connection: "", unsaved: "" };
let askedForClasses = false;

/** @type {App} */
const app = {
  received(status) {
    if (!state.progress) return;
    state.progress.left = status.left ?? state.progress.left;
    const isNew = status.model !== undefined && status.model !== state.model;
    state.model = status.model ?? state.model;
    if (isNew || status.last_answer_id !== state.progress.last_answer_id) refreshSoon();
  },
  waiting(text) {
    problems.unsaved = text;
    drawProblems();
  },
  summary: () => (state.progress ? summary(state.progress) : []),
  addClass: () => addClass("Add a class"),
  firstClasses() {
    if (!state.classes.length && !askedForClasses) addClass("Name your first class");
    askedForClasses = true;
  },
};

const nameField = (value = "") => {
  const properties = { name: "name", autocomplete: "off", maxLength: 300, required: true, value };
  return h("input", properties);
};

/** @param {string} title */
async function addClass(title) {
  if (document.querySelector("dialog[open]")) return;
  const name = nameField();
  const label = state.classes.length ? "Name" : "Name, for example cat";
  const added = await ask(title, [h("label", { className: "field" }, label, name), classList()], {
    button: "Add",
    send: () => post("api/classes", { name: name.value, person: state.person }),
  });
  if (!added) return;
  setClasses(added.classes);
  say(`Class ${added.classes[added.class]} added.`);
  if (added.classes.length < 2) addClass("Name a second class");
}

/** Return the classes, each with a button that renames it. */
function classList() {
  if (!state.classes.length) return null;
  const items = state.classes.map((name, index) => {
    /** @param {MouseEvent & { target: Element }} event */
    const onclick = (event) => {
      event.target.closest("dialog")?.close();
      rename(index);
    };
    const properties = { type: "button", className: "quiet small", "aria-label": `Rename ${name}`, onclick };
    return h("li", {}, h("span", {}, name), h("button", properties, "Rename"));
  });
  return h("ul", { className: "names", "aria-label": "Classes" }, items);
}

/** @param {number} index */
async function rename(index) {
  const before = state.classes[index];
  const name = nameField(before);
  const field = h("label", { className: "field" }, "New name; its labels stay", name);
  const renamed = await ask(`Rename ${before}`, [field], {
    button: "Rename",
    send: () => post("api/rename", { class: index, name: name.value, person: state.person }),
  });
  if (!renamed) return;
  setClasses(renamed.classes);
  say(`${before} is now called ${renamed.classes[index]}.`);
}

/** @param {string[]} classes */
function setClasses(classes) {
  if (classes.join("\n") === state.classes.join("\n")) return;
  state.classes = classes;
  state.keys = keysOf(classes, state.keys);
  sessionStorage.setItem("keys", JSON.stringify([...state.keys]));
  view?.changed();
}

function drawProblems() {
  const text = problems.unsaved || problems.connection || problems.training;
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

let timer = 0;
let refreshing = false;

function refreshSoon(pause = 0) {
  clearTimeout(timer);
  timer = setTimeout(refresh, pause);
}

/** Fetch the progress, and plan to do so again. */
async function refresh() {
  if (refreshing) return;
  refreshing = true;
  try {
    setProgress(await get("api/progress"));
    view?.update();
    problems.connection = "";
  } catch (error) {
    if (state.moved && !problems.unsaved) reload();
    problems.connection = sentence(messageOf(error));
  }
  drawProblems();
  refreshing = false;
  refreshSoon(document.hidden ? HIDDEN_PAUSE : PAUSE);
}

/** @param {Progress} progress */
function setProgress(progress) {
  const before = state.progress;
  state.progress = progress;
  setClasses(progress.classes);
  if (before && progress.model > before.model) announceModel(progress);
  state.model = progress.model;
  problems.training = progress.error ? `Training failed: ${progress.error}. You can keep labelling.` : "";
  byId("folder").textContent = progress.folder;
  drawPanel(progress);
}

/** @param {Progress} progress */
function announceModel({ model, curve }) {
  const latest = curve.at(-1);
  const accuracy = latest ? `: right on ${latest.right} of ${latest.of} hold-out answers` : "";
  say(`Model ${model} is ready${accuracy}.`);
}

/** Reload, since the server has another store than this page was opened over. */
function reload() {
  sessionStorage.setItem("reloaded", "yes");
  location.reload();
}

let drawn = "";

/**
 * Draw the panel only where something has changed: a link in it keeps its focus.
 * @param {Progress} progress
 */
function drawPanel(progress) {
  const text = JSON.stringify(progress);
  if (text !== drawn) byId("progress").replaceChildren(...panel(progress, refreshSoon));
  drawn = text;
}

const links = VIEWS.map(({ name, title }) => h("a", { href: `#${name}`, data: { view: name } }, title));

/** Open the view that the address names. */
function open() {
  const entry = VIEWS.find(({ name }) => `#${name}` === location.hash) ?? VIEWS[0];
  for (const link of links) {
    if (link.dataset.view === entry.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view?.stop();
  view = entry.open(byId("work"), app);
  view.update();
  view.start();
}

/** @param {boolean} first whether nobody has given a name yet */
async function choosePerson(first = false) {
  const properties = {
    name: "person",
    value: state.person,
    maxLength: 60,
    autocomplete: "nickname",
    required: true,
  };
  const name = h("input", properties);
  const field = h("label", { className: "field" }, "Your name is stored with your answers", name);
  const chosen = await ask(first ? "Who are you?" : "Change who labels", [field], {
    button: "Continue",
    send: async () => {
      const text = name.value.trim();
      if (!text) throw new Error("Enter a name.");
      return text;
    },
  });
  if (chosen) setPerson(chosen);
  else if (!state.person) setPerson(`somebody-${state.clientId.slice(0, 4)}`); // two people stay apart
  if (chosen && !first) open();
}

/** @param {string} name */
function setPerson(name) {
  state.person = name;
  localStorage.setItem("person", name);
  byId("person").textContent = name;
  byId("person").setAttribute("aria-label", `You are ${name}. Change who labels`);
}

function help() {
  /**
   * @param {string[]} keys
   * @param {string} what
   */
  const row = (keys, what) => [
    h(
      "dt",
      {},
      keys.map((key) => h("kbd", {}, key)),
    ),
    h("dd", {}, what),
  ];
  const classes = state.classes.flatMap((name) => {
    const key = state.keys.get(name);
    return key ? row([key.toUpperCase()], name) : [];
  });
  const keys = h(
    "dl",
    { className: "keys" },
    ...classes,
    row(["Z"], "undo your last answer; again for the one before"),
    row(["S"], "skip this image; it is not asked again"),
    row(["F"], "flag, with a note"),
    row(["W"], "why this one?"),
    row(["E"], "enlarge the image"),
    row(["N"], "add or rename a class"),
    row(["←", "→"], "move in the grid"),
    row(["?"], "this list"),
  );
  show("Keyboard shortcuts", keys);
}

/** @param {string | null} theme */
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function toggleTheme() {
  const { theme } = document.documentElement.dataset;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem("theme", dark ? "light" : "dark");
  setTheme(dark ? "light" : "dark");
}

byId("views").replaceChildren(...links);
setTheme(localStorage.getItem("theme"));
byId("theme").addEventListener("click", toggleTheme);
byId("person").addEventListener("click", () => choosePerson());
byId("help").addEventListener("click", help);
addEventListener("hashchange", open);
addEventListener("pagehide", leave);
addEventListener("pageshow", (event) => event.persisted && open()); // what was released is asked for again
addEventListener("beforeunload", (event) => problems.unsaved && event.preventDefault());
addEventListener("visibilitychange", () => !document.hidden && refreshSoon());
addEventListener("keydown", (event) => {
  if (!isOurs(event)) return;
  if (event.key === "?") help();
  else view?.key(event);
});

if (sessionStorage.getItem("reloaded")) {
  toast("The server has opened another store, so this page was reloaded.");
}
sessionStorage.removeItem("reloaded");

try {
  const progress = await get("api/progress");
  const person = localStorage.getItem("person") || progress.person;
  setProgress(progress);
  if (person) setPerson(person);
  else await choosePerson(true);
  open();
} catch (error) {
  toast(messageOf(error));
}
refreshSoon();

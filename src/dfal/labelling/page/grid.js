// The whole query as a grid: choose an image, press a class. Each answer is on the server's disk before its tile says so.

import { post, small, state, surely } from "./api.js";
import { h, picture, say, toast } from "./dom.js";
import { keysOf } from "./keys.js";

export class GridView {
  constructor(root, app) {
    this.app = app;
    this.root = root;
    this.tiles = [];
    this.at = 0;
    this.answers = new Map();
    this.glance = h("p", { className: "glance" });
    this.list = h("div", { className: "tiles", role: "group", "aria-label": "Images to label; arrows move, a class key labels" });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.acts = h("div", { className: "acts" });
    root.replaceChildren(this.glance, this.list, h("div", { className: "fixed" }, this.buttons, this.acts));
  }

  async start() {
    this.changed();
    await this.ask();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.waiting);
  }

  async ask() {
    clearTimeout(this.waiting);
    try {
      const found = await post("/api/ask", { person: state.person, holder: state.holder, count: state.progress?.batch ?? 10 });
      if (this.stopped) return;
      this.app.heard(found);
      this.questions = found.questions;
      this.answers = new Map();
      this.at = 0;
      this.draw();
    } catch (error) {
      toast(error.message);
      this.questions = [];
      this.draw();
    }
  }

  draw() {
    if (!this.questions.length) {
      this.list.replaceChildren(h("p", { className: "soft" }, "Nothing to ask just now."));
      this.waiting = setTimeout(() => !this.stopped && this.ask(), 4000);
      return;
    }
    this.started = performance.now();
    this.tiles = this.questions.map((question, place) => h("button", { type: "button", className: "tile", onclick: () => this.choose(place), onfocus: () => this.choose(place, false) },
      picture(small(question.image), "", { onerror: () => this.vanished(place) }), h("span", { className: "what" })));
    this.list.replaceChildren(...this.tiles);
    this.tiles.forEach((_, place) => this.redraw(place));
    this.choose(0);
  }

  redraw(place) {
    const tile = this.tiles[place];
    const question = this.questions[place];
    const answer = this.answers.get(place);
    tile.classList.toggle("done", answer !== undefined);
    tile.querySelector(".what").replaceChildren(answer === undefined ? h("i", {}, "?") : answer);
    tile.setAttribute("aria-label", `Image ${question.image}, ${question.path}: ${answer ?? "no answer yet"}`);
  }

  choose(place, focus = true) {
    this.at = Math.max(0, Math.min(place, this.tiles.length - 1));
    this.tiles.forEach((tile, index) => (index === this.at ? tile.setAttribute("aria-current", "true") : tile.removeAttribute("aria-current")));
    if (focus) this.tiles[this.at]?.focus({ preventScroll: false });
  }

  async vanished(place) {
    this.answers.set(place, "cannot be read");
    this.redraw(place);
    await this.go();
  }

  async send(path, body, word) {
    const place = this.at;
    const question = this.questions[place];
    if (!question || this.answers.has(place) || this.busy) {
      if (this.answers.has(place)) toast("This one is answered: undo takes the last answer back, the review corrects any.");
      return;
    }
    this.busy = true;
    const seconds = Math.min((performance.now() - this.started) / 1000, 3600);
    try {
      this.app.heard(await surely(path, { ...body, question: question.id, person: state.person, seconds }, (text) => this.app.waiting(text)));
      this.answers.set(place, word);
      say(`Image ${question.image}: ${word}.`);
    } catch (error) {
      toast(error.message);
      this.answers.set(place, "–");
    }
    this.busy = false;
    this.started = performance.now();
    this.redraw(place);
    await this.go();
  }

  /** To the next one without an answer, or to the next query. */
  async go() {
    const open = this.questions.map((_, place) => place).filter((place) => !this.answers.has(place));
    if (!open.length) return this.ask();
    this.choose(open.find((place) => place > this.at) ?? open[0]);
  }

  async undo() {
    try {
      const found = await post("/api/undo", { person: state.person, holder: state.holder });
      this.app.heard(found);
      if (!found.question) return toast(`The correction of image ${found.image} is taken back.`);
      const place = this.questions.findIndex((one) => one.image === found.image);
      if (place >= 0) {
        this.questions[place] = found.question;
        this.answers.delete(place);
        this.redraw(place);
        this.choose(place);
      } else {
        this.questions.unshift(found.question);
        this.answers = new Map([...this.answers].map(([at, word]) => [at + 1, word]));
        this.draw();
      }
    } catch (error) {
      toast(error.message);
    }
  }

  columns() {
    const top = this.tiles[0]?.offsetTop;
    return Math.max(1, this.tiles.filter((tile) => tile.offsetTop === top).length);
  }

  key(event) {
    const key = event.key.toLowerCase();
    const index = keysOf(state.classes).indexOf(key);
    const moves = { arrowright: 1, arrowleft: -1, arrowdown: this.columns(), arrowup: -this.columns() };
    if (key in moves) this.choose(this.at + moves[key]);
    else if (index >= 0) this.send("/api/tell", { label: index }, state.classes[index]);
    else if (key === "s") this.send("/api/decline", {}, "skipped");
    else if (key === "z" || key === "backspace") this.undo();
    else if (key === "n") this.app.addClass();
    else return;
    event.preventDefault();
  }

  update() {
    this.glance.replaceChildren(...this.app.glance());
  }

  changed() {
    const keys = keysOf(state.classes);
    this.buttons.classList.toggle("many", state.classes.length > 8);
    this.buttons.replaceChildren(...state.classes.map((name, index) => h("button", { type: "button", title: name, "aria-keyshortcuts": keys[index], onclick: () => this.send("/api/tell", { label: index }, name) },
      keys[index] && keys[index] !== name ? h("kbd", { "aria-hidden": "true" }, keys[index].toUpperCase()) : null, h("span", {}, name))),
      h("button", { type: "button", className: "add", "aria-label": "Add a class", "aria-keyshortcuts": "n", onclick: () => this.app.addClass() }, "+ class"));
    const act = (name, key, does) => h("button", { type: "button", className: "quiet", "aria-keyshortcuts": key, onclick: does }, name, h("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
    this.acts.replaceChildren(act("Undo", "z", () => this.undo()), act("Skip", "s", () => this.send("/api/decline", {}, "skipped")),
      h("button", { type: "button", className: "quiet", onclick: () => this.ask() }, "Other images"));
  }
}

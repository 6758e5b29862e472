// The whole query as a grid: choose an image, press a class. Each answer is on the server's disk before its tile says so.

import { failed, image, post, small, state, surely } from "./api.js";
import { enlarge, h, picture, say, show, toast } from "./dom.js";
import { Nothing, act, classOf, drawClasses, flag, reasons } from "./question.js";

const SMALLEST = 136;
const LARGEST = 480;

export class GridView {
  constructor(root, app) {
    this.app = app;
    this.root = root;
    this.questions = [];
    this.tiles = [];
    this.at = 0;
    this.answers = new Map();
    this.glance = h("p", { className: "glance" });
    this.list = h("div", { className: "tiles", role: "group", "aria-label": "Images to label; arrows move, a class key labels" });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.acts = h("div", { className: "acts" });
    this.bar = h("div", { className: "fixed" }, this.buttons, this.acts);
    this.nothing = new Nothing(() => this.undo());
    root.replaceChildren(this.glance, this.list, this.bar);
    this.resized = () => this.fit();
    addEventListener("resize", this.resized);
  }

  async start() {
    this.changed();
    await this.ask();
  }

  stop() {
    this.stopped = true;
    removeEventListener("resize", this.resized);
    clearTimeout(this.waiting);
  }

  async ask() {
    clearTimeout(this.waiting);
    try {
      const found = await post("api/ask", { person: state.person, client_id: state.holder, count: state.progress?.batch ?? 10 });
      if (this.stopped) return;
      this.failed = "";
      this.questions = found.questions;
      this.answers = new Map();
      this.app.heard(found);
      this.draw();
    } catch (error) {
      this.failed = error.message;
      toast(error.message);
      if (this.answers.size === this.questions.length) this.questions = [];
      if (!this.questions.length) this.draw();
    }
  }

  draw() {
    if (!this.questions.length) {
      this.tiles = [];
      this.nothing.update(this.failed);
      if (!this.nothing.element.isConnected) say(this.nothing.title.textContent);
      this.list.replaceChildren(this.nothing.element);
      this.list.classList.remove("few");
      this.waiting = setTimeout(() => !this.stopped && this.ask(), 4000);
      return;
    }
    this.started = performance.now();
    this.tiles = this.questions.map((question, place) => this.tile(question, place));
    this.list.replaceChildren(...this.tiles);
    this.tiles.forEach((_, place) => this.redraw(place));
    this.fit();
    this.choose(0);
    this.app.firstClasses();
  }

  /** A click chooses; on the one that is chosen already, and from the keyboard, it enlarges. */
  tile(question, place) {
    const element = picture(small(question), "");
    element.addEventListener("error", () => failed(element, question, (aside, why) => this.vanished(question, element, aside, why)));
    let again = false;
    return h("button", {
      type: "button", className: "tile",
      onpointerdown: () => (again = this.at === place), onfocus: () => this.choose(place, false),
      onclick: (event) => (again || event.detail === 0 ? this.enlarge(place) : this.choose(place)),
    }, h("span", { className: "frame" }, element), h("span", { className: "what" }));
  }

  /** As large as they can be where all fit on the screen; where they do not, they keep their size. */
  fit() {
    if (!this.tiles.length) return;
    const gap = 13, words = 38;
    const wide = this.list.clientWidth + gap;
    const top = this.list.getBoundingClientRect().top + this.root.scrollTop + scrollY;
    const high = innerHeight - top - this.bar.offsetHeight - gap;
    const sides = this.tiles.map((_, at) => Math.min(wide / (at + 1), high / Math.ceil(this.tiles.length / (at + 1)) - words) - gap);
    const side = Math.min(LARGEST, Math.floor(Math.max(...sides)));
    this.list.classList.toggle("few", side > SMALLEST);
    this.list.style.setProperty("--side", `${side}px`);
  }

  redraw(place) {
    const tile = this.tiles[place];
    const question = this.questions[place];
    const answer = this.answers.get(place);
    tile.classList.toggle("done", answer !== undefined);
    const flagged = question.note !== null;
    tile.querySelector(".what").replaceChildren(answer === undefined ? h("i", {}, "?") : h("span", {}, answer), flagged ? h("span", { className: "flagged", title: question.note }, "⚑") : "");
    tile.setAttribute("aria-label", `Image ${question.image}, ${question.path}: ${answer ?? "no answer yet"}${flagged ? ", flagged" : ""}`);
  }

  choose(place, focus = true) {
    this.at = Math.max(0, Math.min(place, this.tiles.length - 1));
    this.tiles.forEach((tile, index) => (index === this.at ? tile.setAttribute("aria-current", "true") : tile.removeAttribute("aria-current")));
    if (focus) this.tiles[this.at]?.focus({ preventScroll: false });
  }

  /** What the server has set aside needs no answer; what only this browser cannot show can be skipped. */
  async vanished(question, element, aside, why) {
    const place = this.questions.findIndex((one) => one.image === question.image);
    if (place < 0 || this.stopped || !element.isConnected) return;
    element.replaceWith(h("span", { className: "soft small", title: why }, aside ? "cannot be read" : "cannot be shown"));
    if (!aside) return;
    this.answers.set(place, "set aside");
    this.redraw(place);
    if (place === this.at || this.answers.size === this.questions.length) await this.go();
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
      this.app.heard(await surely(path, { ...body, question: question.id, image: question.image, person: state.person, seconds }, (text) => this.app.waiting(text)));
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
    if (this.stopped) return;
    const open = this.questions.map((_, place) => place).filter((place) => !this.answers.has(place));
    if (!open.length) return this.ask();
    this.choose(open.find((place) => place > this.at) ?? open[0]);
  }

  async undo() {
    try {
      const found = await post("api/undo", { person: state.person, client_id: state.holder });
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

  async flag() {
    const question = this.questions[this.at];
    const note = question && await flag(question);
    if (note === undefined) return;
    question.note = note;
    const place = this.questions.indexOf(question);
    if (place >= 0) this.redraw(place);
  }

  async why() {
    const question = this.questions[this.at];
    const found = question && await reasons(question);
    if (found && !document.querySelector("dialog[open]")) show("Why this one?", h("div", { className: "why" }, found), "wide");
  }

  enlarge(place = this.at) {
    const question = this.questions[place];
    if (question) enlarge(question.path, image(question), `Image ${question.image}`);
  }

  columns() {
    const top = this.tiles[0]?.offsetTop;
    return Math.max(1, this.tiles.filter((tile) => tile.offsetTop === top).length);
  }

  key(event) {
    const key = event.key.toLowerCase();
    const index = classOf(key);
    const moves = { arrowright: 1, arrowleft: -1, arrowdown: this.columns(), arrowup: -this.columns() };
    const acts = { s: () => this.skip(), z: () => this.undo(), backspace: () => this.undo(), f: () => this.flag(), w: () => this.why(), e: () => this.enlarge(), n: () => this.app.addClass() };
    if (key in moves) this.choose(this.at + moves[key]);
    else if (event.repeat) return;
    else if (index >= 0) this.answer(index);
    else if (key in acts) acts[key]();
    else return;
    event.preventDefault();
  }

  answer(index) {
    return this.send("api/tell", { label: index }, state.classes[index]);
  }

  skip() {
    return this.send("api/decline", {}, "skipped");
  }

  update() {
    this.glance.replaceChildren(...this.app.glance());
    if (!this.questions.length) this.nothing.update(this.failed);
  }

  changed() {
    drawClasses(this.buttons, this.app, (index) => this.answer(index));
    this.acts.replaceChildren(act("Undo", "z", () => this.undo()), act("Skip", "s", () => this.skip()), act("Flag", "f", () => this.flag()),
      act("Why?", "w", () => this.why(), { "aria-haspopup": "dialog" }), h("button", { type: "button", className: "quiet", onclick: () => this.ask() }, "Other images"));
    this.fit();
  }
}

// The whole query as a grid: choose an image, press a class. A tile shows an answer once it is on the server's disk.

import { client, image, messageOf, pictureFailed, post, postUntilSaved, state, thumbnail } from "./api.js";
import { enlarge, h, picture, say, show, toast } from "./dom.js";
import { classOf, commandButton, drawClasses, EmptyState, flag, reasonFor, secondsSince } from "./shared.js";

/** @import { Question } from "./api.js" */
/** @import { App } from "./views.js" */

/** Pixels of a tile's side below which tiles keep their size and the grid scrolls. */
const SMALLEST = 136;
const LARGEST = 480;
/** Pixels between tiles, and of the line below an image. */
const GAP = 13;
const LINE = 38;
/** Milliseconds until the server is asked again where it had no question. */
const RETRY = 4000;
/** Questions of a query before the progress is known. */
const DEFAULT_BATCH = 10;

export class GridView {
  /**
   * @param {HTMLElement} root
   * @param {App} app
   */
  constructor(root, app) {
    this.app = app;
    this.root = root;
    /** @type {Question[]} */
    this.questions = [];
    /** @type {HTMLButtonElement[]} One for each question. */
    this.tiles = [];
    /** The chosen tile. */
    this.chosen = 0;
    /** @type {Map<number, string>} What was answered, by tile. */
    this.answers = new Map();
    this.busy = false;
    this.stopped = false;
    this.error = "";
    this.shown = 0;
    this.retry = 0;
    this.summary = h("p", { className: "summary" });
    const label = "Images to label; arrow keys move, a class key labels";
    this.list = h("div", { className: "tiles", role: "group", "aria-label": label });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.commands = h("div", { className: "acts" });
    this.bar = h("div", { className: "fixed" }, this.buttons, this.commands);
    this.empty = new EmptyState(() => this.undo());
    root.replaceChildren(this.summary, this.list, this.bar);
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
    clearTimeout(this.retry);
  }

  async ask() {
    clearTimeout(this.retry);
    try {
      const reply = await post("api/ask", { ...client(), count: state.progress?.batch ?? DEFAULT_BATCH });
      if (this.stopped) return;
      this.error = "";
      this.questions = reply.questions;
      this.answers = new Map();
      this.app.received(reply);
      this.draw();
    } catch (error) {
      this.error = messageOf(error);
      toast(this.error);
      if (this.answers.size === this.questions.length) this.questions = [];
      if (!this.questions.length) this.draw();
    }
  }

  draw() {
    if (!this.questions.length) {
      this.drawEmpty();
      return;
    }
    this.shown = performance.now();
    this.tiles = this.questions.map((question, index) => this.tile(question, index));
    this.list.replaceChildren(...this.tiles);
    this.tiles.forEach((_, index) => {
      this.redraw(index);
    });
    this.fit();
    this.choose(0);
    this.app.firstClasses();
  }

  drawEmpty() {
    this.tiles = [];
    this.empty.update(this.error);
    if (!this.empty.element.isConnected) say(this.empty.title.textContent);
    this.list.replaceChildren(this.empty.element);
    this.list.classList.remove("few");
    this.retry = setTimeout(() => !this.stopped && this.ask(), RETRY);
  }

  /**
   * Return the tile of a question. A click chooses it; a click on the chosen one, or Enter, enlarges it.
   * @param {Question} question
   * @param {number} index
   */
  tile(question, index) {
    const element = picture(thumbnail(question), "");
    element.addEventListener("error", () =>
      pictureFailed(element, question, (aside, why) => this.vanished(question, element, aside, why)),
    );
    let wasChosen = false;
    return h(
      "button",
      {
        type: "button",
        className: "tile",
        onpointerdown: () => {
          wasChosen = this.chosen === index;
        },
        onfocus: () => this.choose(index, false),
        onclick: (event) => (wasChosen || event.detail === 0 ? this.enlarge(index) : this.choose(index)),
      },
      h("span", { className: "frame" }, element),
      h("span", { className: "what" }),
    );
  }

  /** Make the tiles as large as they can be where all fit on the screen; else they keep their size. */
  fit() {
    if (!this.tiles.length) return;
    const width = this.list.clientWidth + GAP;
    const top = this.list.getBoundingClientRect().top + this.root.scrollTop + scrollY;
    const height = innerHeight - top - this.bar.offsetHeight - GAP;
    const sides = this.tiles.map((_, index) => {
      const columns = index + 1;
      const rows = Math.ceil(this.tiles.length / columns);
      return Math.min(width / columns, height / rows - LINE) - GAP;
    });
    const side = Math.min(LARGEST, Math.floor(Math.max(...sides)));
    this.list.classList.toggle("few", side > SMALLEST);
    this.list.style.setProperty("--side", `${side}px`);
  }

  /** @param {number} index */
  redraw(index) {
    const tile = this.tiles[index];
    const question = this.questions[index];
    const answer = this.answers.get(index);
    tile.classList.toggle("done", answer !== undefined);
    const flagged = question.note !== null;
    const mark = flagged && h("span", { className: "flagged", title: question.note }, "⚑");
    const text = answer === undefined ? h("i", {}, "?") : h("span", {}, answer);
    tile.querySelector(".what")?.replaceChildren(text, mark || "");
    const says = `${answer ?? "no answer yet"}${flagged ? ", flagged" : ""}`;
    tile.setAttribute("aria-label", `Image ${question.image}, ${question.path}: ${says}`);
  }

  /**
   * @param {number} index
   * @param {boolean} focus
   */
  choose(index, focus = true) {
    this.chosen = Math.max(0, Math.min(index, this.tiles.length - 1));
    this.tiles.forEach((tile, other) => {
      if (other === this.chosen) tile.setAttribute("aria-current", "true");
      else tile.removeAttribute("aria-current");
    });
    if (focus) this.tiles[this.chosen]?.focus({ preventScroll: false });
  }

  /**
   * Mark an image that cannot be shown. What the server has set aside needs no answer; the rest can be skipped.
   * @param {Question} question
   * @param {HTMLElement} element
   * @param {boolean} aside
   * @param {string} why
   */
  async vanished(question, element, aside, why) {
    const index = this.questions.findIndex((other) => other.image === question.image);
    if (index < 0 || this.stopped || !element.isConnected) return;
    const text = aside ? "cannot be read" : "cannot be shown";
    element.replaceWith(h("span", { className: "soft small", title: why }, text));
    if (!aside) return;
    this.answers.set(index, "set aside");
    this.redraw(index);
    if (index === this.chosen || this.answers.size === this.questions.length) await this.next();
  }

  /**
   * @param {string} path
   * @param {{ label?: number }} answer
   * @param {string} word
   */
  async send(path, answer, word) {
    const index = this.chosen;
    const question = this.questions[index];
    if (!question || this.busy) return;
    if (this.answers.has(index)) {
      toast("This image is already labelled. Undo takes back the last answer; the review corrects any.");
      return;
    }
    this.busy = true;
    const about = { question: question.id, image: question.image, person: state.person };
    const body = { ...answer, ...about, seconds: secondsSince(this.shown) };
    try {
      this.app.received(await postUntilSaved(path, body, (text) => this.app.waiting(text)));
      this.answers.set(index, word);
      say(`Image ${question.image}: ${word}.`);
    } catch (error) {
      toast(messageOf(error));
      this.answers.set(index, "–");
    }
    this.busy = false;
    this.shown = performance.now();
    this.redraw(index);
    await this.next();
  }

  /** Choose the next image without an answer, or ask for the next query. */
  async next() {
    if (this.stopped) return;
    const open = this.questions.map((_, index) => index).filter((index) => !this.answers.has(index));
    if (open.length) this.choose(open.find((index) => index > this.chosen) ?? open[0]);
    else await this.ask();
  }

  async undo() {
    try {
      const undone = await post("api/undo", client());
      this.app.received(undone);
      if (undone.question) this.putBack(undone.question);
      else toast(`The correction of image ${undone.image} was taken back.`);
    } catch (error) {
      toast(messageOf(error));
    }
  }

  /** @param {Question} question whose answer was taken back */
  putBack(question) {
    const index = this.questions.findIndex((other) => other.image === question.image);
    if (index >= 0) {
      this.questions[index] = question;
      this.answers.delete(index);
      this.redraw(index);
      this.choose(index);
      return;
    }
    this.questions.unshift(question);
    this.answers = new Map([...this.answers].map(([other, word]) => [other + 1, word]));
    this.draw();
  }

  async flag() {
    const question = this.questions[this.chosen];
    const note = question && (await flag(question));
    if (note === undefined) return;
    question.note = note;
    const index = this.questions.indexOf(question);
    if (index >= 0) this.redraw(index);
  }

  async why() {
    const question = this.questions[this.chosen];
    const reason = question && (await reasonFor(question));
    if (!reason || document.querySelector("dialog[open]")) return;
    show("Why this one?", h("div", { className: "why" }, ...reason), "wide");
  }

  enlarge(index = this.chosen) {
    const question = this.questions[index];
    if (question) enlarge(question.path, image(question), `Image ${question.image}`);
  }

  columns() {
    const top = this.tiles[0]?.offsetTop;
    return Math.max(1, this.tiles.filter((tile) => tile.offsetTop === top).length);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const columns = this.columns();
    /** @type {Record<string, number>} */
    const moves = { arrowright: 1, arrowleft: -1, arrowdown: columns, arrowup: -columns };
    /** @type {Record<string, () => unknown>} */
    const commands = {
      s: () => this.skip(),
      z: () => this.undo(),
      backspace: () => this.undo(),
      f: () => this.flag(),
      w: () => this.why(),
      e: () => this.enlarge(),
      n: () => this.app.addClass(),
    };
    const key = event.key.toLowerCase();
    const index = classOf(key);
    if (key in moves) this.choose(this.chosen + moves[key]);
    else if (event.repeat) return;
    else if (index >= 0) this.answer(index);
    else if (key in commands) commands[key]();
    else return;
    event.preventDefault();
  }

  /** @param {number} index of a class */
  answer(index) {
    return this.send("api/tell", { label: index }, state.classes[index]);
  }

  skip() {
    return this.send("api/decline", {}, "skipped");
  }

  update() {
    this.summary.replaceChildren(...this.app.summary());
    if (!this.questions.length) this.empty.update(this.error);
  }

  changed() {
    drawClasses(this.buttons, this.app, (index) => this.answer(index));
    this.commands.replaceChildren(
      commandButton("Undo", "z", () => this.undo()),
      commandButton("Skip", "s", () => this.skip()),
      commandButton("Flag", "f", () => this.flag()),
      commandButton("Why?", "w", () => this.why(), { "aria-haspopup": "dialog" }),
      h("button", { type: "button", className: "quiet", onclick: () => this.ask() }, "Other images"),
    );
    this.fit();
  }
}

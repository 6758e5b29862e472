// One image, large. The next ones are loaded ahead; the page moves on when an answer is on the server's disk.

import { client, image, messageOf, pictureFailed, post, postUntilSaved, state } from "./api.js";
import { enlarge, h, picture, say, toast } from "./dom.js";
import { classOf, commandButton, drawClasses, EmptyState, flag, reasonFor, secondsSince } from "./shared.js";

/** @import { Question } from "./api.js" */
/** @import { App } from "./views.js" */

/** Questions that are loaded while one is on the screen. */
const AHEAD = 4;
/** Milliseconds after which an answer that is not saved yet dims its image. */
const SLOW = 200;
/** Milliseconds until the server is asked again where it had no question: soon while images are left. */
const RETRY_SOON = 2500;
const RETRY_LATER = 8000;

export class LabelView {
  /**
   * @param {HTMLElement} root
   * @param {App} app
   */
  constructor(root, app) {
    this.app = app;
    this.root = root;
    /** @type {Question[]} The first one is on the screen. */
    this.questions = [];
    /** @type {Map<number, HTMLElement>} What shows each image: its picture, or why there is none. */
    this.pictures = new Map();
    this.busy = false;
    this.stopped = false;
    this.error = "";
    this.filling = Promise.resolve();
    /** @type {Set<number>} Images that are answered, though a reply that is still under way may name them. */
    this.done = new Set();
    /** @type {Map<number, string | null>} Flags set in this view, which such a reply may not know. */
    this.notes = new Map();
    this.whyIsOpen = localStorage.getItem("why") === "open";
    /** @type {number | undefined} The question whose reason is shown. */
    this.explained = undefined;
    this.shown = 0;
    this.retry = 0;
    this.summary = h("p", { className: "summary" });
    const large = {
      type: "button",
      className: "frame",
      "aria-keyshortcuts": "e",
      onclick: () => this.enlarge(),
    };
    this.large = h("button", large);
    this.stage = h("div", { className: "stage" }, this.large);
    this.about = h("p", { className: "about" });
    this.reason = h("div", { className: "why", id: "why", hidden: true });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.commands = h("div", { className: "acts" });
    this.section = h(
      "section",
      { className: "one", "aria-label": "The image to label" },
      this.summary,
      this.stage,
      this.about,
      this.reason,
      h("div", { className: "fixed" }, this.buttons, this.commands),
    );
    this.empty = new EmptyState(() => this.undo());
    root.replaceChildren(this.section);
  }

  async start() {
    this.drawButtons();
    await this.fill();
    this.show();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.retry);
  }

  /** @returns {Question | undefined} */
  get question() {
    return this.questions[0];
  }

  /**
   * Ask for as many questions as there should be, one request after the other: each says what it keeps of the one
   * before.
   * @param {boolean} keepAll whether to keep all open questions, or the first one only, as a new model ranks anew
   */
  fill(keepAll = true) {
    this.filling = this.filling.then(() => this.ask(keepAll));
    return this.filling;
  }

  /** @param {boolean} keepAll */
  async ask(keepAll) {
    // The others are released: none of them may be shown meanwhile.
    if (!keepAll) this.questions = this.questions.slice(0, 1);
    const keep = this.questions.map((question) => question.id);
    try {
      const reply = await post("api/ask", { ...client(), count: AHEAD + 1, keep });
      if (this.stopped) return;
      this.error = "";
      this.take(reply.questions);
      this.app.received(reply);
    } catch (error) {
      this.error = messageOf(error);
      toast(this.error);
    }
  }

  /**
   * Take the questions of a reply. What is on the screen stays there, whatever the server says of it by now: a key
   * that is being pressed would hit another image.
   * @param {Question[]} questions
   */
  take(questions) {
    const current = this.question;
    this.questions = questions.filter((question) => !this.done.has(question.image));
    for (const question of this.questions) {
      const note = this.notes.get(question.image);
      if (note !== undefined) question.note = note;
    }
    if (current) {
      const index = this.questions.findIndex((question) => question.image === current.image);
      this.questions.unshift(...(index < 0 ? [current] : this.questions.splice(index, 1)));
    }
    const open = new Set(this.questions.map((question) => question.image));
    for (const index of this.pictures.keys()) if (!open.has(index)) this.pictures.delete(index);
    for (const question of this.questions) this.prefetch(question);
  }

  /** @param {Question} question */
  prefetch(question) {
    const source = image(question);
    // Else there is none, or the file was replaced.
    if (this.pictures.get(question.image)?.dataset.source === source) return;
    const element = picture(source, `Image ${question.image}, ${question.path}`, { data: { source } });
    element.addEventListener("error", () =>
      pictureFailed(element, question, (aside, why) => this.vanished(question, aside, why)),
    );
    this.pictures.set(question.image, element);
    element.decode?.().catch(() => {});
  }

  /**
   * Go on after an image that the server has set aside. What only this browser cannot show can be skipped.
   * @param {Question} question
   * @param {boolean} aside
   * @param {string} why
   */
  async vanished(question, aside, why) {
    if (!this.questions.some(({ id }) => id === question.id) || this.stopped) return;
    if (!aside) {
      const data = { source: image(question) };
      const text = h("p", { className: "soft", data }, why, " Skip it, or look at the file.");
      this.pictures.set(question.image, text);
      if (question.id === this.question?.id) this.show();
      return;
    }
    toast(why);
    this.questions = this.questions.filter(({ id }) => id !== question.id);
    this.pictures.delete(question.image);
    await this.fill();
    this.show();
  }

  show() {
    clearTimeout(this.retry);
    if (this.stopped) return; // an answer may be saved only after somebody has gone to another view
    const question = this.question;
    if (!question) {
      this.showEmpty();
      return;
    }
    if (this.section.parentNode !== this.root) this.root.replaceChildren(this.section);
    this.prefetch(question);
    const element = this.pictures.get(question.image);
    element?.classList.remove("waits");
    this.large.replaceChildren(element ?? "");
    this.large.setAttribute("aria-label", `Image ${question.image}, ${question.path}, larger`);
    const note = question.note ? `Flagged: ${question.note}` : "Flagged";
    this.about.replaceChildren(
      h("span", { className: "path", title: question.path }, question.path),
      question.note === null ? "" : h("span", { className: "tag flagged" }, note),
    );
    this.shown = performance.now();
    this.explain();
    this.app.firstClasses();
  }

  showEmpty() {
    this.empty.update(this.error);
    if (this.empty.element.parentNode !== this.root) {
      this.root.replaceChildren(this.empty.element);
      say(this.empty.title.textContent);
    }
    const again = async () => {
      await this.fill();
      if (!this.stopped) this.show();
    };
    this.retry = setTimeout(again, state.progress?.left ? RETRY_SOON : RETRY_LATER);
  }

  drawButtons() {
    drawClasses(this.buttons, this.app, (index) => this.answer(index));
    const expanded = { "aria-controls": "why", "aria-expanded": String(this.whyIsOpen) };
    this.whyButton = commandButton("Why this one?", "w", () => this.toggleWhy(), expanded);
    this.commands.replaceChildren(
      commandButton("Undo", "z", () => this.undo()),
      commandButton("Skip", "s", () => this.skip()),
      commandButton("Flag", "f", () => this.flag()),
      this.whyButton,
    );
  }

  /** @param {number} index */
  async answer(index) {
    const button = this.buttons.children[index];
    if (button instanceof HTMLElement) {
      button.classList.remove("chosen");
      void button.offsetWidth; // the animation starts again
      button.classList.add("chosen");
    }
    await this.send("api/tell", { label: index }, `Labelled ${state.classes[index]}.`);
  }

  skip() {
    return this.send("api/decline", {}, "Skipped.");
  }

  /**
   * @param {string} path
   * @param {{ label?: number }} answer
   * @param {string} announcement
   */
  async send(path, answer, announcement) {
    const question = this.question;
    if (!question || this.busy) return;
    this.busy = true;
    const slow = setTimeout(() => this.pictures.get(question.image)?.classList.add("waits"), SLOW);
    const modelBefore = state.model;
    const about = { question: question.id, image: question.image, person: state.person };
    const body = { ...answer, ...about, seconds: secondsSince(this.shown) };
    try {
      const status = await postUntilSaved(path, body, (text) => this.app.waiting(text));
      this.next(question);
      say(this.question ? `${announcement} Next: image ${this.question.image}.` : announcement);
      this.app.received(status);
    } catch (error) {
      toast(messageOf(error));
      this.next(question);
    } finally {
      clearTimeout(slow);
      this.busy = false;
    }
    if (this.stopped) return;
    await this.fill(state.model === modelBefore);
    if (!this.question || !this.stage.contains(this.pictures.get(this.question.image) ?? null)) this.show();
  }

  /** @param {Question} question that is answered */
  next(question) {
    this.done.add(question.image);
    this.questions = this.questions.filter((other) => other.image !== question.image);
    if (this.question) this.show();
  }

  async undo() {
    if (this.busy) return;
    this.busy = true;
    try {
      const undone = await post("api/undo", client());
      this.app.received(undone);
      if (undone.question) {
        this.done.delete(undone.image);
        const others = this.questions.filter((question) => question.image !== undone.image);
        this.questions = [undone.question, ...others];
        this.show();
        say(`Taken back. Image ${undone.image} again.`);
      } else {
        toast(`The correction of image ${undone.image} was taken back.`);
      }
    } catch (error) {
      toast(messageOf(error));
    } finally {
      this.busy = false;
    }
  }

  async flag() {
    const { question } = this;
    const note = question && (await flag(question));
    if (!question || note === undefined) return;
    this.notes.set(question.image, note);
    for (const other of this.questions) if (other.image === question.image) other.note = note;
    this.show();
  }

  enlarge() {
    const { question } = this;
    if (question) enlarge(question.path, image(question), `Image ${question.image}`);
  }

  toggleWhy() {
    this.whyIsOpen = !this.whyIsOpen;
    localStorage.setItem("why", this.whyIsOpen ? "open" : "closed");
    this.whyButton?.setAttribute("aria-expanded", String(this.whyIsOpen));
    this.explain();
  }

  async explain() {
    const { question } = this;
    this.reason.hidden = !this.whyIsOpen;
    if (!this.whyIsOpen || !question) return;
    if (this.explained !== question.id) this.reason.replaceChildren(); // it is about the image before
    const reason = await reasonFor(question);
    // The same question may be another object by now: each reply of the server brings new ones.
    if (question.id !== this.question?.id || !reason) return;
    this.explained = question.id;
    this.reason.replaceChildren(...reason);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    /** @type {Record<string, () => unknown>} */
    const commands = {
      z: () => this.undo(),
      backspace: () => this.undo(),
      s: () => this.skip(),
      f: () => this.flag(),
      w: () => this.toggleWhy(),
      e: () => this.enlarge(),
      n: () => this.app.addClass(),
    };
    const key = event.key.toLowerCase();
    const index = classOf(key);
    const command = index >= 0 ? () => this.answer(index) : commands[key];
    if (!command || event.repeat) return;
    event.preventDefault();
    command();
  }

  update() {
    this.summary.replaceChildren(...this.app.summary());
    if (!this.question) this.empty.update(this.error);
  }

  changed() {
    this.drawButtons();
    this.explain();
  }
}

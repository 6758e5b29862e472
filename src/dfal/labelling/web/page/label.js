// One image, large. The next ones are here before they are needed; the page moves on when an answer is on the server's disk.

import { failed, image, post, state, surely } from "./api.js";
import { enlarge, h, picture, say, toast } from "./dom.js";
import { Nothing, act, classOf, drawClasses, flag, reasons } from "./question.js";

const AHEAD = 4;

export class LabelView {
  constructor(root, app) {
    this.app = app;
    this.questions = [];
    this.pictures = new Map();
    this.busy = false;
    this.filling = Promise.resolve();
    this.done = new Set(); // images that are answered, though a reply that is still under way may name them
    this.notes = new Map(); // of flags put on in this view, which such a reply may not know
    this.why = localStorage.getItem("why") === "open";
    this.glance = h("p", { className: "glance" });
    this.large = h("button", { type: "button", className: "frame", "aria-keyshortcuts": "e", onclick: () => this.enlarge() });
    this.stage = h("div", { className: "stage" }, this.large);
    this.about = h("p", { className: "about" });
    this.reason = h("div", { className: "why", id: "why", hidden: true });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.acts = h("div", { className: "acts" });
    this.one = h("section", { className: "one", "aria-label": "The image to label" }, this.glance, this.stage, this.about, this.reason,
      h("div", { className: "fixed" }, this.buttons, this.acts));
    this.nothing = new Nothing(() => this.undo());
    root.replaceChildren(this.one);
    this.root = root;
  }

  async start() {
    this.drawButtons();
    await this.fill();
    this.show();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.waiting);
  }

  get question() {
    return this.questions[0];
  }

  /** Ask for as many as there should be; keep what is on the screen, and all of them unless a new network ranks anew. */
  fill(keepAll = true) {
    this.filling = this.filling.then(() => this.ask(keepAll)); // one after the other: each says what it keeps of the one before
    return this.filling;
  }

  async ask(keepAll) {
    if (!keepAll) this.questions = this.questions.slice(0, 1); // the others are given back: none of them may be shown meanwhile
    const keep = this.questions.map((one) => one.id);
    try {
      const found = await post("api/ask", { person: state.person, client_id: state.holder, count: AHEAD + 1, keep });
      if (this.stopped) return;
      this.failed = "";
      const current = this.question;
      this.questions = found.questions.filter((one) => !this.done.has(one.image));
      for (const one of this.questions) if (this.notes.has(one.image)) one.note = this.notes.get(one.image);
      if (current) {
        // What is on the screen stays there, whatever the server says of it by now: a key that is pressed would hit another image.
        const at = this.questions.findIndex((one) => one.image === current.image);
        this.questions.unshift(...(at < 0 ? [current] : this.questions.splice(at, 1)));
      }
      this.app.heard(found);
      const wanted = new Set(this.questions.map((one) => one.image));
      for (const index of this.pictures.keys()) if (!wanted.has(index)) this.pictures.delete(index);
      for (const question of this.questions) this.prefetch(question);
    } catch (error) {
      this.failed = error.message;
      toast(error.message);
    }
  }

  prefetch(question) {
    const source = image(question);
    if (this.pictures.get(question.image)?.dataset.source === source) return; // else there is none, or the file was replaced
    const element = picture(source, `Image ${question.image}, ${question.path}`, { data: { source } });
    element.addEventListener("error", () => failed(element, question, (aside, why) => this.vanished(question, aside, why)));
    this.pictures.set(question.image, element);
    element.decode?.().catch(() => {});
  }

  /** After an image that the server has set aside comes the next one. What only this browser cannot show can be skipped. */
  async vanished(question, aside, why) {
    if (!this.questions.some((one) => one.id === question.id) || this.stopped) return;
    if (!aside) {
      this.pictures.set(question.image, h("p", { className: "soft", data: { source: image(question) } }, why, " Skip it, or look at the file."));
      if (question.id === this.question?.id) this.show();
      return;
    }
    toast(why);
    this.questions = this.questions.filter((one) => one.id !== question.id);
    this.pictures.delete(question.image);
    await this.fill();
    this.show();
  }

  show() {
    clearTimeout(this.waiting);
    if (this.stopped) return; // an answer may be saved only after somebody has gone to another view
    const question = this.question;
    if (!question) return this.showNothing();
    if (this.one.parentNode !== this.root) this.root.replaceChildren(this.one);
    this.prefetch(question);
    const element = this.pictures.get(question.image);
    element.classList.remove("waits");
    this.large.replaceChildren(element);
    this.large.setAttribute("aria-label", `Image ${question.image}, ${question.path}, larger`);
    this.about.replaceChildren(
      h("span", { className: "path", title: question.path }, question.path),
      question.note === null ? "" : h("span", { className: "tag flagged" }, question.note ? `Flagged: ${question.note}` : "Flagged"));
    this.shown = performance.now();
    this.explain();
    this.app.firstClasses();
  }

  showNothing() {
    this.nothing.update(this.failed);
    if (this.nothing.element.parentNode !== this.root) {
      this.root.replaceChildren(this.nothing.element);
      say(this.nothing.title.textContent);
    }
    this.waiting = setTimeout(async () => { await this.fill(); if (!this.stopped) this.show(); }, state.progress?.left ? 2500 : 8000);
  }

  drawButtons() {
    drawClasses(this.buttons, this.app, (index) => this.answer(index));
    this.whyButton = act("Why this one?", "w", () => this.toggleWhy(), { "aria-controls": "why", "aria-expanded": String(this.why) });
    this.acts.replaceChildren(act("Undo", "z", () => this.undo()), act("Skip", "s", () => this.skip()), act("Flag", "f", () => this.flag()), this.whyButton);
  }

  async answer(index) {
    const name = state.classes[index];
    const button = this.buttons.children[index];
    button?.classList.remove("chosen");
    void button?.offsetWidth;
    button?.classList.add("chosen");
    await this.send("api/tell", { label: index }, `Labelled ${name}.`);
  }

  skip() {
    return this.send("api/decline", {}, "Skipped.");
  }

  async send(path, body, said) {
    const question = this.question;
    if (!question || this.busy) return;
    this.busy = true;
    const slow = setTimeout(() => this.pictures.get(question.image)?.classList.add("waits"), 200);
    const seconds = Math.min((performance.now() - this.shown) / 1000, 3600);
    const seen = state.model;
    try {
      const now = await surely(path, { ...body, question: question.id, image: question.image, person: state.person, seconds }, (text) => this.app.waiting(text));
      this.next(question);
      say(this.question ? `${said} Next: image ${this.question.image}.` : said);
      this.app.heard(now);
    } catch (error) {
      toast(error.message);
      this.next(question);
    } finally {
      clearTimeout(slow);
      this.busy = false;
    }
    if (this.stopped) return;
    await this.fill(state.model === seen);
    if (!this.question || !this.stage.contains(this.pictures.get(this.question.image) ?? null)) this.show();
  }

  next(question) {
    this.done.add(question.image);
    this.questions = this.questions.filter((one) => one.image !== question.image);
    if (this.question) this.show();
  }

  async undo() {
    if (this.busy) return;
    this.busy = true;
    try {
      const found = await post("api/undo", { person: state.person, client_id: state.holder });
      this.app.heard(found);
      if (found.question) {
        this.done.delete(found.image);
        this.questions = [found.question, ...this.questions.filter((one) => one.image !== found.image)];
        this.show();
        say(`Taken back. Image ${found.image} again.`);
      } else {
        toast(`The correction of image ${found.image} is taken back.`);
      }
    } catch (error) {
      toast(error.message);
    } finally {
      this.busy = false;
    }
  }

  async flag() {
    const question = this.question;
    const note = question && await flag(question);
    if (note === undefined) return;
    this.notes.set(question.image, note);
    for (const one of this.questions) if (one.image === question.image) one.note = note;
    this.show();
  }

  enlarge() {
    if (this.question) enlarge(this.question.path, image(this.question), `Image ${this.question.image}`);
  }

  toggleWhy() {
    this.why = !this.why;
    localStorage.setItem("why", this.why ? "open" : "closed");
    this.whyButton.setAttribute("aria-expanded", String(this.why));
    this.explain();
  }

  async explain() {
    const question = this.question;
    this.reason.hidden = !this.why;
    if (!this.why || !question) return;
    if (this.explained !== question.id) this.reason.replaceChildren(); // what it says is of the image before
    const found = await reasons(question);
    // The same question may be another object by now: each reply of the server brings new ones.
    if (question.id !== this.question?.id || !found) return;
    this.explained = question.id;
    this.reason.replaceChildren(...found);
  }

  key(event) {
    const key = event.key.toLowerCase();
    const index = classOf(key);
    const acts = { z: () => this.undo(), backspace: () => this.undo(), s: () => this.skip(), f: () => this.flag(), w: () => this.toggleWhy(), e: () => this.enlarge(), n: () => this.app.addClass() };
    const does = index >= 0 ? () => this.answer(index) : acts[key];
    if (!does || event.repeat) return;
    event.preventDefault();
    does();
  }

  update() {
    this.glance.replaceChildren(...this.app.glance());
    if (!this.question) this.nothing.update(this.failed);
  }

  changed() {
    this.drawButtons();
    this.explain();
  }
}

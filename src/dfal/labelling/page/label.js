// One image, large. The next ones are here before they are needed; the page moves on when an answer is on the server's disk.

import { image, post, state, surely, get } from "./api.js";
import { ask, h, picture, say, toast } from "./dom.js";
import { keysOf } from "./keys.js";

const AHEAD = 4;

export class LabelView {
  constructor(root, app) {
    this.app = app;
    this.questions = [];
    this.pictures = new Map();
    this.busy = false;
    this.done = new Set(); // questions that are answered, though a reply that is still under way may name them
    this.notes = new Map(); // of flags put on in this view, which such a reply may not know
    this.why = localStorage.getItem("why") === "open";
    this.glance = h("p", { className: "glance" });
    this.stage = h("div", { className: "stage" });
    this.about = h("p", { className: "about" });
    this.reason = h("div", { className: "why", id: "why", hidden: true });
    this.buttons = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.acts = h("div", { className: "acts" });
    this.one = h("section", { className: "one", "aria-label": "The image to label" }, this.glance, this.stage, this.about, this.reason, this.buttons, this.acts);
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
  async fill(keepAll = true) {
    const keep = (keepAll ? this.questions : this.questions.slice(0, 1)).map((one) => one.id);
    try {
      const found = await post("/api/ask", { person: state.person, holder: state.holder, count: AHEAD + 1, keep });
      if (this.stopped) return;
      const current = this.question;
      this.questions = found.questions.filter((one) => !this.done.has(one.id));
      for (const one of this.questions) if (this.notes.has(one.image)) one.note = this.notes.get(one.image);
      if (current) {
        // What is on the screen stays there.
        const at = this.questions.findIndex((one) => one.id === current.id);
        if (at > 0) this.questions.unshift(...this.questions.splice(at, 1));
      }
      this.app.heard(found);
      const wanted = new Set(this.questions.map((one) => one.image));
      for (const index of this.pictures.keys()) if (!wanted.has(index)) this.pictures.delete(index);
      for (const question of this.questions) this.prefetch(question);
    } catch (error) {
      toast(error.message);
    }
  }

  prefetch(question) {
    if (this.pictures.has(question.image)) return;
    const element = picture(image(question.image), `Image ${question.image}, ${question.path}`);
    element.addEventListener("error", () => this.vanished(question));
    this.pictures.set(question.image, element);
    element.decode?.().catch(() => {});
  }

  /** An image that cannot be read is set aside by the server; the next one comes. */
  async vanished(question) {
    if (!this.questions.some((one) => one.id === question.id) || this.stopped) return;
    const reason = await get(image(question.image)).catch((error) => error.message);
    if (typeof reason === "string") toast(reason);
    this.questions = this.questions.filter((one) => one.id !== question.id);
    this.pictures.delete(question.image);
    await this.fill();
    this.show();
  }

  show() {
    clearTimeout(this.waiting);
    const question = this.question;
    if (!question) return this.showNothing();
    if (this.one.parentNode !== this.root) this.root.replaceChildren(this.one);
    this.prefetch(question);
    const element = this.pictures.get(question.image);
    element.classList.remove("waits");
    this.stage.replaceChildren(element);
    this.about.replaceChildren(
      h("span", { className: "path", title: question.path }, question.path),
      question.note === null ? "" : h("span", { className: "tag flagged" }, question.note ? `Flagged: ${question.note}` : "Flagged"));
    this.shown = performance.now();
    this.explain();
    if (!state.classes.length) this.app.addClass("What is there to tell apart?");
  }

  showNothing() {
    const left = state.progress?.left ?? 0;
    const all = left === 0;
    this.root.replaceChildren(h("section", { className: "empty" },
      h("h1", {}, all ? "Every image has its answer" : "Nothing to ask just now"),
      h("p", { className: "soft" }, all
        ? "Look over the most suspicious labels in the review, or take them home."
        : `Others are looking at the last ${left}. What they leave comes back here.`),
      h("div", { className: "row" },
        h("button", { type: "button", onclick: () => this.undo() }, "Undo"),
        h("a", { href: "#review" }, "Review"), h("a", { href: "/api/export", download: "labels.csv" }, "Download the labels"))));
    this.waiting = setTimeout(async () => { await this.fill(); if (!this.stopped) this.show(); }, all ? 8000 : 2500);
  }

  drawButtons() {
    const keys = keysOf(state.classes);
    this.buttons.classList.toggle("many", state.classes.length > 8);
    this.buttons.replaceChildren(
      ...state.classes.map((name, index) => h("button", { type: "button", title: name, "aria-keyshortcuts": keys[index], onclick: () => this.answer(index) },
        keys[index] && keys[index] !== name ? h("kbd", { "aria-hidden": "true" }, keys[index].toUpperCase()) : null, h("span", {}, name))),
      h("button", { type: "button", className: "add", "aria-keyshortcuts": "n", "aria-label": "Add a class", onclick: () => this.app.addClass() }, "+ class"));
    const act = (name, key, does, properties = {}) => h("button", { type: "button", className: "quiet", onclick: does, "aria-keyshortcuts": key, ...properties }, name, h("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
    this.whyButton = act("Why this one?", "w", () => this.toggleWhy(), { "aria-controls": "why", "aria-expanded": String(this.why) });
    this.acts.replaceChildren(act("Undo", "z", () => this.undo()), act("Skip", "s", () => this.skip()), act("Flag", "f", () => this.flag()), this.whyButton);
  }

  async answer(index) {
    const name = state.classes[index];
    const button = this.buttons.children[index];
    button?.classList.remove("chosen");
    void button?.offsetWidth;
    button?.classList.add("chosen");
    await this.send("/api/tell", { label: index }, `Labelled ${name}.`);
  }

  skip() {
    return this.send("/api/decline", {}, "Skipped.");
  }

  async send(path, body, said) {
    const question = this.question;
    if (!question || this.busy) return;
    this.busy = true;
    const slow = setTimeout(() => this.pictures.get(question.image)?.classList.add("waits"), 200);
    const seconds = Math.min((performance.now() - this.shown) / 1000, 3600);
    const seen = state.model;
    try {
      const now = await surely(path, { ...body, question: question.id, person: state.person, seconds }, (text) => this.app.waiting(text));
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
    await this.fill(state.model === seen);
    if (!this.question || !this.stage.contains(this.pictures.get(this.question.image) ?? null)) this.show();
  }

  next(question) {
    this.done.add(question.id);
    this.questions = this.questions.filter((one) => one.id !== question.id);
    if (this.question) this.show();
  }

  async undo() {
    if (this.busy) return;
    this.busy = true;
    try {
      const found = await post("/api/undo", { person: state.person, holder: state.holder });
      this.app.heard(found);
      if (found.question) {
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
    if (!question) return;
    const note = h("textarea", { maxLength: 1000, value: question.note ?? "", name: "note" });
    const raised = question.note !== null;
    const off = raised ? h("label", {}, h("input", { type: "checkbox", name: "off" }), " Take the flag off") : null;
    const found = await ask("Flag this image", [h("label", { className: "field" }, "A note for whoever looks at it later", note), off], {
      button: "Flag", read: () => ({ note: note.value, raised: !off?.querySelector("input").checked }),
      check: async (read) => { await post("/api/flag", { image: question.image, person: state.person, ...read }); return read; },
    });
    if (!found) return;
    const kept = found.raised ? found.note : null;
    this.notes.set(question.image, kept);
    for (const one of this.questions) if (one.image === question.image) one.note = kept;
    this.show();
  }

  toggleWhy() {
    this.why = !this.why;
    localStorage.setItem("why", this.why ? "open" : "closed");
    this.whyButton.setAttribute("aria-expanded", String(this.why));
    this.explain();
  }

  /** Distance to the boundary, the two classes it lies between, and the twin beside the image. */
  async explain() {
    const question = this.question;
    this.reason.hidden = !this.why;
    if (!this.why || !question) return;
    const found = await get(`/api/questions/${question.id}`).catch(() => null);
    if (question !== this.question || !found) return;
    this.reason.replaceChildren(...reasons(question, found));
  }

  key(event) {
    const key = event.key.toLowerCase();
    const index = keysOf(state.classes).indexOf(key);
    const acts = { z: () => this.undo(), backspace: () => this.undo(), s: () => this.skip(), f: () => this.flag(), w: () => this.toggleWhy(), n: () => this.app.addClass() };
    const does = index >= 0 ? () => this.answer(index) : acts[key];
    if (!does || event.repeat) return;
    event.preventDefault();
    does();
  }

  update() {
    this.glance.replaceChildren(...this.app.glance());
  }

  changed() {
    this.drawButtons();
  }
}

const KINDS = {
  random: "Drawn at random. As long as no network has learnt, every image is as good as any other.",
  "hold-out": "Drawn at random, to measure how accurate the network is. It never learns from this one.",
  vote: "Others have answered already. Several people are asked about each image.",
};

function reasons(question, found) {
  if (found.seen === null) return [h("p", {}, KINDS[question.kind] ?? KINDS.random)];
  const name = (index) => h("b", {}, state.classes[index] ?? String(index));
  const nearest = found.strategy.startsWith("dfal");
  const words = nearest
    ? [h("p", {}, "The network sees ", name(found.seen), " here, but ", name(found.other), " is near: the boundary is ",
        found.score === null ? "out of reach." : h("b", {}, found.score.toPrecision(2)), found.score === null ? "" : " away, nearer than in the others it looked at.")]
    : [h("p", {}, "The network sees ", name(found.seen), " here, and next to it ", name(found.other), ". The strategy ", h("b", {}, found.strategy),
        found.score === null ? " chose it." : ` gives it ${found.score.toPrecision(3)}.`)];
  if (!found.twin) return words;
  const part = (which, text) => h("figure", {}, h("img", { src: `/api/questions/${question.id}/${which}`, alt: "" }), h("figcaption", {}, text));
  return [h("div", { className: "trio" }, part("image", ["as it is:", h("br"), name(found.seen)]), part("change", ["a change too", h("br"), "small to see"]),
    part("twin", ["its twin:", h("br"), name(found.twin_seen)])), ...words];
}

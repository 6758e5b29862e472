// Find, filter and correct. The most suspicious first: labels that a network contradicts from far inside another class.

import { get, image, post, small, state } from "./api.js";
import { enlarge, h, picture, say, toast } from "./dom.js";
import { classOf } from "./question.js";

const SHOWN = { labelled: "All labels", suspicious: "Suspicious", flagged: "Flagged", declined: "Skipped", disputed: "Disputed, no majority", disagreed: "People disagree", "hold-out": "Hold-out", all: "Everything" };
const ORDERS = { suspicious: "Most suspicious first", latest: "Latest first", path: "By name" };
const PAGE = 60;

export class ReviewView {
  constructor(root, app) {
    this.app = app;
    const choice = (options, name) => h("select", { name, onchange: () => this.load() }, Object.entries(options).map(([value, text]) => h("option", { value }, text)));
    this.which = choice(SHOWN, "show");
    this.order = choice(ORDERS, "order");
    this.label = h("select", { name: "label", onchange: () => this.load() });
    this.text = h("input", { type: "search", name: "text", maxLength: 200, autocomplete: "off", oninput: () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.load(), 200); } });
    this.cards = h("ul", { className: "cards" });
    this.count = h("p", { className: "soft", role: "status" });
    this.more = h("button", { type: "button", className: "more", hidden: true, onclick: () => this.load(true) }, "Show more");
    const field = (name, element) => h("label", { className: "field" }, name, element);
    root.replaceChildren(h("h1", { className: "unseen" }, "Review"),
      h("form", { className: "search", role: "search", onsubmit: (event) => event.preventDefault() },
        field("Show", this.which), field("Class", this.label), field("Order", this.order), field("File name has", this.text)),
      this.count, this.cards, this.more);
    this.found = [];
  }

  start() {
    return this.changed();
  }

  stop() {
    clearTimeout(this.typing);
    this.stopped = true;
  }

  async load(more = false) {
    const start = more ? this.found.length : 0;
    const wanted = new URLSearchParams({ show: this.which.value, order: this.order.value, text: this.text.value, start, most: PAGE });
    if (this.label.value !== "") wanted.set("label", this.label.value);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const found = await get(`api/review?${wanted}`);
      if (this.stopped || turn !== this.turn) return;
      this.found = more ? [...this.found, ...found.images] : found.images;
      const cards = found.images.map((one) => this.card(one));
      if (more) this.cards.append(...cards);
      else this.cards.replaceChildren(...cards);
      this.more.hidden = this.found.length >= found.total;
      const against = this.which.value === "suspicious" ? ` ${found.checked}` : "";
      this.count.textContent = `${found.total.toLocaleString("en")} image${found.total === 1 ? "" : "s"}.${against}`;
    } catch (error) {
      toast(error.message);
    }
  }

  card(one) {
    const name = (index) => state.classes[index] ?? String(index);
    const chosen = h("select", { "aria-label": `Label of image ${one.image}`, onchange: () => this.correct(one, chosen) },
      one.label === null ? h("option", { value: "", selected: true }, one.declined ? "no label" : one.disputed ? "disputed" : "not yet") : null,
      state.classes.map((text, index) => h("option", { value: index, selected: index === one.label }, text)),
      one.label !== null ? h("option", { value: "none" }, "no label") : null);
    const by = one.source === "folder" ? "came with the folder" : Object.entries(one.votes).map(([person, vote]) =>
      Object.keys(one.votes).length > 1 ? `${person}: ${vote === null ? "none" : name(vote)}` : person).join(", ");
    const against = one.suspicion > 0;
    const doubt = one.predicted === null ? null : against
      ? `Model: ${name(one.predicted)}, ${percent(one.confidence)} confident`
      : one.predicted === one.label ? "The model agrees" : `Model: ${name(one.predicted)}, ${percent(one.confidence)} confident; no reason to doubt the label`;
    const element = picture(small(one), "", { loading: "lazy" });
    element.addEventListener("error", () => element.replaceWith(h("span", { className: "soft" }, "cannot be read")));
    const larger = h("button", { type: "button", className: "picture frame", "aria-label": `Image ${one.image}, ${one.path}, larger`, onclick: () => this.enlarge(one) }, element);
    const card = h("li", { className: "card" }, larger,
      h("div", { className: "text" }, chosen, h("span", { className: against ? "against" : "" }, doubt ?? "Not checked by a model yet"),
        h("span", {}, one.source === "correction" ? "corrected" : by, one.hold_out ? " · hold-out" : ""),
        one.note === null ? null : h("button", { type: "button", className: "quiet small", onclick: () => this.unflag(one, card) }, `⚑ ${one.note || "flagged"} (take off)`),
        h("span", { className: "path", title: one.path }, one.path)));
    // Whoever points at a card means it: its keys work from there.
    card.addEventListener("click", (event) => event.target.closest("button, select") ?? larger.focus());
    card.addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase();
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      // In the list a letter looks for a name that begins with it: there a key is a class's only where no name has it.
      if (event.target === chosen && [...chosen.options].some((option) => option.text.toLowerCase().includes(key))) return;
      const index = classOf(key);
      if (index >= 0) this.correct(one, chosen, index);
      else if (key === "e" && event.target !== chosen) this.enlarge(one);
      else return;
      event.preventDefault();
    });
    return card;
  }

  async correct(one, chosen, value = chosen.value) {
    const label = value === "none" ? null : Number(value);
    if (value === "") return;
    try {
      this.app.heard(await post("api/correct", { image: one.image, label, person: state.person }));
      say(`Image ${one.image} is ${label === null ? "without a label" : state.classes[label]} now.`);
      Object.assign(one, { label, declined: label === null, disputed: false, source: "correction", suspicion: label === one.predicted ? 0 : one.suspicion });
      const fresh = this.card(one);
      const card = chosen.closest(".card");
      const focused = card.contains(document.activeElement);
      card.replaceWith(fresh);
      if (focused) fresh.querySelector("button.picture").focus();
    } catch (error) {
      toast(error.message);
      chosen.value = one.label ?? "";
    }
  }

  async unflag(one, card) {
    try {
      await post("api/flag", { image: one.image, person: state.person, raised: false });
      one.note = null;
      card.replaceWith(this.card(one));
    } catch (error) {
      toast(error.message);
    }
  }

  enlarge(one) {
    enlarge(one.path, image(one), `Image ${one.image}`);
  }

  async undo() {
    try {
      const found = await post("api/undo", { person: state.person, client_id: state.holder });
      this.app.heard(found);
      toast(`What you said last about image ${found.image} is taken back.`);
      await this.load();
    } catch (error) {
      toast(error.message);
    }
  }

  key(event) {
    if (event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    this.undo();
  }

  update() {}

  changed() {
    const before = this.label.value;
    this.label.replaceChildren(h("option", { value: "" }, "Any"), ...state.classes.map((name, index) => h("option", { value: index }, name)));
    this.label.value = before;
    return this.load();
  }
}

/** Never 100 %: a model can always be wrong. */
const percent = (fraction) => `${Math.min(99, Math.round(100 * fraction))} %`;

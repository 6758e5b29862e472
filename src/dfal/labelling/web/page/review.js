// Find, filter and correct labels. The most suspicious come first: those that a model contradicts most strongly.

import { client, get, image, messageOf, post, state, thumbnail } from "./api.js";
import { enlarge, h, picture, say, toast } from "./dom.js";
import { classOf, nameOf } from "./shared.js";
import { count } from "./words.js";

/** @import { Reviewed } from "./api.js" */
/** @import { App } from "./views.js" */

const FILTERS = {
  labelled: "All labels",
  suspicious: "Suspicious",
  flagged: "Flagged",
  declined: "Skipped",
  disputed: "Disputed, no majority",
  disagreed: "People disagree",
  "hold-out": "Hold-out",
  all: "Everything",
};
const ORDERS = { suspicious: "Most suspicious first", latest: "Latest first", path: "By name" };
const IMAGES_PER_PAGE = 60;
const TYPING_PAUSE = 200; // ms

/** @param {number | null} fraction */
const percent = (fraction) => `${Math.min(99, Math.round(100 * (fraction ?? 0)))} %`; // a model can always be wrong

/**
 * @param {string} name
 * @param {HTMLElement} element
 */
const field = (name, element) => h("label", { className: "field" }, name, element);

export class ReviewView {
  /**
   * @param {HTMLElement} root
   * @param {App} app
   */
  constructor(root, app) {
    this.app = app;
    /** @type {Reviewed[]} */
    this.rows = [];
    this.typing = 0;
    this.requests = 0;
    this.stopped = false;
    /**
     * @param {Record<string, string>} options
     * @param {string} name
     */
    const choice = (options, name) => {
      const items = Object.entries(options).map(([value, text]) => h("option", { value }, text));
      return h("select", { name, onchange: () => this.load() }, items);
    };
    this.filter = choice(FILTERS, "show");
    this.order = choice(ORDERS, "order");
    this.label = choice({}, "label");
    const typed = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(), TYPING_PAUSE);
    };
    const search = { type: "search", name: "text", maxLength: 200, autocomplete: "off", oninput: typed };
    this.text = h("input", search);
    this.cards = h("ul", { className: "cards" });
    this.total = h("p", { className: "soft", role: "status" });
    const more = { type: "button", className: "more", hidden: true, onclick: () => this.load(true) };
    this.more = h("button", more, "Show more");
    const form = h(
      "form",
      {
        className: "search",
        role: "search",
        /** @param {SubmitEvent} event */
        onsubmit: (event) => event.preventDefault(),
      },
      field("Show", this.filter),
      field("Class", this.label),
      field("Order", this.order),
      field("File name contains", this.text),
    );
    const title = h("h1", { className: "unseen" }, "Review");
    root.replaceChildren(title, form, this.total, this.cards, this.more);
  }

  async start() {
    this.drawClasses();
    await this.load();
  }

  stop() {
    clearTimeout(this.typing);
    this.stopped = true;
  }

  /** @param {boolean} more whether to add the next page to what is shown */
  async load(more = false) {
    const query = new URLSearchParams({
      show: this.filter.value,
      order: this.order.value,
      text: this.text.value,
      start: String(more ? this.rows.length : 0),
      most: String(IMAGES_PER_PAGE),
    });
    if (this.label.value !== "") query.set("label", this.label.value);
    this.requests += 1;
    const request = this.requests;
    try {
      const page = await get(`api/review?${query}`);
      if (this.stopped || request !== this.requests) return;
      this.rows = more ? [...this.rows, ...page.images] : page.images;
      /** @type {HTMLElement[]} */
      const cards = page.images.map((/** @type {Reviewed} */ row) => this.card(row));
      if (more) this.cards.append(...cards);
      else this.cards.replaceChildren(...cards);
      this.more.hidden = this.rows.length >= page.total;
      const checked = this.filter.value === "suspicious" ? ` ${page.checked}` : "";
      this.total.textContent = `${count(page.total)} image${page.total === 1 ? "" : "s"}.${checked}`;
    } catch (error) {
      toast(messageOf(error));
    }
  }

  /** @param {Reviewed} row */
  card(row) {
    const label = this.labelChoice(row);
    const element = picture(thumbnail(row), "", { loading: "lazy" });
    element.addEventListener("error", () =>
      element.replaceWith(h("span", { className: "soft" }, "cannot be read")),
    );
    const larger = h(
      "button",
      {
        type: "button",
        className: "picture frame",
        "aria-label": `Image ${row.image}, ${row.path}, larger`,
        onclick: () => this.enlarge(row),
      },
      element,
    );
    const flagged = row.note === null ? null : `⚑ ${row.note || "flagged"} (remove)`;
    const unflag = { type: "button", className: "quiet small", onclick: () => this.unflag(row, card) };
    const text = h(
      "div",
      { className: "text" },
      label,
      h("span", { className: row.suspicion ? "against" : "" }, judgement(row)),
      h("span", {}, origin(row), row.hold_out ? " · hold-out" : ""),
      flagged && h("button", unflag, flagged),
      h("span", { className: "path", title: row.path }, row.path),
    );
    /** @type {HTMLLIElement} */
    const card = h("li", { className: "card" }, larger, text);
    // A click on a card chooses it: its keys work from there.
    card.addEventListener("click", ({ target }) => {
      if (!(target instanceof Element && target.closest("button, select"))) larger.focus();
    });
    card.addEventListener("keydown", (event) => this.cardKey(event, row, label));
    return card;
  }

  /** @param {Reviewed} row */
  labelChoice(row) {
    const missing = row.disputed ? "disputed" : "not yet";
    const options = state.classes.map((name, index) =>
      h("option", { value: String(index), selected: index === row.label }, name),
    );
    if (row.label === null) {
      options.unshift(h("option", { value: "", selected: true }, row.declined ? "no label" : missing));
    } else {
      options.push(h("option", { value: "none" }, "no label"));
    }
    const changed = () => {
      if (choice.value !== "")
        this.correct(row, choice, choice.value === "none" ? null : Number(choice.value));
    };
    const choice = h("select", { "aria-label": `Label of image ${row.image}`, onchange: changed }, options);
    return choice;
  }

  /**
   * @param {KeyboardEvent} event
   * @param {Reviewed} row
   * @param {HTMLSelectElement} choice
   */
  cardKey(event, row, choice) {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // In the list a letter looks for a name that begins with it: there a key is a class's only where no name has it.
    const inList = event.target === choice;
    if (inList && [...choice.options].some((option) => option.text.toLowerCase().includes(key))) return;
    const index = classOf(key);
    if (index >= 0) this.correct(row, choice, index);
    else if (key === "e" && !inList) this.enlarge(row);
    else return;
    event.preventDefault();
  }

  /**
   * @param {Reviewed} row
   * @param {HTMLSelectElement} choice
   * @param {number | null} label
   */
  async correct(row, choice, label) {
    try {
      this.app.received(await post("api/correct", { image: row.image, label, person: state.person }));
      say(`Image ${row.image} is ${label === null ? "without a label" : nameOf(label)} now.`);
      Object.assign(row, {
        label,
        declined: label === null,
        disputed: false,
        source: "correction",
        suspicion: label === row.predicted ? 0 : row.suspicion,
      });
      const before = choice.closest(".card");
      const after = this.card(row);
      const focused = before?.contains(document.activeElement);
      before?.replaceWith(after);
      if (focused) after.querySelector("button")?.focus();
    } catch (error) {
      toast(messageOf(error));
      choice.value = String(row.label ?? "");
    }
  }

  /**
   * @param {Reviewed} row
   * @param {HTMLElement} card
   */
  async unflag(row, card) {
    try {
      await post("api/flag", { image: row.image, person: state.person, raised: false });
      row.note = null;
      card.replaceWith(this.card(row));
    } catch (error) {
      toast(messageOf(error));
    }
  }

  /** @param {Reviewed} row */
  enlarge(row) {
    enlarge(row.path, image(row), `Image ${row.image}`);
  }

  async undo() {
    try {
      const undone = await post("api/undo", client());
      this.app.received(undone);
      toast(`Your last answer about image ${undone.image} was taken back.`);
      await this.load();
    } catch (error) {
      toast(messageOf(error));
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    this.undo();
  }

  update() {}

  changed() {
    this.drawClasses();
    this.load();
  }

  drawClasses() {
    const before = this.label.value;
    const options = state.classes.map((name, index) => h("option", { value: String(index) }, name));
    this.label.replaceChildren(h("option", { value: "" }, "Any"), ...options);
    this.label.value = before;
  }
}

/**
 * Return what a model says of a label.
 * @param {Reviewed} row
 */
function judgement({ predicted, confidence, label, suspicion }) {
  if (predicted === null) return "Not checked by a model yet";
  if (predicted === label && !suspicion) return "The model agrees";
  const text = `Prediction: ${nameOf(predicted)}, ${percent(confidence)} confident`;
  return suspicion ? text : `${text}; not enough to doubt the label`;
}

/**
 * Return where a label comes from.
 * @param {Reviewed} row
 */
function origin({ source, votes }) {
  if (source === "folder") return "came with the folder";
  if (source === "correction") return "corrected";
  const entries = Object.entries(votes);
  if (entries.length < 2) return entries.map(([person]) => person).join("");
  return entries.map(([person, vote]) => `${person}: ${vote === null ? "none" : nameOf(vote)}`).join(", ");
}

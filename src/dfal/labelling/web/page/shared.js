// What several views share: buttons, the reason for a question, flags, and what to show where nothing is left.

import { address, get, post, sentence, state, twin } from "./api.js";
import { ask, h } from "./dom.js";
import { count } from "./words.js";

/** @import { Progress, Question, Reason } from "./api.js" */
/** @import { Properties } from "./dom.js" */
/** @import { App } from "./views.js" */

/** Seconds of an answer, at most: somebody was away. */
const MAX_ANSWER_SECONDS = 3600;
/** Classes above which their buttons are smaller. */
const FEW_CLASSES = 8;
/** Letters of a name above which a phone gives its button more room. */
const SHORT_NAME = 6;

/** @param {string} key */
const kbd = (key) => h("kbd", { "aria-hidden": "true" }, key.toUpperCase());

/**
 * Return the name of a class.
 * @param {number} index
 */
export const nameOf = (index) => state.classes[index] ?? String(index);

/**
 * Return the seconds since an image was shown.
 * @param {number} shown
 */
export const secondsSince = (shown) => Math.min((performance.now() - shown) / 1000, MAX_ANSWER_SECONDS);

/**
 * Return a button for a command, with its key.
 * @param {string} name
 * @param {string} key
 * @param {() => unknown} command
 * @param {Properties} properties
 */
export function commandButton(name, key, command, properties = {}) {
  const all = {
    type: "button",
    className: "quiet",
    onclick: command,
    "aria-keyshortcuts": key,
    ...properties,
  };
  return h("button", all, name, kbd(key));
}

/**
 * Draw a button for each class into `group`, and one that adds a class.
 * @param {HTMLElement} group
 * @param {App} app
 * @param {(index: number) => unknown} answer
 */
export function drawClasses(group, app, answer) {
  const names = state.classes;
  /**
   * @param {Properties} properties
   * @param {string} text
   */
  const add = (properties, text) => {
    const all = { type: "button", "aria-keyshortcuts": "n", onclick: () => app.addClass(), ...properties };
    return h("button", all, text);
  };
  group.classList.toggle("many", names.length > FEW_CLASSES);
  group.classList.toggle(
    "long",
    names.some((name) => name.length > SHORT_NAME),
  );
  if (!names.length) {
    const text = "There are no classes yet. Add at least two, for example cat and dog.";
    group.replaceChildren(h("p", { className: "soft" }, text), add({ className: "main" }, "Add a class"));
    return;
  }
  const buttons = names.map((name, index) => {
    const key = state.keys.get(name);
    const properties = {
      type: "button",
      title: name,
      "aria-keyshortcuts": key,
      onclick: () => answer(index),
    };
    return h("button", properties, key && key !== name ? kbd(key) : null, h("span", {}, name));
  });
  group.replaceChildren(
    ...buttons,
    add({ className: "add", "aria-label": "Add or rename a class" }, "+ class"),
  );
}

/**
 * Return the class of a key; −1 where it has none.
 * @param {string} key
 */
export const classOf = (key) => state.classes.findIndex((name) => state.keys.get(name) === key.toLowerCase());

/**
 * Ask for a note. Return the flag of the image afterwards, null for none; undefined where nothing was done.
 * @param {Question} question
 */
export async function flag(question) {
  const note = h("textarea", { maxLength: 1000, value: question.note ?? "", name: "note" });
  const field = h("label", { className: "field" }, "A note for whoever reviews this image", note);
  const off = question.note === null ? null : h("input", { type: "checkbox", name: "off" });
  const remove = off && h("label", {}, off, " Remove the flag");
  const result = await ask("Flag this image", [field, remove], {
    button: "Save",
    send: async () => {
      const change = { note: note.value, raised: !off?.checked };
      await post("api/flag", { image: question.image, person: state.person, ...change });
      return change;
    },
  });
  if (!result) return undefined;
  return result.raised ? result.note : null;
}

/** @type {Record<string, string>} */
const KINDS = {
  random: "Selected at random, because no model has ranked this image.",
  coverage: "Selected as the typical image of a group of similar images that has no label yet.",
  "hold-out":
    "Selected at random, to measure the model's accuracy. The model is never trained on this image.",
  vote: "Other people have labelled this image. Several people label each image, and one more where they disagree.",
};

/** Strategies that select typical images of groups without a label, whatever the model predicts for them. */
const COVERAGE = new Set(["typi-clust", "prob-cover", "max-herding"]);

/**
 * Return why an image was selected; null where the server does not say.
 * @param {Question} question
 * @returns {Promise<HTMLElement[] | null>}
 */
export async function reasonFor(question) {
  /** @type {Reason | null} */
  const reason = await get(`api/questions/${question.id}`).catch(() => null);
  if (!reason) return null;
  const { predicted, runner_up, twin_predicted } = reason;
  if (predicted === null || runner_up === null) return [h("p", {}, KINDS[question.kind] ?? KINDS.random)];
  const prediction = ["Prediction: ", bold(predicted), ", runner-up ", bold(runner_up), ". "];
  const words = h("p", {}, ...prediction, ...score(reason));
  if (!reason.twin || twin_predicted === null) return [words];
  /**
   * @param {"image" | "change" | "twin"} part
   * @param {(Node | string)[]} caption
   */
  const figure = (part, ...caption) =>
    h(
      "figure",
      {},
      h("img", { src: twin(question, reason, part), alt: "" }),
      h("figcaption", {}, ...caption),
    );
  const trio = h(
    "div",
    { className: "trio" },
    figure("image", "image:", h("br"), bold(predicted)),
    figure("change", "change,", h("br"), "magnified"),
    figure("twin", "twin:", h("br"), bold(twin_predicted)),
  );
  const definition =
    "The adversarial twin is the image with a change just large enough to alter the prediction.";
  return [trio, h("div", { className: "words" }, words, h("p", { className: "small soft" }, definition))];
}

/** @param {number} index */
const bold = (index) => h("b", {}, nameOf(index));

/**
 * Return why the strategy selected the image: how near it is to the decision boundary, or what it looks for.
 * @param {Reason} reason
 * @returns {(Node | string)[]}
 */
function score({ strategy, about, backbone, score: value }) {
  if (strategy && COVERAGE.has(strategy)) return [KINDS.coverage];
  if (strategy === "few-labels") {
    return ["Selected because it stands for many images like it of which the model is not certain."];
  }
  if (!strategy?.startsWith("dfal")) {
    const what = `Selected by ${strategy}${about ? `: ${about}` : ""}`;
    return [value === null ? `${what}.` : `${what} (score ${value.toPrecision(3)}).`];
  }
  if (value === null) return ["The attack did not reach the decision boundary."];
  const norm =
    backbone && !backbone.startsWith("none") ? `(L2, in the features of ${backbone})` : "(L2, pixels 0 to 1)";
  return ["Distance to the decision boundary ", h("b", {}, value.toPrecision(2)), ` ${norm}.`];
}

/** Shown where no image is left for this person: why, and what to do. */
export class EmptyState {
  /** @param {() => void} undo */
  constructor(undo) {
    this.title = h("h1");
    this.words = h("p", { className: "soft" });
    const buttons = h(
      "div",
      { className: "row" },
      h("button", { type: "button", onclick: undo }, "Undo"),
      h("a", { href: "#review" }, "Review"),
      h("a", { href: address("api/export"), download: "labels.csv" }, "Download the labels"),
    );
    this.element = h("section", { className: "empty" }, this.title, this.words, buttons);
  }

  /**
   * Say why.
   * @param {string} error why the server could not be asked; empty where it could
   */
  update(error) {
    if (!state.progress) return;
    const { title, text } = error
      ? { title: "The server cannot be reached", text: sentence(error) }
      : whyEmpty(state.progress);
    this.title.textContent = title;
    this.words.textContent = text;
  }
}

/** @param {Progress} progress */
function whyEmpty({ left, declined, disputed, annotations, prelabelled, images, unreadable }) {
  const settle = "Settle them in the review under “Disputed, no majority”";
  const tied = `${count(disputed)} disputed: their votes are tied. ${settle}`;
  if (left) {
    const last = left === 1 ? "the last image" : `the last ${count(left)} images`;
    return {
      title: "No image for you at the moment",
      text: disputed
        ? `${tied}, or let another person label under their own name.`
        : `Other people are labelling ${last}, or still have to vote. Images that they release appear here.`,
    };
  }
  if (images === unreadable) {
    return {
      title: "No image can be read",
      text: "All are set aside. The list in the progress panel says why.",
    };
  }
  const skipped = "The review lists them under “Skipped”, where you can still label them.";
  if (disputed) return { title: "No image is left to label", text: `${tied}.` };
  if (!annotations && !prelabelled) {
    const text = `No image has a label. Undo brings back the last one. ${skipped}`;
    return { title: "Every image was skipped", text };
  }
  if (declined) {
    const text = `${count(declined)} skipped, every other image has a label. ${skipped}`;
    return { title: "No image is left to label", text };
  }
  const text = "Check the most suspicious labels in the review, or download them.";
  return { title: "Every image has a label", text };
}

// What the models learn from, how far its features are, and whether anything is learnt yet.

import { h } from "./dom.js";
import { count, labels, notice, percent } from "./words.js";

/** @import { Progress } from "./api.js" */

/** Whether somebody has opened the reason: the panel is drawn anew after each answer. */
let isOpen = false;

/** Values of a backbone that are no pretrained network. */
const NOT_PRETRAINED = ["none", "none+unlabelled", "pixels", "auto"];

/**
 * Return what the models learn from, with the reason to open; null before it is chosen.
 * @param {Progress} now
 */
export function learner({ learner: { backbone, why } }) {
  if (backbone === "auto") return null;
  if (backbone === "none+unlabelled" && why) {
    return h("p", { className: "soft" }, `${why[0]?.toUpperCase()}${why.slice(1)}.`);
  }
  const isPretrained = !NOT_PRETRAINED.includes(backbone);
  const reasons = [
    why,
    isPretrained &&
      "It was trained on other photographs before, perhaps of the same kinds of things as yours.",
  ].filter((reason) => reason);
  if (!reasons.length) return h("p", { className: "soft" }, learnsFrom(backbone));
  const toggled = (/** @type {{ target: HTMLDetailsElement }} */ { target }) => {
    isOpen = target.open;
  };
  const paragraphs = reasons.map((reason) => h("p", { className: "soft" }, reason));
  const summary = h("summary", {}, learnsFrom(backbone));
  return h("details", { open: isOpen, ontoggle: toggled }, summary, paragraphs);
}

/** @param {string} backbone */
function learnsFrom(backbone) {
  if (backbone === "none") return "Network trained from scratch";
  if (backbone === "none+unlabelled") return "Network trained on the labels and on images without one";
  if (backbone === "pixels") return "Labels spread to similar images, by their pixels";
  return `Features: ${backbone}, a pretrained network`;
}

/**
 * Return how many images have features, while they are computed.
 * @param {Progress} now
 */
export function featuresProgress({ features }) {
  if (!features || features.done >= features.total) return null;
  const { backbone, done, total } = features;
  return h(
    "p",
    { className: "soft" },
    `Computing features (${backbone}): ${count(done)} of ${count(total)} images`,
  );
}

/**
 * Return that the model is not better than one class for all, and what can help; null where it is better.
 * @param {Progress} now
 */
export function nothingLearnt(now) {
  const { baseline, curve } = now;
  const latest = curve.at(-1);
  if (!baseline || baseline.beaten || !latest) return null;
  const always = `Always predicting ${baseline.name} would be right for ${percent(baseline.share)} of the hold-out`;
  const text = `${always}; the accuracy of the model may be as low as ${percent(latest.low)}. This can help:`;
  const helps = h(
    "ul",
    {},
    remedies(now).map((remedy) => h("li", {}, remedy)),
  );
  return h("div", { className: "hint" }, notice("Nothing is learnt yet.", text, ""), helps);
}

/** Rare classes that are named. */
const NAMED = 3;

/**
 * @param {Progress} now
 * @returns {(string | Node)[]}
 */
function remedies({ rare, class_counts: counts, classes, learner: { backbone }, photos_extra: isInstalled }) {
  const found = [];
  if (rare.length) {
    const named = rare.slice(0, NAMED).map((name) => `${name} (${count(counts[name] ?? 0)})`);
    found.push(`more labels of the rare classes: ${named.join(", ")}${rare.length > NAMED ? ", …" : ""}`);
  } else {
    found.push("more labels");
  }
  if (NOT_PRETRAINED.includes(backbone) && !isInstalled) {
    const install = h("code", {}, "pip install 'dfal[photos]'");
    found.push(h("span", {}, "for photographs, a pretrained network: ", install));
  } else {
    found.push(h("span", {}, "another network: ", h("code", {}, "--backbone NAME")));
  }
  if (classes.length > 2) found.push("fewer classes, where two look alike");
  return found;
}

/**
 * Return the sentence about the latest model: on which labels it was trained.
 * @param {Progress} now
 */
export function aboutModel({ model, annotations, newer }) {
  const seen = annotations - newer;
  const later = newer ? `; ${count(newer)} ${newer === 1 ? "is" : "are"} newer` : "";
  return `Model ${count(model)}, trained with ${count(seen)}${labels(seen)}${later}.`;
}

// What the label view and the grid share: buttons, the reason of a question, flags, and what to say where nothing is asked.

import { address, get, post, sentence, state, twin } from "./api.js";
import { ask, h } from "./dom.js";

const kbd = (key) => h("kbd", { "aria-hidden": "true" }, key.toUpperCase());

/** A quiet button with its key. */
export function act(name, key, does, properties = {}) {
  return h("button", { type: "button", className: "quiet", onclick: does, "aria-keyshortcuts": key, ...properties }, name, kbd(key));
}

/** A button for each class into `group`, and one for more of them. */
export function drawClasses(group, app, answer) {
  const names = state.classes;
  const add = (properties, text) => h("button", { type: "button", "aria-keyshortcuts": "n", onclick: () => app.addClass(), ...properties }, text);
  group.classList.toggle("many", names.length > 8);
  group.classList.toggle("long", names.some((name) => name.length > 6));
  if (!names.length) {
    group.replaceChildren(h("p", { className: "soft" }, "There are no classes yet. Say what there is to tell apart: at least two, for example cat and dog."), add({ className: "main" }, "Add a class"));
    return;
  }
  group.replaceChildren(...names.map((name, index) => {
    const key = state.keys.get(name);
    return h("button", { type: "button", title: name, "aria-keyshortcuts": key, onclick: () => answer(index) }, key && key !== name ? kbd(key) : null, h("span", {}, name));
  }), add({ className: "add", "aria-label": "Add or rename a class" }, "+ class"));
}

/** The class of a key; −1 where it has none. */
export const classOf = (key) => state.classes.findIndex((name) => state.keys.get(name) === key.toLowerCase());

/** Ask for a note. The flag of the question's image afterwards, null for none; undefined where nothing was done. */
export async function flag(question) {
  const note = h("textarea", { maxLength: 1000, value: question.note ?? "", name: "note" });
  const raised = question.note !== null;
  const off = raised ? h("label", {}, h("input", { type: "checkbox", name: "off" }), " Take the flag off") : null;
  const found = await ask("Flag this image", [h("label", { className: "field" }, "A note for whoever looks at it later", note), off], {
    button: "Flag", read: () => ({ note: note.value, raised: !off?.querySelector("input").checked }),
    check: async (read) => { await post("api/flag", { image: question.image, person: state.person, ...read }); return read; },
  });
  return found ? (found.raised ? found.note : null) : undefined;
}

const KINDS = {
  random: "Drawn at random. As long as no network has learnt, every image is as good as any other.",
  "hold-out": "Drawn at random, to measure how accurate the network is. It never learns from this one.",
  vote: "Others have answered already. Several people are asked about each image, and one more where they disagree.",
};

/** Why this image: distance to the boundary, the two classes it lies between, and its twin. Null where the server does not say. */
export async function reasons(question) {
  const found = await get(`api/questions/${question.id}`).catch(() => null);
  if (!found) return null;
  if (found.predicted === null) return [h("p", {}, KINDS[question.kind] ?? KINDS.random)];
  const name = (index) => h("b", {}, state.classes[index] ?? String(index));
  const nearest = found.strategy.startsWith("dfal");
  const words = nearest
    ? [h("p", {}, "The network sees ", name(found.predicted), " here, but ", name(found.runner_up), " is near: the boundary is ",
        found.score === null ? "out of reach." : h("b", {}, found.score.toPrecision(2)), found.score === null ? "" : " away, nearer than in the others it looked at.")]
    : [h("p", {}, "The network sees ", name(found.predicted), " here, and next to it ", name(found.runner_up), ". The strategy ", h("b", {}, found.strategy),
        found.score === null ? " chose it." : ` gives it ${found.score.toPrecision(3)}.`)];
  if (!found.twin) return words;
  const part = (which, text) => h("figure", {}, h("img", { src: twin(question, found, which), alt: "" }), h("figcaption", {}, text));
  return [h("div", { className: "trio" }, part("image", ["as it is:", h("br"), name(found.predicted)]), part("change", ["a change too", h("br"), "small to see"]),
    part("twin", ["its twin:", h("br"), name(found.twin_predicted)])), ...words];
}

/** Where nothing can be asked: why, and what can be done. */
export class Nothing {
  constructor(undo) {
    this.title = h("h1");
    this.words = h("p", { className: "soft" });
    this.element = h("section", { className: "empty" }, this.title, this.words,
      h("div", { className: "row" }, h("button", { type: "button", onclick: undo }, "Undo"),
        h("a", { href: "#review" }, "Review"), h("a", { href: address("api/export"), download: "labels.csv" }, "Download the labels")));
  }

  /** Say it: `trouble` is why the server could not be asked. */
  update(trouble) {
    if (!state.progress) return;
    const [title, words] = trouble ? ["The server cannot be asked", sentence(trouble)] : whyNothing(state.progress);
    this.title.textContent = title;
    this.words.textContent = words;
  }
}

function whyNothing({ left, declined, disputed, annotations, known, images, unreadable }) {
  const some = (number) => (number === 1 ? "the last image" : `the last ${number.toLocaleString("en")} images`);
  const tied = `${disputed.toLocaleString("en")} disputed: their votes are tied. Settle them in the review under “Disputed, no majority”`;
  if (left && disputed) return ["Nothing to ask you just now", `${tied}, or let another person label under their own name.`];
  if (left) return ["Nothing to ask you just now", `Others look at ${some(left)}, or are still to be asked. What they give back comes here.`];
  if (images === unreadable) return ["No image can be read", "All of them are set aside: the list beside the page says why."];
  const look = "The review shows them under “Skipped”, and any can be given a label there.";
  if (disputed) return ["Nothing is left to ask", `${tied}.`];
  if (!annotations && !known) return ["Every image was skipped", `No label was given. Undo brings the last one back. ${look}`];
  if (declined) return ["Nothing is left to ask", `${declined.toLocaleString("en")} skipped, every other image has its label. ${look}`];
  return ["Every image has its label", "Look over the most suspicious ones in the review, or take them home."];
}

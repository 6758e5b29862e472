// The final model: trained on all labels when somebody presses the button.

import { messageOf, post, sentence } from "./api.js";
import { h, say, toast } from "./dom.js";
import { count, labels, percent } from "./words.js";

/** @import { Progress } from "./api.js" */

/**
 * Return the section about the final model; null before there is any model, and where none can be trained.
 * @param {Progress} now
 * @param {() => void} refresh fetches the progress anew
 */
export function finalModel({ final, model, target }, refresh) {
  if (final.state === "unavailable" || (!model && final.state === "none")) return null;
  const again = final.state === "none" ? "Train the final model" : "Train it again";
  const start = h("button", { type: "button", onclick: () => send("api/final", refresh) }, again);
  const section = { className: "stack small", "aria-label": "Final model" };
  const title = h("h2", {}, "Final model");
  if (final.state === "none") {
    const text = "Takes longer and uses all labels but the hold-out. You can keep labelling.";
    return h("section", section, title, h("p", { className: "soft" }, text), h("p", {}, start));
  }
  if (final.state === "running") {
    const cancel = { type: "button", className: "link", onclick: () => send("api/final/cancel", refresh) };
    const bar = h("progress", { "aria-label": "Training of the final model" });
    if (final.total) Object.assign(bar, { max: final.total, value: final.done });
    return h("section", section, title, running(final), bar, h("p", {}, h("button", cancel, "Cancel")));
  }
  if (final.state === "failed") {
    const failed = h("p", { className: "wrong" }, sentence(final.error));
    return h("section", section, title, failed, h("p", {}, start));
  }
  const notes = final.notes.map((note) => h("p", { className: "soft" }, sentence(note)));
  return h("section", section, title, ...result(final, target), notes, h("p", {}, start));
}

/** @param {Progress["final"]} final */
function running({ activity, done, total }) {
  const amount = total > 1 ? `, ${count(done)} of ${count(total)}` : "";
  return h("p", { className: "soft" }, `${sentence(activity).replace(/\.$/, "")}${amount} …`);
}

/**
 * @param {Progress["final"]} final
 * @param {number} target
 */
function result({ accuracy, labels: trained, file, network }, target) {
  const trainedOn = `${network}, trained on ${count(trained)}${labels(trained)}.`;
  const where = h("p", {}, "Saved as ", h("b", {}, file ?? ""), ", next to the store.");
  if (!accuracy) return [where, h("p", { className: "soft" }, trainedOn)];
  const interval = `95 % CI ${percent(accuracy.low, 1)} to ${percent(accuracy.high, 1)}`;
  const reached = accuracy.low >= target ? `, above the target of ${percent(target)}` : "";
  const right = `${accuracy.right} of ${accuracy.of} hold-out images right (${interval}${reached}).`;
  const value = h("p", {}, h("b", {}, percent(accuracy.value, 1)), ` accuracy: ${right}`);
  return [value, where, h("p", { className: "soft" }, trainedOn)];
}

/**
 * @param {string} path
 * @param {() => void} refresh
 */
async function send(path, refresh) {
  try {
    const { state } = await post(path, {});
    say(state === "running" ? "Training the final model." : "The training was cancelled.");
  } catch (error) {
    toast(messageOf(error));
  }
  refresh();
}

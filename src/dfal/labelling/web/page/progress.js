// The progress of the labelling, always in sight.

import { address, get } from "./api.js";
import { h, show, svg } from "./dom.js";
import { finalModel } from "./final.js";
import { aboutModel, featuresProgress, learner, nothingLearnt } from "./learning.js";
import { count, duration, labels, notice, percent } from "./words.js";

/** @import { components } from "dfal-api" */
/** @import { Progress } from "./api.js" */
/** @typedef {components["schemas"]["AccuracyReply"]} Accuracy */

/** Hold-out answers below which an accuracy says too little. */
const ENOUGH = 20;

/**
 * Return the panel beside the image.
 * @param {Progress} now
 * @param {() => void} refresh fetches the progress anew
 */
export function panel(now, refresh) {
  const latest = now.curve.at(-1);
  const classes = now.classes.map((name) => bar(name, now.class_counts[name] ?? 0));
  const people = Object.entries(now.answers_by_person).map(([name, answers]) => bar(name, answers));
  const sections = [
    h("section", { className: "stack", "aria-label": "Labels" }, totals(now, latest)),
    section(
      "Accuracy on the hold-out",
      chart(now),
      h("p", { className: "small soft" }, aboutAccuracy(now, latest)),
      h("div", { className: "small" }, learner(now), featuresProgress(now)),
    ),
    ...hints(now, latest),
    figures(now),
    classes.length ? section("Classes", bars(classes)) : null,
    people.length > 1 ? section("People", bars(people)) : null,
    finalModel(now, refresh),
    h(
      "section",
      { className: "stack small" },
      h("p", { className: "soft" }, activity(now)),
      h("a", { href: address("api/export"), download: "labels.csv" }, "Download the labels as CSV"),
    ),
  ];
  return sections.filter((part) => part !== null);
}

/**
 * @param {string} title
 * @param {Element[]} content
 */
const section = (title, ...content) => h("section", { className: "stack" }, h("h2", {}, title), ...content);

/**
 * @param {Progress} now
 * @param {Accuracy | undefined} latest
 */
function totals(now, latest) {
  const big = { className: "big" };
  const small = { className: "small soft" };
  const images = `of ${count(now.images - now.unreadable)} images`;
  const number = h("p", big, count(now.annotations), h("small", {}, labels(now.annotations)));
  if (!latest) return h("div", { className: "sum" }, number, h("p", small, images));
  const title = `95 % CI: ${percent(latest.low, 1)} to ${percent(latest.high, 1)}`;
  return h(
    "div",
    { className: "sum" },
    number,
    h("p", { ...big, title }, (100 * latest.value).toFixed(0), h("small", {}, " %")),
    h("p", small, images),
    h("p", small, `${percent(latest.low)} – ${percent(latest.high)}`),
  );
}

/**
 * Return the progress in one line, for narrow windows.
 * @param {Progress} now
 * @returns {Node[]}
 */
export function summary(now) {
  const latest = now.curve.at(-1);
  const number = h("span", {}, h("b", {}, count(now.annotations)), labels(now.annotations));
  if (!latest) return [number, h("span", {}, activity(now)), remaining(now)];
  const interval = ` (${Math.round(100 * latest.low)}–${Math.round(100 * latest.high)})`;
  return [number, h("span", {}, h("b", {}, percent(latest.value)), interval), remaining(now)];
}

/** @param {Progress} now */
function remaining(now) {
  const target = percent(now.target);
  if (now.reached) return h("span", { className: "done" }, `${target} reached`);
  if (now.answers_to_confirm !== null) {
    return h("span", {}, h("b", {}, count(now.answers_to_confirm)), ` to confirm ${target}`);
  }
  if (now.stop) return h("span", { className: "done" }, "time to stop");
  const left = now.labels_left?.labels ?? Infinity;
  if (left <= now.left) return h("span", {}, h("b", {}, `≈ ${count(left)}`), " left");
  return h("span", {}, `${count(now.left)} images`);
}

/**
 * @param {Progress} now
 * @param {Accuracy | undefined} latest
 */
function aboutAccuracy(now, latest) {
  if (!latest) {
    return now.held_out
      ? "Training the first model."
      : "Some images are selected at random to measure the accuracy. The model is never trained on them.";
  }
  const few = latest.of < ENOUGH ? ` Fewer than ${ENOUGH} are too few to rely on.` : "";
  const right = `${latest.right} of ${latest.of} hold-out answers right; the model was not trained on them.`;
  return `${right} The range is the 95 % CI.${few}`;
}

/**
 * @param {string | Node} name
 * @param {string} value
 */
const row = (name, value) => h("div", {}, h("dd", {}, value), h("dt", {}, name));

/** @param {Progress} now */
function figures(now) {
  const { seconds_per_label: seconds } = now;
  const pace = seconds !== null && seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds ?? 0);
  const aside = h(
    "button",
    { type: "button", className: "link", onclick: listAside },
    "set aside, unreadable",
  );
  /** @type {[string | Node, number][]} */
  const counts = [
    ["came with a label", now.prelabelled],
    ["skipped", now.declined],
    ["disputed, no majority", now.disputed],
    ["flagged", now.flagged],
    [aside, now.unreadable],
  ];
  return h(
    "dl",
    { className: "figures" },
    row("per label", seconds === null ? "–" : pace),
    labelsLeft(now),
    likelyLeft(now),
    counts.map(([name, number]) => (number ? row(name, count(number)) : null)),
    now.alpha === null ? null : row("agreement of people (alpha)", now.alpha.toFixed(2)),
  );
}

/** @param {Progress} now */
function labelsLeft(now) {
  const target = percent(now.target);
  if (now.reached) return row(`${target} is reached`, "0 left");
  if (now.answers_to_confirm !== null) {
    return row(`hold-out answers to confirm ${target}`, count(now.answers_to_confirm));
  }
  const name = `labels left to ${target}`;
  if (!now.labels_left) return row(name, "too early");
  const { labels: left } = now.labels_left;
  if (left !== null && left <= now.left) return row(name, `≈ ${count(left)}`);
  return row(`${name}. More labels than you have images: try another model`, `> ${count(now.left)}`);
}

/** @param {Progress} now */
function likelyLeft({ labels_left, left, seconds_per_label: seconds }) {
  const { labels: estimate = null, low = null, high = null } = labels_left ?? {};
  if (low === null || low > left) return null;
  const range = high === null || high > left ? `${count(low)} or more` : `${count(low)} to ${count(high)}`;
  const isKnown = seconds !== null && estimate !== null && estimate <= left;
  const time = isKnown ? `, at your pace ${duration(estimate * seconds)}` : "";
  return h(
    "div",
    { className: "wide small soft" },
    h("dt", { className: "unseen" }, "Likely"),
    h("dd", { className: "plain" }, `Likely ${range}${time}.`),
  );
}

async function listAside() {
  /** @type {components["schemas"]["SetAsideReply"][]} */
  const images = await get("api/set-aside");
  const items = images.map(({ path, reason }) => h("li", {}, h("b", {}, path), ` ${reason}`));
  show("Set aside", h("ul", { className: "listed" }, items));
}

/**
 * Return what may be a reason to stop.
 * @param {Progress} now
 * @param {Accuracy | undefined} latest
 */
function hints(now, latest) {
  /** @type {(HTMLElement | null)[]} */
  const found = [nothingLearnt(now)];
  const target = percent(now.target);
  if (latest && now.reached) {
    const interval = `95 % CI ${percent(latest.low)} to ${percent(latest.high)}`;
    const right = `The latest model is right on ${latest.right} of ${latest.of} hold-out answers`;
    found.push(notice(`The target of ${target} is reached.`, `${right}: ${interval}.`));
  }
  if (latest && now.answers_to_confirm !== null) {
    const right = `The latest model is right on ${latest.right} of ${latest.of} hold-out answers`;
    const low = `but its accuracy may be as low as ${percent(latest.low)}`;
    const more = `If it stays as it is, ${count(now.answers_to_confirm)} more hold-out answers confirm the target`;
    found.push(notice(`${target} is not confirmed yet.`, `${right}, ${low}. ${more}.`));
  }
  if (now.stop) {
    const text = "The latest models agree on nearly every image: more labels change little.";
    found.push(notice("It looks time to stop.", text));
  }
  return found;
}

/** @type {Partial<Record<Progress["training"], string>>} */
const ACTIVITIES = {
  training: "Training a model …",
  comparing: "Comparing what models can learn from …",
  reviewing: "Models are checking the labels …",
  starting: "Training is starting …",
  "": "No training is running.",
};

/**
 * Return what the trainer does.
 * @param {Progress} now
 */
function activity(now) {
  const text = ACTIVITIES[now.training];
  if (text) return now.steps ? `${steps(now.training, now.steps)} …` : text;
  if (now.model) return aboutModel(now);
  if (now.classes.length < 2) return "Training needs two classes.";
  if (!now.learner.backbone.startsWith("none"))
    return "The first model is trained once two classes have labels.";
  const missing = Math.max(0, now.first - now.trained_on);
  if (!missing) return "Training needs labels of two classes.";
  return `The first model is trained after ${missing} more${labels(missing)}.`;
}

/**
 * Return how far a training is that takes long.
 * @param {Progress["training"]} doing
 * @param {{ done: number, total: number }} steps
 */
function steps(doing, { done, total }) {
  const what =
    doing === "training" ? "Learning from images without a label" : ACTIVITIES[doing]?.replace(/ …$/, "");
  return `${what}: ${percent(done / total)}`;
}

/**
 * @param {string} name
 * @param {number} value
 */
const bar = (name, value) => ({ name, value });

/** @param {{ name: string, value: number }[]} counts */
function bars(counts) {
  const max = Math.max(1, ...counts.map(({ value }) => value));
  const items = counts.map(({ name, value }) =>
    h(
      "li",
      {},
      h("span", { className: "name", title: name }, name),
      h("progress", { max, value, "aria-label": `${name}: ${value}` }),
      h("span", { className: "count" }, count(value)),
    ),
  );
  return h("ul", { className: "bars" }, items);
}

const WIDTH = 280;
const HEIGHT = 150;
const LEFT = 30;
const RIGHT = 4;
const TOP = 6;
const BOTTOM = 20;
/** Labels that the axis shows at least. */
const MIN_AXIS = 20;

/**
 * Draw the learning curve: accuracy of each model over the labels it was trained on, its interval as a band, and
 * the target.
 * @param {Progress} now
 */
function chart({ curve, target }) {
  const most = Math.max(MIN_AXIS, ...curve.map((point) => point.annotations));
  /** @param {number} annotations */
  const x = (annotations) => LEFT + ((WIDTH - LEFT - RIGHT) * annotations) / most;
  /** @param {number} accuracy */
  const y = (accuracy) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy);
  /** @param {{ annotations: number, accuracy: number }[]} points */
  const path = (points) =>
    points
      .map(({ annotations, accuracy }, index) => {
        const place = `${x(annotations).toFixed(1)} ${y(accuracy).toFixed(1)}`;
        return `${index ? "L" : "M"}${place}`;
      })
      .join("");
  /** @param {"value" | "low" | "high"} part */
  const points = (part) => curve.map((point) => ({ annotations: point.annotations, accuracy: point[part] }));
  const rules = [0, 0.5, 1].flatMap((accuracy) => [
    svg("line", { class: "rule", x1: LEFT, x2: WIDTH, y1: y(accuracy), y2: y(accuracy) }),
    svg("text", { x: LEFT - 6, y: y(accuracy) + 4, "text-anchor": "end" }, String(100 * accuracy)),
  ]);
  const band = path([...points("high"), ...points("low").reverse()]);
  const [first] = curve;
  const last = curve.at(-1);
  const interval = last && {
    x1: x(last.annotations),
    x2: x(last.annotations),
    y1: y(last.low),
    y2: y(last.high),
  };
  const text =
    first && last
      ? `Accuracy from ${percent(first.value)} with ${first.annotations} labels` +
        ` to ${percent(last.value)} with ${last.annotations}`
      : "No model yet";
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": text },
    rules,
    svg("line", { class: "goal", x1: LEFT, x2: WIDTH, y1: y(target), y2: y(target) }),
    curve.length > 1 && svg("path", { class: "band", d: `${band}Z` }),
    curve.length === 1 && interval && svg("line", { class: "rule", ...interval }),
    svg("path", { class: "line", d: path(points("value")) }),
    last && svg("circle", { class: "dot", cx: x(last.annotations), cy: y(last.value), r: 4.5 }),
    svg("text", { x: LEFT, y: HEIGHT - 4 }, "0"),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, `${most} labels`),
  );
}

// How far it is, always in sight.

import { address, get } from "./api.js";
import { h, show } from "./dom.js";

const percent = (fraction, digits = 0) => `${(100 * fraction).toFixed(digits)} %`;
const count = (number) => number.toLocaleString("en");

/** "3 minutes", "1.5 hours". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return `${hours < 10 ? hours.toFixed(1) : Math.round(hours)} h`;
}

/** The panel beside the image. */
export function panel(now) {
  const latest = now.curve.at(-1);
  return [
    h("section", { className: "stack", "aria-label": "Labels" },
      h("div", { className: "sum" },
        h("p", { className: "big" }, count(now.annotations), h("small", {}, now.annotations === 1 ? " label" : " labels")),
        latest ? h("p", { className: "big", title: `95 % interval: ${percent(latest.low, 1)} to ${percent(latest.high, 1)}` }, (100 * latest.value).toFixed(0), h("small", {}, " %")) : null,
        h("p", { className: "small soft" }, `of ${count(now.images - now.unreadable)} images`),
        latest ? h("p", { className: "small soft" }, `${percent(latest.low)} – ${percent(latest.high)}`) : null)),
    h("section", { className: "stack" }, h("h2", {}, "Accuracy on the hold-out"), chart(now), h("p", { className: "small soft" }, held(now, latest))),
    ...hints(now),
    figures(now),
    now.classes.length ? h("section", { className: "stack" }, h("h2", {}, "Classes"), bars(now.classes.map((name) => [name, now.class_counts[name]]))) : null,
    Object.keys(now.answers_by_person).length > 1 ? h("section", { className: "stack" }, h("h2", {}, "People"), bars(Object.entries(now.answers_by_person))) : null,
    h("section", { className: "stack small" },
      h("p", { className: "soft" }, doing(now)),
      h("a", { href: address("api/export"), download: "labels.csv" }, "Download the labels as CSV")),
  ].filter(Boolean);
}

/** The same in a line, where the page is narrow. */
export function glance(now) {
  const latest = now.curve.at(-1);
  return [
    h("span", {}, h("b", {}, count(now.annotations)), now.annotations === 1 ? " label" : " labels"),
    latest ? h("span", {}, h("b", {}, percent(latest.value)), ` (${Math.round(100 * latest.low)}–${Math.round(100 * latest.high)})`) : h("span", {}, doing(now)),
    now.reached ? h("span", { className: "done" }, `${percent(now.target)} reached`) : now.answers_to_confirm !== null ? h("span", {}, h("b", {}, count(now.answers_to_confirm)), ` to confirm ${percent(now.target)}`) : now.stop ? h("span", { className: "done" }, "time to stop") : now.labels_left && now.labels_left.labels !== null && now.labels_left.labels <= now.left ? h("span", {}, h("b", {}, `≈ ${count(now.labels_left.labels)}`), " left") : h("span", {}, `${count(now.left)} images`),
  ];
}

function held(now, latest) {
  if (!latest) return now.held_out ? "Training the first model." : "Some images are drawn at random to measure the accuracy. The model is never trained on them.";
  const few = latest.of < ENOUGH ? ` Fewer than ${ENOUGH} are too few to rely on.` : "";
  return `${latest.right} of ${latest.of} hold-out answers right; the model was not trained on them. The range is the 95 % interval.${few}`;
}

function figures(now) {
  const row = (name, value, className = "") => h("div", { className }, h("dd", {}, value), h("dt", {}, name));
  const left = now.labels_left;
  const rows = [];
  rows.push(row("a label", now.seconds_per_label === null ? "–" : now.seconds_per_label < 10 ? `${now.seconds_per_label.toFixed(1)} s` : duration(now.seconds_per_label)));
  const target = percent(now.target);
  if (now.reached) rows.push(row(`${target} is reached`, "0 left"));
  else if (now.answers_to_confirm !== null) rows.push(row(`hold-out answers to confirm ${target}`, count(now.answers_to_confirm)));
  else if (!left) rows.push(row(`labels left to ${target}`, "too early"));
  else if (left.labels === null || left.labels > now.left) rows.push(row(`labels left to ${target}`, "more than you have images"));
  else rows.push(row(`labels left to ${target}`, `≈ ${count(left.labels)}`));
  if (left && left.low !== null && left.low <= now.left) {
    const range = left.high === null || left.high > now.left ? `${count(left.low)} or more` : `${count(left.low)} to ${count(left.high)}`;
    const time = now.seconds_per_label === null || left.labels === null || left.labels > now.left ? "" : `, at your pace ${duration(left.labels * now.seconds_per_label)}`;
    rows.push(h("div", { className: "wide small soft" }, h("dt", { className: "unseen" }, "Likely"), h("dd", { className: "plain" }, `Likely ${range}${time}.`)));
  }
  if (now.prelabelled) rows.push(row("came with a label", count(now.prelabelled)));
  if (now.declined) rows.push(row("skipped", count(now.declined)));
  if (now.disputed) rows.push(row("disputed, no majority", count(now.disputed)));
  if (now.flagged) rows.push(row("flagged", count(now.flagged)));
  if (now.unreadable) rows.push(row(h("button", { type: "button", className: "link", onclick: listAside }, "set aside, unreadable"), count(now.unreadable)));
  if (now.alpha !== null) rows.push(row("agreement of people (alpha)", now.alpha.toFixed(2)));
  return h("dl", { className: "figures" }, rows);
}

async function listAside() {
  const found = await get("api/set-aside");
  show("Set aside", h("ul", { className: "listed" }, found.map((one) => h("li", {}, h("b", {}, one.path), ` ${one.reason}`))));
}

/** Hold-out answers below which an accuracy says too little. */
const ENOUGH = 20;

/** What may be a reason to stop. */
function hints(now) {
  const hint = (title, text) => h("p", { className: "hint" }, h("b", {}, `${title} `), text);
  const latest = now.curve.at(-1);
  return [
    now.reached && hint(`The target of ${percent(now.target)} is reached.`, `The latest model is right on ${latest.right} of ${latest.of} hold-out answers: 95 % interval ${percent(latest.low)} to ${percent(latest.high)}.`),
    now.answers_to_confirm !== null && hint(`${percent(now.target)} is not confirmed yet.`, `The latest model is right on ${latest.right} of ${latest.of} hold-out answers, but its accuracy may be as low as ${percent(latest.low)}. If it stays as it is, ${count(now.answers_to_confirm)} more hold-out answers confirm the target.`),
    now.stop && hint("It looks time to stop.", "The latest models agree on nearly every image: more labels change little."),
  ];
}

function doing(now) {
  const latest = now.curve.at(-1);
  const words = { training: "A network is learning …", reviewing: "Networks look over the labels …", starting: "Training is starting …", "": "Nothing trains just now." };
  if (now.training in words) return words[now.training];
  if (!now.model) {
    const missing = Math.max(0, now.first - now.trained_on);
    return now.classes.length < 2 ? "A network needs two classes." : missing ? `The first network comes after ${missing} more.` : "The first network needs answers of two classes.";
  }
  return latest ? `Network ${now.model}, from ${count(latest.annotations)} labels.` : `Network ${now.model}.`;
}

function bars(counts) {
  const most = Math.max(1, ...counts.map(([, value]) => value));
  return h("ul", { className: "bars" }, counts.map(([name, value]) => h("li", {},
    h("span", { className: "name", title: name }, name),
    h("progress", { max: most, value, "aria-label": `${name}: ${value}` }),
    h("span", { className: "count" }, count(value)))));
}

/** The learning curve: accuracy of each network over the labels it was trained on, its interval as a band, and the goal. */
function chart(now) {
  const width = 280, height = 150, left = 30, bottom = 20, top = 6;
  const points = now.curve;
  const most = Math.max(20, ...points.map((point) => point.annotations));
  const x = (value) => left + ((width - left - 4) * value) / most;
  const y = (value) => top + (height - top - bottom) * (1 - value);
  const path = (values) => values.map(([a, b], at) => `${at ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const last = points.at(-1);
  const text = last ? `Accuracy from ${percent(points[0].value)} with ${points[0].annotations} labels to ${percent(last.value)} with ${last.annotations}` : "No network yet";
  const rules = [0, 0.5, 1].flatMap((value) => [
    h("line", { class: "rule", x1: left, x2: width, y1: y(value), y2: y(value) }),
    h("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(100 * value)),
  ]);
  const upper = points.map((point) => [point.annotations, point.high]);
  const lower = points.map((point) => [point.annotations, point.low]).reverse();
  return h("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text },
    rules,
    h("line", { class: "goal", x1: left, x2: width, y1: y(now.target), y2: y(now.target) }),
    points.length > 1 ? h("path", { class: "band", d: `${path([...upper, ...lower])}Z` }) : null,
    points.length === 1 ? h("line", { class: "rule", x1: x(last.annotations), x2: x(last.annotations), y1: y(last.low), y2: y(last.high) }) : null,
    h("path", { class: "line", d: path(points.map((point) => [point.annotations, point.value])) }),
    last ? h("circle", { class: "dot", cx: x(last.annotations), cy: y(last.value), r: 4.5 }) : null,
    h("text", { x: left, y: height - 4 }, "0"),
    h("text", { x: width - 4, y: height - 4, "text-anchor": "end" }, `${most} labels`));
}


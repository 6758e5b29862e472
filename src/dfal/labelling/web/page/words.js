// Numbers and notices in words.

import { h } from "./dom.js";

/** @param {number} number */
export const count = (number) => number.toLocaleString("en");

/**
 * @param {number} fraction
 * @param {number} digits
 */
export const percent = (fraction, digits = 0) => `${(100 * fraction).toFixed(digits)} %`;

/** @param {number} number */
export const labels = (number) => (number === 1 ? " label" : " labels");

/**
 * Return a duration as in "40 s", "3 min", "1.5 h".
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return `${hours < 10 ? hours.toFixed(1) : Math.round(hours)} h`;
}

/**
 * Return a notice: a title in bold and a text.
 * @param {string} title
 * @param {string} text
 * @param {string} className
 */
export const notice = (title, text, className = "hint") =>
  h("p", { className }, h("b", {}, `${title} `), text);

// The views of the page. Navigation and addresses (#label, #grid, …) are made from this list.

import { GridView } from "./grid.js";
import { LabelView } from "./label.js";
import { ReviewView } from "./review.js";

/** @import { Status } from "./api.js" */

/**
 * What a view can ask of the page.
 * @typedef {object} App
 * @property {(status: Partial<Status>) => void} received takes the status in a reply of the server
 * @property {(text: string) => void} waiting takes why an answer is not saved yet; empty once it is
 * @property {() => Node[]} summary returns the progress in one line
 * @property {() => void} addClass opens the dialog for a new class
 * @property {() => void} firstClasses opens that dialog once where there are no classes
 */

/**
 * What the page asks of a view.
 * @typedef {object} View
 * @property {() => Promise<void>} start is called once, when the view is opened
 * @property {() => void} stop is called when another view is opened
 * @property {() => void} update is called when the progress has been fetched
 * @property {() => void} changed is called when the classes have changed
 * @property {(event: KeyboardEvent) => void} key is called for a key that is meant for the page
 */

/**
 * @typedef {object} ViewEntry
 * @property {string} name in the address, after #
 * @property {string} title in the navigation
 * @property {(root: HTMLElement, app: App) => View} open
 */

/** @type {ViewEntry[]} */
export const VIEWS = [
  { name: "label", title: "Label", open: (root, app) => new LabelView(root, app) },
  { name: "grid", title: "Grid", open: (root, app) => new GridView(root, app) },
  { name: "review", title: "Review", open: (root, app) => new ReviewView(root, app) },
];

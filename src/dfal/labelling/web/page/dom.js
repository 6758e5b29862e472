// Elements from values. Text is text: nothing that people write is ever read as markup.

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {string | number | boolean | null | undefined | ((event: any) => unknown)} Property */
/** @typedef {Record<string, Property | Record<string, string>>} Properties */

const SVG = "http://www.w3.org/2000/svg";

/** @param {unknown} value */
const isAbsent = (value) => value === undefined || value === null || value === false;

/**
 * @param {Element} element
 * @param {(Child | Child[])[]} children
 */
function append(element, children) {
  for (const child of children.flat()) if (child || child === "") element.append(child);
}

/**
 * Return an element with properties, attributes (role, for, and those with a dash), listeners (on…) and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Properties} properties
 * @param {(Child | Child[])[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (isAbsent(value)) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role" || name === "for")
      element.setAttribute(name, String(value));
    else Object.assign(element, { [name]: value });
  }
  append(element, children);
  return element;
}

/**
 * Return an SVG element with attributes and children.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Child | Child[])[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  append(element, children);
  return element;
}

/**
 * Return an element of index.html.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element;
}

/**
 * Announce a sentence to screen readers.
 * @param {string} text
 */
export function say(text) {
  byId("said").textContent = text;
}

const TOAST_TIME = 6000; // ms
let fading = 0;

/**
 * Show a sentence for a while.
 * @param {string} text
 */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = !text;
  clearTimeout(fading);
  if (text) fading = setTimeout(() => (element.hidden = true), TOAST_TIME);
}

/**
 * Open a dialog with a form. Resolve to what `send` returns, or to null when the dialog is cancelled.
 * @template Result
 * @param {string} title
 * @param {Child[]} fields
 * @param {{ button: string, send: () => Promise<Result> }} options `send` throws what is wrong with the fields
 * @returns {Promise<Result | null>}
 */
export function ask(title, fields, { button, send }) {
  return new Promise((resolve) => {
    const wrong = h("p", { className: "wrong", role: "alert" });
    /** @type {Result | null} */
    let result = null;
    /** @param {SubmitEvent} event */
    const submit = async (event) => {
      event.preventDefault();
      try {
        result = await send();
        dialog.close();
      } catch (error) {
        wrong.textContent = error instanceof Error ? error.message : String(error);
      }
    };
    const buttons = h(
      "div",
      { className: "row" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", className: "main" }, button),
    );
    const heading = h("h1", { id: "dialog-title" }, title);
    const form = h("form", { onsubmit: submit }, heading, ...fields, wrong, buttons);
    const close = () => {
      dialog.remove();
      resolve(result);
    };
    /** @type {HTMLDialogElement} */
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: close }, form);
    document.body.append(dialog);
    dialog.showModal();
    const first = form.querySelector("input, textarea, select");
    if (first instanceof HTMLElement) first.focus();
  });
}

/**
 * Open a dialog that only shows something.
 * @param {string} title
 * @param {Child | Child[]} content
 * @param {string} className
 * @param {HTMLElement[]} buttons
 */
export function show(title, content, className = "", ...buttons) {
  const close = h("button", { type: "button", className: "main", onclick: () => dialog.close() }, "Close");
  const heading = h("h1", { id: "dialog-title" }, title);
  const row = h("div", { className: "row" }, ...buttons, close);
  const stack = h("div", { className: "stack" }, heading, content, row);
  /** @type {HTMLDialogElement} */
  const dialog = h(
    "dialog",
    { className, "aria-labelledby": "dialog-title", onclose: () => dialog.remove() },
    stack,
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ratio of the sides beyond which an image opens in its natural size. */
const LONG = 3;

/**
 * Show an image as large as possible: all of it, or every pixel of it, to be scrolled.
 * @param {string} title
 * @param {string} source
 * @param {string} alt
 */
export function enlarge(title, source, alt) {
  const image = picture(source, alt);
  const label = "The image; arrow keys scroll";
  const sheet = h(
    "div",
    { className: "sheet", tabIndex: 0, autofocus: true, role: "region", "aria-label": label },
    image,
  );
  const toggle = () => natural.setAttribute("aria-pressed", String(sheet.classList.toggle("natural")));
  /** @type {HTMLButtonElement} */
  const natural = h(
    "button",
    { type: "button", hidden: true, "aria-pressed": "false", onclick: toggle },
    "Natural size",
  );
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    natural.hidden = image.clientWidth >= width;
    if (!natural.hidden && Math.max(width / height, height / width) > LONG) toggle();
  });
  const dialog = show(title, sheet, "large", natural);
  dialog.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "e" || event.ctrlKey || event.metaKey) return;
    event.stopPropagation(); // else the page opens it again
    dialog.close();
  });
  return dialog;
}

/** Pixels of the longer side up to which a drawing is shown with sharp pixels. */
const FEW_PIXELS = 128;
/** Colours that a drawing has at most, and the fraction of its pixels that equal the one to their left, at least. */
const FEW_COLOURS = 256;
const FLAT = 0.4;

/**
 * Return whether an image of few pixels is a drawing, such as a digit: its pixels are shown as they are. The pixels
 * of a small photograph would hide what is on it.
 * @param {HTMLImageElement} image
 */
function isDrawing(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (Math.max(width, height) > FEW_PIXELS || width < 2) return false;
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d");
  if (!context) return false;
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  let equal = 0;
  for (let place = 1; place < pixels.length; place++) {
    if (place % width && pixels[place] === pixels[place - 1]) equal++;
  }
  return equal >= FLAT * height * (width - 1) && new Set(pixels).size <= FEW_COLOURS;
}

/**
 * Return an image that the style fits into its frame.
 * @param {string} source
 * @param {string} alt
 * @param {Properties} properties
 */
export function picture(source, alt, properties = {}) {
  const image = h("img", { alt, draggable: false, decoding: "async", ...properties });
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    image.style.setProperty("--wide", `${width}px`);
    image.style.setProperty("--ratio", String(width / height));
    image.classList.add("here");
    image.classList.toggle("drawing", isDrawing(image));
  });
  image.src = source;
  return image;
}

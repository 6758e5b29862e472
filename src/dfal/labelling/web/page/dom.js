// Elements from values. Text is text: nothing that people write is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, attributes (those with a dash, and role), listeners (on…) and children. */
export function h(tag, properties = {}, ...children) {
  const drawn = ["svg", "path", "line", "circle", "text", "g"].includes(tag);
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (drawn || name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value === true ? "" : value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Say something to those who listen to the page. */
export function say(text) {
  byId("said").textContent = text;
}

let fading = 0;

/** Show a sentence for a while. */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = !text;
  clearTimeout(fading);
  if (text) fading = setTimeout(() => (element.hidden = true), 6000);
}

/** A dialog with a form. Resolves to what `read` makes of it when it is sent, to null when it is left. */
export function ask(title, fields, { button = "Save", read, check = async (value) => value }) {
  return new Promise((resolve) => {
    const wrong = h("p", { className: "wrong", role: "alert" });
    let answer = null;
    const send = async (event) => {
      event.preventDefault();
      try {
        answer = await check(read());
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
      }
    };
    const form = h("form", { onsubmit: send }, h("h1", { id: "dialog-title" }, title), ...fields, wrong,
      h("div", { className: "row" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "submit", className: "main" }, button)));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => (dialog.remove(), resolve(answer)) }, form);
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("input, textarea, select")?.focus();
  });
}

/** A dialog to look at. */
export function show(title, content, className = "", ...buttons) {
  const dialog = h("dialog", { className, "aria-labelledby": "dialog-title", onclose: () => dialog.remove() },
    h("div", { className: "stack" }, h("h1", { id: "dialog-title" }, title), content,
      h("div", { className: "row" }, ...buttons, h("button", { type: "button", className: "main", onclick: () => dialog.close() }, "Close"))));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** An image as large as possible: all of it, or every pixel of it, to be scrolled. One that is very long begins so. */
export function enlarge(title, source, alt) {
  const image = picture(source, alt);
  const sheet = h("div", { className: "sheet", tabIndex: 0, autofocus: true, role: "region", "aria-label": "The image; arrows scroll" }, image);
  const pixels = h("button", { type: "button", hidden: true, "aria-pressed": "false", onclick: () => turn() }, "Natural size");
  const turn = () => pixels.setAttribute("aria-pressed", String(sheet.classList.toggle("natural")));
  image.addEventListener("load", () => {
    const { naturalWidth: wide, naturalHeight: high } = image;
    pixels.hidden = image.clientWidth >= wide;
    if (!pixels.hidden && Math.max(wide / high, high / wide) > 3) turn();
  });
  const dialog = show(title, sheet, "large", pixels);
  dialog.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "e" || event.ctrlKey || event.metaKey) return;
    event.stopPropagation(); // else the page opens it again
    dialog.close();
  });
  return dialog;
}

/** An image that is sharp in its own way: few pixels stay pixels. The style fits it into its frame by its own ratio. */
export function picture(source, alt, properties = {}) {
  const image = h("img", { alt, draggable: false, decoding: "async", ...properties });
  image.addEventListener("load", () => {
    const { naturalWidth: wide, naturalHeight: high } = image;
    image.style.setProperty("--wide", `${wide}px`);
    image.style.setProperty("--ratio", wide / high);
    image.classList.add("here");
    image.classList.toggle("tiny", Math.max(wide, high) <= 128);
  });
  image.src = source;
  return image;
}

// Which key is which class. Digits that are names are their own keys; else 1 to 9, 0, and then letters that no command has.

const ROW = [..."1234567890", ..."qertyuiopadghjklxcvbm"];

/** The key of each class; undefined where there are more classes than keys. */
export function keysOf(classes) {
  const digits = classes.filter((name) => /^\d$/.test(name));
  if (digits.length === classes.length) return classes.slice();
  return classes.map((_, index) => ROW[index]);
}

/** Whether a key press is meant for the page, and not for a field, a dialog or the browser. */
export function isOurs(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (document.querySelector("dialog[open]")) return false;
  return !event.target.closest?.("input, textarea, select");
}

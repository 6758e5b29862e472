// Which key is which class. Letters that are commands belong to no class.

const DIGITS = [..."1234567890"];
const LETTERS = [..."qrtyuiopadghjklxcvbm"];

/**
 * Return the key of each class, by name; none where there are more classes than keys. A class keeps the key that
 * it had. A name that is a digit is its own key. The others get what is left over: digits, unless a name is one, as
 * more may follow.
 * @param {string[]} classes
 * @param {Map<string, string>} previous keys that classes had before
 */
export function keysOf(classes, previous = new Map()) {
  /** @type {Map<string, string>} */
  const keys = new Map();
  for (const name of classes) {
    const key = previous.get(name);
    if (key !== undefined) keys.set(name, key);
  }
  const taken = new Set(keys.values());
  /**
   * @param {string} name
   * @param {string | undefined} key
   */
  const give = (name, key) => {
    if (keys.has(name) || key === undefined || taken.has(key)) return;
    keys.set(name, key);
    taken.add(key);
  };
  const digits = classes.filter((name) => DIGITS.includes(name));
  for (const name of digits) give(name, name);
  const free = digits.length ? LETTERS : [...DIGITS, ...LETTERS];
  for (const name of classes) {
    const next = free.find((key) => !taken.has(key));
    give(name, next);
  }
  return keys;
}

/**
 * Return whether a key press is meant for the page, and not for a field, a dialog or the browser.
 * @param {KeyboardEvent} event
 */
export function isOurs(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (document.querySelector("dialog[open]")) return false;
  return !(event.target instanceof Element && event.target.closest("input, textarea, select"));
}

// Which key is which class. Letters that are commands belong to no class.

const DIGITS = [..."1234567890"];
const LETTERS = [..."qrtyuiopadghjklxcvbm"];

/**
 * The key of each class, by name; none where there are more classes than keys. A class keeps the key that it had (`held`).
 * A name that is a digit is its own key. The others get what is left over: digits, unless a name is one, as more may follow.
 */
export function keysOf(classes, held = new Map()) {
  const keys = new Map(classes.filter((name) => held.has(name)).map((name) => [name, held.get(name)]));
  const taken = new Set(keys.values());
  const give = (name, key) => {
    if (keys.has(name) || key === undefined || taken.has(key)) return;
    keys.set(name, key);
    taken.add(key);
  };
  const digits = classes.filter((name) => DIGITS.includes(name));
  for (const name of digits) give(name, name);
  const rest = digits.length ? LETTERS : [...DIGITS, ...LETTERS];
  for (const name of classes) give(name, rest.find((key) => !taken.has(key)));
  return keys;
}

/** Whether a key press is meant for the page, and not for a field, a dialog or the browser. */
export function isOurs(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (document.querySelector("dialog[open]")) return false;
  return !event.target.closest?.("input, textarea, select");
}

// Pictures as cards, and as files.

import { zip } from "./zip.js";

export const FEW_PIXELS = 48; // a picture of no more is enlarged with sharp pixels
const urls = new WeakMap();

/** Returns the address of a picture in the page's memory. */
export function url(picture) {
  if (!urls.has(picture)) urls.set(picture, URL.createObjectURL(picture.blob));
  return urls.get(picture);
}

/** Frees the memory of a picture that is not shown any more. */
export function forget(picture) {
  if (urls.has(picture)) URL.revokeObjectURL(urls.get(picture));
  urls.delete(picture);
}

/** Returns an element that shows a picture. */
export function image(picture) {
  const shown = new Image();
  shown.src = url(picture);
  shown.alt = picture.settings.prompt || "a variation";
  shown.addEventListener("load", () => shown.toggleAttribute("data-few-pixels", shown.naturalWidth <= FEW_PIXELS));
  return shown;
}

export const scoreText = (score) => (score === null ? "" : score.toFixed(3));

/** Returns a card: the picture as a button, its seed and its score. */
export function card(picture, open) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "picture";
  button.append(image(picture));
  button.addEventListener("click", () => open(picture));
  const facts = document.createElement("p");
  facts.className = "under";
  const seed = span("seed", picture.settings.seed);
  seed.prepend(span("word", "seed "));
  facts.append(seed);
  if (picture.score !== null) {
    const score = span("score", scoreText(picture.score));
    score.title = "how well it fits the prompt, as the ranker sees it";
    facts.append(score);
  }
  item.append(button, facts);
  return item;
}

function span(name, text) {
  return Object.assign(document.createElement("span"), { className: name, textContent: text });
}

function fileName({ settings }) {
  const stem = settings.prompt.normalize("NFC").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  return `${stem.replace(/^-|-$/g, "").slice(0, 60) || "drawn"}-${settings.seed}`;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const download = (picture) => save(picture.blob, `${fileName(picture)}.png`);

/** Saves pictures as one archive; equal names get a number. */
export async function downloadAll(pictures) {
  const counts = new Map();
  const files = pictures.map((picture) => {
    const stem = fileName(picture);
    const count = (counts.get(stem) ?? 0) + 1;
    counts.set(stem, count);
    return { name: count === 1 ? `${stem}.png` : `${stem}-${count}.png`, blob: picture.blob, created: picture.created };
  });
  save(await zip(files), "trencadis.zip");
}

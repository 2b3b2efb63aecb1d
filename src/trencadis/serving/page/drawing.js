// Requests that draw, and what happens while they do.

import { ask, asBlob, stream } from "./api.js";

const PARTIALS = 3; // the most that a stream sends of a picture

/**
 * What a drawing starts from: a picture; for each tile, whether it is drawn again; and the tokens that stay, if they are
 * known and are the first ones in raster order.
 * @typedef {{blob: Blob, marks: boolean[], prefix: ?{image_tokens: number[][], kept_tokens: number}}} Start
 */

/** Returns the path and the body that draw with settings, from nothing or from a `Start`. */
export async function request(settings, model, start = null) {
  const body = { ...settings, ...start?.prefix, stream: true, partial_images: PARTIALS };
  if (!start || start.prefix) return { path: "v1/images/generations", body };
  return { path: "v1/images/edits", body: await withPicture(body, model, start) };
}

/** Returns the path and the body that draw without a prompt. */
export async function variation({ prompt, ...settings }, model, start) {
  const rows = keptRows(start.marks, model);
  return { path: "v1/images/variations", body: await withPicture(settings, model, start, rows ?? 0) };
}

async function withPicture(settings, model, { blob, marks }, rows = keptRows(marks, model)) {
  const form = new FormData();
  for (const [name, value] of Object.entries(settings)) form.append(name, String(value));
  form.append("image", blob, "image.png");
  if (rows !== null) form.append("keep_rows", String(rows));
  else form.append("mask", await mask(marks, model), "mask.png");
  return form;
}

/** Returns how many whole rows stay where all tiles below them are drawn again; null where the marks are others. */
export function keptRows(marks, { columns }) {
  const first = marks.indexOf(true);
  if (first < 0) return marks.length / columns;
  return first % columns === 0 && marks.slice(first).every(Boolean) ? first / columns : null;
}

/** Returns a picture as the model sees it: its middle, in the model's size. */
export async function fitted(blob, { width, height }) {
  const picture = await createImageBitmap(blob);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const scale = Math.max(width / picture.width, height / picture.height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const [across, down] = [picture.width * scale, picture.height * scale];
  context.drawImage(picture, (width - across) / 2, (height - down) / 2, across, down);
  return asPng(canvas);
}

// What is transparent is drawn again.
function mask(marks, { width, height, rows, columns }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, width, height);
  marks.forEach((isMarked, tile) => {
    const [x, y] = [tile % columns, Math.floor(tile / columns)];
    if (isMarked) context.clearRect((x * width) / columns, (y * height) / rows, width / columns, height / rows);
  });
  return asPng(canvas);
}

const asPng = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

/**
 * Draws, and calls back: `queued(before)`, `progress(drawn, total)` in tokens, `partial(index, blob, share)`.
 * Returns the pictures, best first.
 */
export async function follow({ path, body }, settings, { queued, progress, partial, signal }) {
  if (path.endsWith("variations")) {
    const { data } = await ask(path, { body, signal });
    return data.map((datum) => asPicture(datum, settings));
  }
  const pictures = [];
  for await (const { comment, data } of stream(path, { body, signal })) {
    const before = comment?.match(/^(\d+) requests before this one$/);
    const tokens = comment?.match(/^(\d+) of (\d+) tokens$/);
    if (before) queued(Number(before[1]));
    else if (tokens) progress(Number(tokens[1]), Number(tokens[2]));
    else if (data?.type.endsWith(".partial_image")) {
      partial(data.image_index, asBlob(data.b64_json), (data.partial_image_index + 1) / (PARTIALS + 1));
    } else if (data) pictures[data.image_index] = asPicture(data, settings);
  }
  if (!pictures.length) throw new Error("The connection ended before the picture was drawn.");
  return pictures;
}

function asPicture(datum, settings) {
  return {
    created: Date.now(),
    blob: asBlob(datum.b64_json),
    image_tokens: datum.image_tokens,
    score: datum.score ?? null,
    // Other candidates change nothing in a picture: alone, it is the same.
    settings: { ...settings, seed: datum.seed, n: 1, candidates: 1 },
  };
}

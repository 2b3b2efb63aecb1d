// A picture on a canvas while it is drawn: broken tiles that fill in raster order, and the picture in their place.

import { FEW_PIXELS } from "./pictures.js";

const GAP = 0.07; // between tiles, as a share of one
const JITTER = 0.09; // of a tile's corners
const still = matchMedia("(prefers-reduced-motion: reduce)");

// A number in [0, 1) that is always the same for a tile: Knuth's multiplicative hash.
const chance = (tile, salt) => (Math.imul(tile * 8 + salt + 1, 2654435761) >>> 0) / 2 ** 32;

export class TilePicture {
  /**
   * @param canvas What is painted on.
   * @param grid `{rows, columns}` of tiles.
   * @param before A picture that shows until a tile is drawn; or null, and empty tiles show.
   * @param kept For each tile in raster order, whether it stays as it is in `before`; or null.
   */
  constructor(canvas, { rows, columns }, { before = null, kept = null } = {}) {
    Object.assign(this, { canvas, rows, columns, before, kept });
    this.picture = null; // as it came last
    this.covered = 0; // tiles of it, in raster order
    this.drawn = this.target = 0; // tiles that are filled, and that are known to be drawn
    this.rate = 0; // tiles a second
    this.since = null;
    this.frame = null;
    const side = Math.max(4, Math.round((Math.max(canvas.clientWidth, 160) * devicePixelRatio) / columns));
    canvas.width = columns * side;
    canvas.height = rows * side;
    if (before) this.before = enlarged(before, canvas);
    const style = getComputedStyle(canvas);
    this.colours = { empty: style.getPropertyValue("--tile"), filled: style.getPropertyValue("--accent") };
    this.paint(0, rows * columns);
  }

  /** Fills tiles up to a share of the picture, one by one, as fast as they came lately. */
  progress(share) {
    const now = performance.now();
    const target = Math.round(share * this.rows * this.columns);
    if (target <= this.target) return;
    if (this.since !== null) this.rate = ((target - this.target) * 1000) / Math.max(1, now - this.since);
    this.target = target;
    this.since = now;
    this.fill(Math.max(this.drawn, still.matches ? target : target - this.columns));
    if (this.frame === null && !still.matches) this.frame = requestAnimationFrame((time) => this.animate(time));
  }

  animate(time) {
    const limit = Math.min(this.target + this.columns - 1, this.rows * this.columns);
    const step = this.rate * Math.min(0.1, (time - (this.last ?? time)) / 1000);
    this.last = time;
    this.fill(Math.max(this.drawn, Math.min(limit, this.drawn + step)));
    this.frame = this.drawn < limit ? requestAnimationFrame((next) => this.animate(next)) : null;
    if (this.frame === null) this.last = null;
  }

  fill(drawn) {
    const from = Math.floor(this.drawn);
    this.drawn = drawn;
    this.paint(from, Math.floor(drawn));
  }

  /** Shows a partial picture. @param share How much of it is drawn, at least. */
  async show(blob, share) {
    this.picture = enlarged(await createImageBitmap(blob), this.canvas);
    this.covered = Math.floor(share * this.rows * this.columns);
    if (this.drawn < this.covered) this.drawn = this.covered;
    this.paint(0, this.covered);
  }

  /** Stops the animation. */
  end() {
    cancelAnimationFrame(this.frame);
  }

  paint(from, to) {
    const context = this.canvas.getContext("2d");
    for (let tile = from; tile < to; tile++) this.paintTile(context, tile);
  }

  paintTile(context, tile) {
    const width = this.canvas.width / this.columns;
    const height = this.canvas.height / this.rows;
    const x = (tile % this.columns) * width;
    const y = Math.floor(tile / this.columns) * height;
    const copy = (picture) => context.drawImage(picture, x, y, width, height, x, y, width, height);
    const isKept = this.kept?.[tile];
    if (!isKept && tile < this.covered) return copy(this.picture);
    context.clearRect(x, y, width, height);
    if (this.before) copy(this.before);
    if (isKept) return;
    const isFilled = tile < this.drawn;
    if (this.before && !isFilled && !this.kept) return;
    context.globalAlpha = isFilled ? 0.25 + 0.55 * chance(tile, 4) : 0.55 + 0.45 * chance(tile, 4);
    context.fillStyle = isFilled ? this.colours.filled : this.colours.empty;
    if (this.before) context.globalAlpha *= isFilled ? 0.5 : 1;
    shard(context, tile, x, y, width, height);
    context.globalAlpha = 1;
  }
}

/** Returns a picture in a canvas's size, as the browser will show it once it is drawn. */
function enlarged(picture, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = picture.width > FEW_PIXELS;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}

/** Fills a tile whose corners are a little off, as those of a broken one. */
export function shard(context, tile, x, y, width, height) {
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([right, down], corner) => [
    x + width * (GAP + right * (1 - 2 * GAP) + JITTER * (chance(tile, corner) - 0.5)),
    y + height * (GAP + down * (1 - 2 * GAP) + JITTER * (chance(tile, corner + 4) - 0.5)),
  ]);
  context.beginPath();
  for (const [across, down] of corners) context.lineTo(across, down);
  context.fill();
}

// The picture that a drawing starts from, and which of its tiles are drawn again.

import { fitted, keptRows } from "./drawing.js";
import { TileGrid } from "./tile_grid.js";

const element = (id) => document.getElementById(id);

export class StartPicture {
  /** @param getModel Returns the chosen model's card, once it is known. @param tell Shows a message. */
  constructor(getModel, tell) {
    Object.assign(this, { getModel, tell });
    this.picture = null; // as the model sees it
    element("keep-rows").addEventListener("input", (event) => this.keep(Number(event.target.value)));
    element("start-invert").addEventListener("click", () => this.mark(this.marks.map((isMarked) => !isMarked)));
    element("start-remove").addEventListener("click", () => {
      this.remove();
      element("start-choose").focus();
    });
    element("start-choose").addEventListener("click", () => element("start-file").click());
    element("start-file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.set(target.files[0]);
      target.value = "";
    });
  }

  /** The picture and its marks, for a request; null if there is none. */
  get asked() {
    const prefix = String(this.marks) === this.marksOfPrefix ? this.prefix : null;
    return this.picture && { blob: this.picture, marks: this.marks, prefix };
  }

  /**
   * Starts from a picture.
   * @param marks Which tiles are drawn again; the lower half by default.
   * @param prefix The tokens that stay, as long as the marks do; null, and the server reads them from the picture.
   */
  async set(blob, marks = null, prefix = null) {
    const model = await this.getModel();
    if (!model) return;
    try {
      this.picture = await fitted(blob, model);
    } catch {
      return this.tell("This file is not a picture that the browser can read; take a PNG, JPEG or WebP.");
    }
    this.model = model;
    this.prefix = prefix;
    this.marksOfPrefix = String(marks);
    const grid = new TileGrid(model, {
      label: "Tiles to draw again",
      onPick: (tile) => this.flip(tile),
      onPaint: (tile, start) => this.paint(tile, start),
    });
    this.grid = grid;
    grid.element.setAttribute("aria-multiselectable", "true");
    const shown = new Image();
    shown.src = URL.createObjectURL(this.picture);
    shown.alt = "the picture to start from";
    element("start-board").replaceChildren(shown, grid.element);
    element("keep-rows").max = model.rows;
    element("start-empty").hidden = true;
    element("start-chosen").hidden = false;
    element("start").open = true;
    if (marks?.length === model.rows * model.columns) this.mark(marks);
    else this.keep(Math.floor(model.rows / 2));
  }

  remove() {
    this.picture = null;
    element("start-board").replaceChildren();
    element("start-empty").hidden = false;
    element("start-chosen").hidden = true;
  }

  keep(rows) {
    const { columns } = this.model;
    this.mark(Array.from({ length: this.model.rows * columns }, (_, tile) => tile >= rows * columns));
  }

  flip(tile) {
    this.mark(this.marks.map((isMarked, each) => isMarked !== (each === tile)));
  }

  // A drag gives all its tiles what the first one has become.
  paint(tile, start) {
    if (this.marks[tile] === this.marks[start]) return;
    this.flip(tile);
  }

  mark(marks) {
    this.marks = marks;
    this.grid.mark(marks);
    const rows = keptRows(marks, this.model);
    element("keep-rows-said").textContent = rows ?? "by hand";
    if (rows !== null) element("keep-rows").value = rows;
  }
}

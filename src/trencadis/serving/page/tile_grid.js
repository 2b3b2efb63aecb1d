// Tiles over a picture that can be reached by pointer and by keyboard: an ARIA grid.

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class TileGrid {
  /**
   * @param grid `{rows, columns}` of tiles.
   * @param label What the grid is for.
   * @param onPick Is given the raster index of a tile that is clicked, or chosen by Enter or space.
   * @param onPaint If given, dragging calls it with each tile and the tile where it began.
   */
  constructor({ rows, columns }, { label, onPick, onPaint = null }) {
    Object.assign(this, { rows, columns, onPick, onPaint });
    this.element = document.createElement("div");
    this.element.className = "tiles";
    this.element.setAttribute("role", "grid");
    this.element.setAttribute("aria-label", label);
    this.cells = [];
    for (let row = 0; row < rows; row++) this.element.append(this.makeRow(row));
    this.focused = 0;
    this.cells[0].tabIndex = 0;
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("focusin", (event) => this.settle(this.cells.indexOf(event.target)));
    if (onPaint) this.listenToDrags();
    else this.element.addEventListener("click", (event) => this.pick(event.target));
  }

  makeRow(row) {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    for (let column = 0; column < this.columns; column++) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-label", `row ${row + 1}, column ${column + 1}`);
      cell.tabIndex = -1;
      this.cells.push(cell);
      line.append(cell);
    }
    return line;
  }

  pick(cell) {
    const tile = this.cells.indexOf(cell);
    if (tile >= 0) this.onPick(tile);
  }

  onKey(event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.onPick(this.focused);
      return;
    }
    let [row, column] = [Math.floor(this.focused / this.columns), this.focused % this.columns];
    if (event.key === "Home") column = 0;
    else if (event.key === "End") column = this.columns - 1;
    else if (event.key in MOVES) [row, column] = [row + MOVES[event.key][0], column + MOVES[event.key][1]];
    else return;
    event.preventDefault();
    row = Math.min(this.rows - 1, Math.max(0, row));
    column = Math.min(this.columns - 1, Math.max(0, column));
    this.cells[row * this.columns + column].focus();
  }

  // One tile is in the order of the tab key: the one that was focused last.
  settle(tile) {
    if (tile < 0) return;
    this.cells[this.focused].tabIndex = -1;
    this.focused = tile;
    this.cells[tile].tabIndex = 0;
  }

  listenToDrags() {
    let start = null;
    const under = (event) => this.cells.indexOf(document.elementFromPoint(event.clientX, event.clientY));
    this.element.addEventListener("pointerdown", (event) => {
      start = under(event);
      if (start < 0) return;
      event.preventDefault();
      this.cells[start].focus();
      this.element.setPointerCapture(event.pointerId);
      this.onPick(start);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (start === null || start < 0) return;
      const tile = under(event);
      if (tile >= 0) this.onPaint(tile, start);
    });
    for (const end of ["pointerup", "pointercancel"]) this.element.addEventListener(end, () => (start = null));
  }

  /** Marks tiles. @param marks For each tile, whether it is marked. */
  mark(marks) {
    this.cells.forEach((cell, tile) => cell.setAttribute("aria-selected", String(marks[tile])));
  }

  /** Marks one tile, or none. */
  point(tile) {
    this.cells.forEach((cell, each) => cell.toggleAttribute("data-pointed", each === tile));
  }

  /**
   * Colours tiles.
   * @param shares For each tile, how strong, in [0, 1]; null takes the colours away.
   * @param said For each tile, what is said of it.
   */
  colour(shares, said = []) {
    this.element.toggleAttribute("data-heat", shares !== null);
    this.cells.forEach((cell, tile) => {
      const place = `row ${Math.floor(tile / this.columns) + 1}, column ${(tile % this.columns) + 1}`;
      cell.style.setProperty("--heat", shares === null ? 0 : shares[tile]);
      cell.setAttribute("aria-label", said[tile] ? `${place}: ${said[tile]}` : place);
      cell.title = said[tile] ?? "";
    });
  }
}

// The gallery: every picture that was drawn in this browser, newest first.

import { card, downloadAll, forget } from "./pictures.js";
import { clear, put, readAll, remove } from "./store.js";

const element = (id) => document.getElementById(id);

export class Gallery {
  /**
   * @param open Is given a picture that is clicked.
   * @param tell Shows a message; with a second argument, a button that undoes.
   */
  constructor(open, tell) {
    Object.assign(this, { open, tell });
    this.pictures = [];
    this.elsewhere = new Set(); // pictures that are shown on the stage
    element("download-all").addEventListener("click", () => downloadAll(this.pictures));
    element("delete-all").addEventListener("click", () => element("sure").showModal());
    element("sure").addEventListener("close", (event) => event.target.returnValue === "yes" && this.empty());
  }

  async load() {
    await this.stored(async () => (this.pictures = await readAll()));
    this.show();
  }

  /** Adds pictures; `isElsewhere` are shown on the stage until `showAll`. */
  async add(pictures, { isElsewhere = false } = {}) {
    for (const picture of pictures.toReversed()) {
      this.pictures.unshift(picture);
      if (isElsewhere) this.elsewhere.add(picture);
      await this.stored(async () => (picture.id = await put(picture)));
    }
    this.show();
  }

  async delete(picture) {
    const place = this.pictures.indexOf(picture);
    if (place < 0) return;
    this.pictures.splice(place, 1);
    this.show();
    await this.stored(() => remove(picture.id));
    this.tell("Deleted.", () => this.bringBack(picture, place));
  }

  async bringBack(picture, place) {
    this.pictures.splice(place, 0, picture);
    this.elsewhere.delete(picture);
    this.show();
    await this.stored(() => put(picture));
  }

  async empty() {
    this.pictures.forEach(forget);
    this.pictures = [];
    this.show();
    await this.stored(clear);
  }

  showAll() {
    this.elsewhere.clear();
    this.show();
  }

  // Without storage, as in some private windows, the gallery lasts until the page is closed.
  async stored(act) {
    try {
      await act();
    } catch (error) {
      this.tell(`This browser does not store the gallery: ${error.message}`);
    }
  }

  show() {
    const shown = this.pictures.filter((picture) => !this.elsewhere.has(picture));
    element("gallery").replaceChildren(...shown.map((picture) => card(picture, this.open)));
    element("gallery-count").textContent = this.pictures.length || "";
    element("gallery-buttons").hidden = !this.pictures.length;
    element("gallery-empty").hidden = this.pictures.length > 0;
  }
}

// Drawing while the prompt is typed: one picture, drawn again a moment after the last key.

import { request } from "./drawing.js";

const PAUSE_MS = 250;
const element = (id) => document.getElementById(id);

export class Live {
  /** @param parts `settings`, `stage`, `gallery`, `connected`, `showFault`, and `isChecked`, whether the user wants it. */
  constructor(parts) {
    Object.assign(this, parts);
    this.timer = null;
    this.before = null; // the picture that the next one replaces tile by tile
    this.settings.form.addEventListener("input", (event) => event.target.name && this.later());
    element("live").addEventListener("change", () => (this.isChecked() ? this.later() : this.stop()));
  }

  later() {
    if (!this.isChecked()) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), PAUSE_MS);
  }

  stop() {
    clearTimeout(this.timer);
    this.before = null;
  }

  async draw() {
    if (this.settings.fault() || !(await this.connected())) return;
    // The seed stays, so that only the prompt changes the picture.
    const { settings, stage } = this;
    const asked = { ...settings.read(), n: 1, candidates: 1 };
    this.gallery.showAll();
    try {
      const sent = await request(asked, settings.model);
      const pictures = await stage.draw(sent, asked, settings.model, { before: this.before, isQuiet: true });
      if (!pictures) return;
      this.showFault(null);
      this.before = await createImageBitmap(pictures[0].blob);
      this.offerToKeep(pictures[0]);
    } catch (error) {
      this.showFault(error);
    }
  }

  // Every word draws a picture, so only those that are wanted go into the gallery.
  offerToKeep(picture) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "plain" });
    button.textContent = "Keep in the gallery";
    button.addEventListener("click", () => {
      button.remove();
      this.gallery.add([picture], { isElsewhere: true });
    });
    element("stage").firstElementChild.append(button);
  }
}

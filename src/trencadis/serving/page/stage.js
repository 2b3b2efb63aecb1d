// What is being drawn: a card for each picture, which fills in as its tokens come.

import { follow } from "./drawing.js";
import { card } from "./pictures.js";
import { TilePicture } from "./tile_picture.js";

const element = (id) => document.getElementById(id);

/** Returns in words how long the rest takes at the pace since `began`. */
function timeLeft(began, share) {
  if (share <= began.share) return "";
  const seconds = ((performance.now() - began.at) / 1000) * ((1 - share) / (share - began.share));
  if (seconds < 1.5) return ", almost done";
  return seconds < 90 ? `, about ${Math.round(seconds)} s left` : `, about ${Math.round(seconds / 60)} min left`;
}

export class Stage {
  /** @param open Is given a picture that is clicked. @param announce Says something to screen readers. */
  constructor(open, announce) {
    Object.assign(this, { open, announce });
    this.pictures = [];
    this.running = null;
    element("cancel").addEventListener("click", () => this.cancel());
  }

  get isDrawing() {
    return this.running !== null;
  }

  cancel() {
    this.running?.abort();
  }

  /**
   * Draws, in place of what is shown.
   * @param asked `{path, body}`.
   * @param settings What goes with the pictures; `n` of them are drawn.
   * @param model The model's card.
   * @param before A bitmap that shows until a tile is drawn; `kept` says which tiles stay.
   * @returns The pictures, best first; null if it was cancelled.
   */
  async draw(asked, settings, model, { before = null, kept = null, isQuiet = false } = {}) {
    this.cancel();
    const running = (this.running = new AbortController());
    const { signal } = running;
    const waiting = this.lay(settings.n ?? 1, model, { before, kept });
    this.said = null;
    this.began = null;
    if (!isQuiet) this.say("Waiting for the server …", null);
    try {
      const pictures = await follow(asked, settings, {
        signal,
        queued: (requests) => signal.aborted || isQuiet || this.sayQueued(requests),
        progress: (drawn, total) => signal.aborted || this.sayProgress(waiting, drawn / total, model, total, isQuiet),
        partial: (index, blob, share) => signal.aborted || waiting[index].show(blob, share),
      });
      if (signal.aborted) return null;
      this.show(pictures);
      return pictures;
    } catch (error) {
      if (signal.aborted) return null;
      this.show([]);
      throw error;
    } finally {
      for (const each of waiting) each.end();
      if (this.running === running) this.rest();
    }
  }

  rest() {
    this.running = null;
    element("progress").hidden = true;
    if (!this.pictures.length) element("stage").replaceChildren();
  }

  lay(count, model, options) {
    element("welcome").hidden = true;
    this.pictures = [];
    const canvases = Array.from({ length: count }, () => document.createElement("canvas"));
    const items = canvases.map((canvas) => {
      const item = document.createElement("li");
      item.append(canvas);
      canvas.style.aspectRatio = `${model.width} / ${model.height}`;
      canvas.setAttribute("aria-hidden", "true");
      return item;
    });
    element("stage").replaceChildren(...items);
    element("stage").dataset.count = count;
    return canvases.map((canvas) => new TilePicture(canvas, model, options));
  }

  /** Shows pictures that are drawn. */
  show(pictures) {
    this.pictures = pictures;
    element("welcome").hidden = pictures.length > 0;
    element("stage").dataset.count = pictures.length;
    element("stage").replaceChildren(...pictures.map((picture) => card(picture, this.open)));
  }

  remove(picture) {
    this.show(this.pictures.filter((each) => each !== picture));
  }

  sayQueued(requests) {
    const before = requests === 1 ? "1 request is" : `${requests} requests are`;
    const text = requests ? `${before} before this one.` : "This request is next.";
    this.say(text, null);
    this.announce(text);
  }

  sayProgress(waiting, share, model, total, isQuiet) {
    this.began ??= { at: performance.now(), share };
    for (const each of waiting) each.progress(share);
    if (isQuiet) return;
    const candidates = Math.round(total / (model.rows * model.columns));
    const what = candidates > waiting.length ? "candidates" : "pictures";
    const drawing = candidates === 1 ? "Drawing" : `Drawing ${candidates} ${what}`;
    this.say(`${drawing}: ${Math.floor(share * 100)} %${timeLeft(this.began, share)}`, share);
    const quarter = Math.floor(share * 4);
    if (quarter > (this.said ?? 0) && quarter < 4) this.announce(`${quarter * 25} % drawn`);
    this.said = Math.max(quarter, this.said ?? 0);
  }

  say(text, share) {
    element("progress").hidden = false;
    element("progress-said").textContent = text;
    if (share === null) element("progress-bar").removeAttribute("value");
    else element("progress-bar").value = share;
  }
}

// One picture at large: what it was drawn with, how surprising its tiles are, and other tiles in their places.

import { ApiError, ask, asBase64, asBlob } from "./api.js";
import { follow, request } from "./drawing.js";
import { download, image, scoreText } from "./pictures.js";
import { TileGrid } from "./tile_grid.js";
import { TilePicture } from "./tile_picture.js";

const ALTERNATIVES = 8;
const element = (id) => document.getElementById(id);
const percent = (share) => (share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`);

export class Viewer {
  /** @param actions `use`, `start`, `remove` and `keep`, each with a picture; `findModel`, with a model's name. */
  constructor(actions) {
    Object.assign(this, { actions });
    this.dialog = element("viewer");
    this.working = new AbortController();
    const bind = (id, act) => element(`viewer-${id}`).addEventListener("click", act);
    bind("close", () => this.dialog.close());
    bind("use", () => this.leaveFor(actions.use));
    bind("start", () => this.leaveFor(actions.start));
    bind("delete", () => this.leaveFor(actions.remove));
    bind("download", () => download(this.picture));
    bind("undo", () => this.undo());
    bind("cancel", () => this.working.abort());
    element("viewer-heat").addEventListener("change", (event) => this.showHeat(event.target.value));
    this.dialog.addEventListener("close", () => this.onClose());
  }

  open(picture) {
    this.versions = [picture]; // the last one is shown
    this.model = this.actions.findModel(picture.settings.model);
    this.dialog.showModal();
    this.show();
  }

  get picture() {
    return this.versions.at(-1);
  }

  leaveFor(act) {
    const shown = this.picture;
    this.dialog.close();
    act(shown);
  }

  // A version that was edited is kept as a picture of its own.
  onClose() {
    this.working.abort();
    if (this.versions.length > 1) this.actions.keep(this.picture);
  }

  undo() {
    this.working.abort();
    this.versions.pop();
    this.show();
  }

  show() {
    const { settings, score } = this.picture;
    element("viewer-title").textContent = settings.prompt || "A variation";
    const facts = [["Seed", settings.seed], ["Score", scoreText(score)], ["Model", settings.model], ...chosen(settings)];
    const entries = facts.filter(([, value]) => value !== "").flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]);
    element("viewer-facts").replaceChildren(...entries);
    element("viewer-undo").hidden = this.versions.length < 2;
    element("viewer-delete").hidden = this.versions.length > 1;
    this.layBoard(image(this.picture));
    this.showChoices(null);
    document.querySelector("input[name=heat][value=none]").checked = true;
    this.surprise = null;
    this.showHeat("none");
  }

  layBoard(shown) {
    this.shown = shown;
    const focused = this.grid?.element.contains(document.activeElement) ? this.grid.focused : null;
    this.grid = this.model && new TileGrid(this.model, { label: "Tiles", onPick: (tile) => this.pick(tile) });
    element("viewer-board").replaceChildren(shown, ...(this.model ? [this.grid.element] : []));
    element("viewer-heat").disabled = !this.model;
    element("choices-hint").textContent = this.model
      ? "Choose a tile of the picture to see what else the model could have laid there."
      : "The model that drew this picture is not on this server, so its tiles cannot be edited.";
    if (focused !== null) this.grid.cells[focused].focus();
  }

  /** Runs what asks the server; the former one ends. */
  async work(said, act) {
    this.working.abort();
    const { signal } = (this.working = new AbortController());
    element("viewer-said").textContent = said;
    element("viewer-cancel").hidden = false;
    try {
      await act(signal);
      if (!signal.aborted) element("viewer-said").textContent = "";
    } catch (error) {
      if (signal.aborted) return;
      element("viewer-said").textContent = error instanceof ApiError ? error.message : `This did not work: ${error.message}`;
    } finally {
      if (this.working.signal === signal) element("viewer-cancel").hidden = true;
    }
  }

  // A picture that was dropped has no tokens yet: the model reads them.
  async judged(signal) {
    const { settings, blob, image_tokens: tokens } = this.picture;
    if (this.surprise) return this.surprise;
    const { model, prompt } = settings;
    const body = { model, prompt, ...(tokens ? { tokens } : { image: await asBase64(blob) }) };
    const surprise = await ask("v1/trencadis/surprise", { body, signal });
    this.picture.image_tokens ??= surprise.tokens;
    this.surprise = surprise;
    return surprise;
  }

  showHeat(kind) {
    if (kind === "none") {
      this.grid?.colour(null);
      this.shown.classList.remove("grey");
      element("viewer-scale").hidden = true;
      return null;
    }
    return this.work("Reading the picture …", async (signal) => {
      const surprise = await this.judged(signal);
      if (signal.aborted) return;
      const own = surprise.bits.flat();
      const alone = surprise.bits_without_caption.flat();
      const bits = kind === "bits" ? own : own.map((value, tile) => alone[tile] - value);
      const most = Math.max(...bits, 1e-9);
      const said = kind === "bits" ? "bits" : "bits saved by the prompt";
      this.grid.colour(bits.map((value) => Math.max(0, value) / most), bits.map((value) => `${value.toFixed(1)} ${said}`));
      this.shown.classList.add("grey");
      element("viewer-scale").hidden = false;
      element("scale-low").textContent = "0";
      element("scale-high").textContent = `${most.toFixed(1)} ${said}`;
    });
  }

  pick(tile) {
    const { columns } = this.model;
    const [row, column] = [Math.floor(tile / columns), tile % columns];
    this.grid.point(tile);
    return this.work("Looking for other tiles …", async (signal) => {
      if (!this.picture.image_tokens) await this.judged(signal);
      const { model, prompt, guidance_scale } = this.picture.settings;
      const tokens = this.picture.image_tokens;
      const body = { model, prompt, tokens, row, column, count: ALTERNATIVES };
      if (guidance_scale !== undefined) body.guidance_scale = guidance_scale;
      const answer = await ask("v1/trencadis/tiles", { body, signal });
      const isShown = answer.tiles.some(({ token }) => token === answer.current.token);
      if (!signal.aborted) this.showChoices(isShown ? answer.tiles : [...answer.tiles, answer.current], tile);
    });
  }

  showChoices(tiles, place) {
    element("choices-title").textContent =
      tiles === null ? "Tiles" : `Row ${Math.floor(place / this.model.columns) + 1}, column ${(place % this.model.columns) + 1}`;
    element("choices-hint").hidden = tiles !== null;
    const items = (tiles ?? []).map((tile) => this.choice(tile, place));
    element("choices-list").replaceChildren(...items);
  }

  choice({ token, probability, b64_json }, place) {
    const { columns } = this.model;
    const isCurrent = this.picture.image_tokens[Math.floor(place / columns)][place % columns] === token;
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const shown = new Image();
    shown.src = URL.createObjectURL(asBlob(b64_json));
    shown.alt = isCurrent ? "the tile that is there" : "another tile";
    const share = Object.assign(document.createElement("span"), { textContent: percent(probability) });
    button.append(shown, share);
    button.setAttribute("aria-current", String(isCurrent));
    const board = this.shown; // leaving a choice must not change what is shown by then
    const preview = (source) => () => (board.src = source);
    const original = board.src;
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, preview(shown.src));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, preview(original));
    button.addEventListener("click", () => !isCurrent && this.lay(token, place));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  /** Puts another tile into its place, and draws what follows in raster order. */
  lay(token, place) {
    const { model } = this;
    const { settings, blob, image_tokens: before } = this.picture;
    const tokens = before.map((row) => [...row]);
    tokens[Math.floor(place / model.columns)][place % model.columns] = token;
    const kept = tokens.flat().map((_, tile) => tile <= place);
    const prefix = { image_tokens: tokens, kept_tokens: place + 1 };
    const start = { blob, marks: kept.map((isKept) => !isKept), prefix };
    return this.work("Drawing what follows …", async (signal) => {
      const canvas = document.createElement("canvas");
      canvas.style.aspectRatio = `${model.width} / ${model.height}`;
      this.layBoard(canvas);
      const waiting = new TilePicture(canvas, model, { before: await createImageBitmap(blob), kept });
      try {
        const asked = await request(settings, model, start);
        const [drawn] = await follow(asked, settings, {
          signal,
          queued: () => {},
          progress: (count, total) => waiting.progress(count / total),
          partial: (_, partial, share) => waiting.show(partial, share),
        });
        if (signal.aborted) return;
        this.versions.push({ ...drawn, start });
      } finally {
        waiting.end();
        if (this.dialog.open && (!signal.aborted || this.working.signal === signal)) this.show();
      }
      this.grid.cells[place].focus();
    });
  }
}

function chosen(settings) {
  const names = {
    guidance_scale: "Guidance", guidance_schedule: "Guidance over the picture", temperature: "Temperature", top_k: "Top-k",
    top_p: "Top-p", negative_prompt: "Negative prompt",
  };
  return Object.entries(names).map(([key, name]) => [name, settings[key] ?? ""]);
}

// The settings of the form: what a drawing is asked with.

const NUMBERS = ["n", "candidates", "guidance_scale", "temperature", "top_k", "top_p"];
const TEXTS = ["negative_prompt", "guidance_schedule", "ranking"];
const DEFAULTS_SHOWN = ["guidance_scale", "temperature", "top_k", "top_p"];
const RANKINGS = {
  clip: "by CLIP",
  likelihood: "by what the prompt adds to the likelihood",
  both: "by both",
  none: "none",
};
const NEW_SEEDS = 2 ** 31; // as many as `trencadis generate` chooses from

/** Returns a seed, as a text. */
export const newSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0] % NEW_SEEDS);

export class Settings {
  /** @param form The form; its fields have the names that the API gives them. */
  constructor(form) {
    this.form = form;
    this.fields = form.elements;
    this.lock = document.getElementById("seed-lock");
    this.fields.seed.value = newSeed();
    form.addEventListener("input", (event) => event.target.removeAttribute("aria-invalid"));
  }

  /** Offers the models, and shows the settings that the chosen one has where a field is empty. */
  offer(models) {
    this.models = models;
    const options = models.map((model) => new Option(model.id, model.id));
    this.fields.model.replaceChildren(...options);
    document.getElementById("model-field").hidden = models.length < 2;
    this.fields.model.addEventListener("change", () => this.showDefaults());
    this.showDefaults();
  }

  /** The chosen model's card. */
  get model() {
    return this.models.find((model) => model.id === this.fields.model.value) ?? this.models[0];
  }

  showDefaults() {
    const own = this.model.sampling;
    for (const name of DEFAULTS_SHOWN) this.fields[name].placeholder = own[name] ?? "all";
    const { rankings } = this.model;
    const options = rankings.map((name) => new Option(RANKINGS[name] ?? name, name));
    this.fields.ranking.replaceChildren(new Option("as the model has it", ""), ...options);
    document.getElementById("ranking-field").hidden = rankings.length < 2;
  }

  /** Returns what is filled in, by the API's names; the seed is a text. */
  read() {
    const asked = { model: this.model.id, prompt: this.fields.prompt.value.trim(), seed: this.fields.seed.value.trim() };
    for (const name of NUMBERS) {
      const text = this.fields[name].value;
      if (text !== "") asked[name] = Number(text);
    }
    for (const name of TEXTS) {
      const text = this.fields[name].value.trim();
      if (text) asked[name] = text;
    }
    return asked;
  }

  /** Fills the form with settings; what they leave out becomes empty. The seed stays from then on. */
  write(settings) {
    this.fields.prompt.value = settings.prompt;
    for (const name of [...TEXTS, ...NUMBERS]) this.fields[name].value = settings[name] ?? "";
    if (this.models.some((model) => model.id === settings.model)) this.fields.model.value = settings.model;
    this.showDefaults();
    this.fields.ranking.value = this.model.rankings.includes(settings.ranking) ? settings.ranking : "";
    this.fields.seed.value = settings.seed;
    this.lock.checked = true;
    this.fields.prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Empties all but the prompt. */
  reset() {
    this.write({ prompt: this.fields.prompt.value, model: this.model.id, n: 4, seed: newSeed() });
    this.lock.checked = false;
  }

  /** Chooses another seed, unless the user keeps this one. */
  advance() {
    if (!this.lock.checked || !this.fields.seed.value.trim()) this.fields.seed.value = newSeed();
  }

  /** Returns the fault of what is filled in, as the API would say it; null if there is none. */
  fault() {
    if (!this.fields.prompt.value.trim()) return { param: "prompt", message: "Describe a picture first." };
    if (!/^\d{1,19}$/.test(this.fields.seed.value.trim())) {
      return { param: "seed", message: "The seed is not a whole number; take one from 0 to 2⁶³ − 1." };
    }
    const wrong = NUMBERS.find((name) => this.fields[name].validity.badInput);
    return wrong ? { param: wrong, message: `${wrong} is not a number.` } : null;
  }

  /** Marks the field that is at fault, if there is one of that name. */
  mark(param) {
    const field = param && this.fields[param];
    if (!field) return;
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  }
}

/** Returns the settings that draw a picture again, from its record. Other candidates change nothing in a picture. */
export function fromRecord(record) {
  const own = { model: record.model, prompt: record.prompt, seed: record.seed, n: 1, candidates: 1 };
  for (const name of [...DEFAULTS_SHOWN, ...TEXTS]) {
    if (record[name] !== null && record[name] !== undefined) own[name] = record[name];
  }
  return own;
}

/** Returns the marks and the tokens that a drawing started from; null if it did not, or if they are no first ones. */
export function startOfRecord({ image }, { rows, columns }) {
  if (image?.kept_tokens?.length !== 1 || image.kept_tokens[0][0] !== 0) return null;
  const kept = image.kept_tokens[0][1];
  if (kept.length > rows * columns) return null;
  const tokens = Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => kept[row * columns + column] ?? 0),
  );
  const marks = tokens.flat().map((_, tile) => tile >= kept.length);
  return { marks, prefix: { image_tokens: tokens, kept_tokens: kept.length } };
}

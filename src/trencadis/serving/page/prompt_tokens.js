// How many tokens the prompt has, and what the model reads of one that is too long.

import { ask } from "./api.js";

const PAUSE_MS = 250; // after the last key
const element = (id) => document.getElementById(id);

export class PromptTokens {
  /** @param settings The form's settings. */
  constructor(settings) {
    this.settings = settings;
    this.running = new AbortController();
    settings.fields.prompt.addEventListener("input", () => this.later());
    settings.fields.model.addEventListener("change", () => this.later());
    this.later();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.count(), PAUSE_MS);
  }

  async count() {
    this.running.abort();
    const { signal } = (this.running = new AbortController());
    const { model, prompt } = this.settings.read();
    if (!prompt) return this.say("", false);
    try {
      const counted = await ask("v1/trencadis/captions", { body: { model, prompt }, signal, asksForKey: false });
      const { tokens, text_len: room, truncated, read } = counted;
      if (truncated) this.say(`${tokens} tokens, but the model reads ${room}: “${read}”`, true);
      else this.say(`${tokens} of ${room} tokens`, false);
    } catch {
      if (!signal.aborted) this.say("", false); // drawing says what is wrong
    }
  }

  say(text, isWarning) {
    element("tokens").textContent = text;
    element("tokens").classList.toggle("warning", isWarning);
  }
}

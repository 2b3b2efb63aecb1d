// The page: what its parts say to each other.

import { ApiError, models, onMissingKey } from "./api.js";
import { request, variation } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { Live } from "./live.js";
import { readRecord } from "./png.js";
import { PromptTokens } from "./prompt_tokens.js";
import { fromRecord, newSeed, Settings, startOfRecord } from "./settings.js";
import { Stage } from "./stage.js";
import { StartPicture } from "./start.js";
import { Viewer } from "./viewer.js";
import { showWelcome } from "./welcome.js";

const TOAST_MS = 8000;
const element = (id) => document.getElementById(id);
const announce = (text) => (element("announce").textContent = text);

const settings = new Settings(element("ask"));
const viewer = new Viewer({ use, start, remove, keep, findModel });
const look = async (picture) => (await connected()) && viewer.open(picture);
const gallery = new Gallery(look, toast);
const stage = new Stage(look, announce);
const startPicture = new StartPicture(async () => (await connected()) && settings.model, toast);

function findModel(name) {
  return settings.models.find((model) => model.id === name) ?? null;
}

/** Fills in a picture's settings, and what it started from. */
function use({ settings: own, start: from }) {
  settings.write(own);
  if (from) startPicture.set(from.blob, from.marks, from.prefix);
  else startPicture.remove();
  announce("These settings draw the picture again.");
  settings.fields.prompt.focus();
}

function start(picture) {
  startPicture.set(picture.blob);
  element("start").scrollIntoView({ block: "nearest" });
}

function remove(picture) {
  stage.remove(picture);
  gallery.delete(picture);
  element("gallery-title").focus();
}

function keep(picture) {
  gallery.add([picture]);
  announce("The edited picture is in the gallery.");
}

async function draw(event) {
  event?.preventDefault();
  live.stop();
  const fault = settings.fault();
  if (fault) return showFault(fault);
  if (!(await connected())) return;
  settings.advance();
  const asked = settings.read();
  const from = startPicture.asked;
  return run(asked, from, await request(asked, settings.model, from));
}

async function vary() {
  settings.advance();
  const asked = settings.read();
  const from = startPicture.asked;
  const { negative_prompt: _, ...own } = { ...asked, prompt: "" };
  return run(own, from, await variation(own, settings.model, from));
}

async function run(asked, from, sent) {
  showFault(null);
  gallery.showAll();
  const before = from && (await createImageBitmap(from.blob));
  const kept = from && from.marks.map((isMarked) => !isMarked);
  try {
    const pictures = await stage.draw(sent, asked, settings.model, { before, kept });
    if (!pictures) return announce("Cancelled.");
    if (from) for (const picture of pictures) picture.start = from;
    announce(pictures.length === 1 ? "The picture is drawn." : `${pictures.length} pictures are drawn.`);
    await gallery.add(pictures, { isElsewhere: true });
  } catch (error) {
    showFault(error);
  }
}

/** Shows what is wrong and marks the setting at fault; null takes the message away. */
function showFault(error) {
  const place = element("error");
  place.replaceChildren();
  if (!error) return;
  place.append(error.message === "Failed to fetch" ? "The server does not answer. Is it running?" : error.message);
  settings.mark(error.param);
  if (error instanceof ApiError && error.retryAfterS) offerRetry(place, error.retryAfterS);
}

function offerRetry(place, seconds) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plain" });
  const end = Date.now() + seconds * 1000;
  const show = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0 && button.isConnected) setTimeout(show, 250);
  };
  button.addEventListener("click", () => draw());
  place.append(button);
  show();
}

/** Opens a picture: its settings if it has a record, else it is what the next drawing starts from. */
async function open(file) {
  if (!(await connected())) return;
  let record;
  try {
    record = await readRecord(file);
  } catch {
    return toast("The record in this PNG is damaged; take the original file.");
  }
  if (!record) return startPicture.set(file);
  settings.write(fromRecord(record));
  const from = startOfRecord(record, settings.model);
  if (from) startPicture.set(file, from.marks, from.prefix);
  else startPicture.remove();
  const picture = { created: Date.now(), blob: file, score: record.score ?? null, settings: fromRecord(record) };
  if (from) picture.start = { blob: file, ...from };
  gallery.showAll();
  stage.cancel();
  stage.show([picture]);
  await gallery.add([picture], { isElsewhere: true });
  const isWhole = Boolean(from) || !record.image;
  toast(isWhole ? "Its settings are filled in." : "Its settings are filled in, but not the picture that it started from.");
}

let toastTimer;
function toast(text, undo = null) {
  clearTimeout(toastTimer);
  element("toast").hidden = false;
  element("toast-said").textContent = text;
  element("toast-undo").hidden = !undo;
  element("toast-undo").onclick = () => {
    element("toast").hidden = true;
    undo();
  };
  announce(text);
  toastTimer = setTimeout(() => (element("toast").hidden = true), TOAST_MS);
}

function askForKey(fault) {
  const dialog = element("key");
  element("key-fault").textContent = fault;
  element("key-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = () => resolve(dialog.returnValue === "given" ? element("key-value").value.trim() : null);
    dialog.addEventListener("close", answer, { once: true });
  });
}

function listenToFiles() {
  element("open").addEventListener("click", () => element("open-file").click());
  element("open-file").addEventListener("change", ({ target }) => {
    if (target.files[0]) open(target.files[0]);
    target.value = "";
  });
  const picture = (transfer) => [...transfer.files].find((file) => file.type.startsWith("image/"));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  for (const end of ["dragleave", "drop"]) addEventListener(end, () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    const file = picture(event.dataTransfer);
    if (file) (element("start").contains(event.target) ? startPicture.set(file) : open(file));
  });
  addEventListener("paste", (event) => {
    const file = picture(event.clipboardData);
    if (file) startPicture.set(file);
  });
}

function listenToSettings() {
  element("ask").addEventListener("submit", draw);
  element("start-vary").addEventListener("click", vary);
  element("reset").addEventListener("click", () => settings.reset());
  element("seed-new").addEventListener("click", () => (settings.fields.seed.value = newSeed()));
  element("seed-copy").addEventListener("click", () => copy(settings.fields.seed));
  // A seed that is typed is meant.
  settings.fields.seed.addEventListener("input", () => (settings.lock.checked = true));
  settings.fields.prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    element("ask").requestSubmit();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stage.cancel();
  });
}

/** Copies a field; pages on plain HTTP have no clipboard, but can copy what is selected. */
async function copy(field) {
  if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
  else {
    field.select();
    document.execCommand("copy");
  }
  toast("The seed is copied.");
}

let connecting = null;
/** Returns whether the models are known. After a failure it tries again. */
function connected() {
  connecting ??= connect().catch((error) => {
    connecting = null;
    showFault(error);
    return false;
  });
  return connecting;
}

async function connect() {
  settings.offer(await models());
  new PromptTokens(settings);
  document.body.dataset.ready = "true";
  return true;
}

function takeExample(prompt) {
  settings.fields.prompt.value = prompt;
  settings.fields.prompt.dispatchEvent(new Event("input", { bubbles: true }));
  if (!element("live").checked) element("ask").requestSubmit();
}

const live = new Live({ settings, stage, gallery, connected, showFault, isChecked: () => element("live").checked });
onMissingKey(askForKey);
listenToFiles();
listenToSettings();
element("settings").open = matchMedia("(min-width: 56rem)").matches;
showWelcome(takeExample);
gallery.load();
connected();

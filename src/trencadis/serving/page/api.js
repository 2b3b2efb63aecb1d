// The server's API: JSON, forms and streams, with the API key that this tab holds.

const KEY = "trencadis-api-key";

/** An answer that is an error. `param` names the setting at fault; `retryAfterS` says when to try again. */
export class ApiError extends Error {
  constructor(status, error, retryAfterS = null) {
    super(error?.message ?? `The server answered with status ${status}.`);
    Object.assign(this, { status, param: error?.param ?? null, code: error?.code ?? null, retryAfterS });
  }
}

let askForKey = async () => null;

/** Sets what asks the user for an API key; it returns the key, or null if there is none. */
export function onMissingKey(ask) {
  askForKey = ask;
}

// Seeds go up to 2^63 - 1, which a JavaScript number cannot hold: in the page they are texts.
export const parse = (text) => JSON.parse(text.replace(/"seed":\s*(\d+)/g, '"seed":"$1"'));
export const stringify = (body) => JSON.stringify(body).replace(/"seed":"(\d+)"/g, '"seed":$1');

async function send(path, { body, signal, asksForKey = true } = {}) {
  const isForm = body instanceof FormData;
  for (;;) {
    const headers = {};
    const key = sessionStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body && !isForm) headers["Content-Type"] = "application/json";
    const content = body && !isForm ? stringify(body) : body;
    const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: content, signal });
    if (answer.ok) return answer;
    const error = await asError(answer);
    if (answer.status !== 401 || !asksForKey) throw error;
    const given = await askForKey(key === null ? "" : error.message);
    if (given === null) throw error;
    sessionStorage.setItem(KEY, given);
  }
}

async function asError(answer) {
  const retryAfterS = Number(answer.headers.get("retry-after")) || null;
  const body = await answer.json().catch(() => null);
  return new ApiError(answer.status, body?.error, retryAfterS);
}

/** Returns the JSON of an answer. Without a body it is a GET. */
export async function ask(path, options) {
  const answer = await send(path, options);
  return parse(await answer.text());
}

/** Yields the events of a stream: `{comment}` or `{data}`. An error in mid-stream is thrown. */
export async function* stream(path, options) {
  const answer = await send(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) yield* events(block);
  }
}

function* events(block) {
  for (const line of block.split("\n")) {
    if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
    if (!line.startsWith("data:")) continue;
    const data = parse(line.slice(5));
    if (data.error) throw new ApiError(500, data.error);
    yield { data };
  }
}

/** Returns the models, each with its sizes and its own settings. */
export async function models() {
  const { data } = await ask("v1/models");
  const path = (id) => `v1/models/${id.split("/").map(encodeURIComponent).join("/")}`;
  return Promise.all(data.map((card) => ask(path(card.id))));
}

/** Returns a picture in base64 as a blob. */
export function asBlob(base64) {
  return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: "image/png" });
}

/** Returns a blob in base64. */
export async function asBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

// The record in a PNG: a text chunk that says how the picture was drawn.

import { parse } from "./api.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const KEYWORD = "trencadis";

/**
 * Returns the record of a picture; null where there is none.
 * @throws {SyntaxError} The record is damaged.
 */
export async function readRecord(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (SIGNATURE.some((value, place) => bytes[place] !== value)) return null;
  for (const { type, content } of chunks(bytes)) {
    const text = type === "iTXt" ? internationalText(content) : null;
    if (text === null) continue;
    const record = parse(text);
    if (typeof record?.prompt !== "string" || !/^\d+$/.test(record.seed)) throw new SyntaxError("no prompt or no seed");
    return record;
  }
  return null;
}

function* chunks(bytes) {
  const view = new DataView(bytes.buffer);
  for (let start = SIGNATURE.length; start + 12 <= bytes.length; ) {
    const length = view.getUint32(start);
    const type = String.fromCharCode(...bytes.subarray(start + 4, start + 8));
    yield { type, content: bytes.subarray(start + 8, start + 8 + length) };
    start += 12 + length;
  }
}

// Keyword, 0, whether it is compressed, how, language, 0, translated keyword, 0, text in UTF-8.
function internationalText(content) {
  const end = content.indexOf(0);
  if (new TextDecoder("latin1").decode(content.subarray(0, end)) !== KEYWORD || content[end + 1] !== 0) return null;
  const language = content.indexOf(0, end + 3);
  const translated = content.indexOf(0, language + 1);
  return new TextDecoder().decode(content.subarray(translated + 1));
}

// What shows before anything is drawn: a heart of tiles, and prompts to try.

import { shard } from "./tile_picture.js";

const HEART = ["..##..##..", ".####.###.", "##########", "##########", ".########.", "..######..", "...####...", "....##...."];
const COLUMNS = 22;
const PROMPTS = ["a red heart", "a yellow flower", "a blue fish", "a house with a tree"];
const element = (id) => document.getElementById(id);

/** @param choose Is given the prompt that the user takes. */
export function showWelcome(choose) {
  const buttons = PROMPTS.map((prompt) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: prompt });
    button.addEventListener("click", () => choose(prompt));
    return button;
  });
  element("examples").replaceChildren(...buttons);
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
}

function paint() {
  const canvas = element("welcome-tiles");
  const rows = HEART.length + 2;
  const side = Math.max(4, Math.round((canvas.clientWidth * devicePixelRatio) / COLUMNS));
  Object.assign(canvas, { width: side * COLUMNS, height: side * rows });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const left = (COLUMNS - HEART[0].length) / 2;
  for (let tile = 0; tile < rows * COLUMNS; tile++) {
    const [row, column] = [Math.floor(tile / COLUMNS), tile % COLUMNS];
    const isHeart = HEART[row - 1]?.[column - left] === "#";
    const variety = (Math.imul(tile + 7, 2654435761) >>> 0) / 2 ** 32;
    context.globalAlpha = isHeart ? 0.55 + 0.45 * variety : 0.4 + 0.6 * variety;
    context.fillStyle = style.getPropertyValue(isHeart ? "--accent" : "--tile");
    shard(context, tile, column * side, row * side, side, side);
  }
}

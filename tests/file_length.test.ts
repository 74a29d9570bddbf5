import assert from "node:assert/strict";

const ROOT = new URL("../", import.meta.url);
const FOLDERS = ["engine", "pipeline", "cli", "tools", "tests", "bench", "shaders"];
const MOST_LINES = 400;

function* sources(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder, ROOT))) {
    if (entry.isDirectory) yield* sources(`${folder}${entry.name}/`);
    else if (/\.(ts|wgsl|sh)$/.test(entry.name)) yield folder + entry.name;
  }
}

Deno.test(`no source file has more than ${MOST_LINES} lines`, () => {
  const files = FOLDERS.flatMap((folder) => [...sources(`${folder}/`)]);
  for (const folder of FOLDERS) assert.ok(files.some((file) => file.startsWith(`${folder}/`)), folder);
  const long = files
    .map((file) => ({ file, lines: Deno.readTextFileSync(new URL(file, ROOT)).trimEnd().split("\n").length }))
    .filter(({ lines }) => lines > MOST_LINES);
  assert.deepEqual(long, []);
});

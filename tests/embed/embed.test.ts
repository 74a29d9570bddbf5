import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TinyModel } from "../cli/tiny_model.ts";
import { names } from "../cli/command.ts";

const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

/** Copies an example out of the project, so that only its own deno.json counts. */
async function stranger(example: string, folder: string): Promise<void> {
  const source = fileURLToPath(new URL(`./${example}/`, import.meta.url));
  await Deno.mkdir(folder);
  await Deno.copyFile(join(source, "main.ts"), join(folder, "main.ts"));
  const settings = JSON.parse(await Deno.readTextFile(join(source, "deno.json")));
  assert.equal(join(source, settings.links[0], "mod.ts"), join(PROJECT, "mod.ts"));
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ ...settings, links: [PROJECT] }));
}

/** Runs Deno in a folder and gives what it prints. */
async function deno(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

const PROGRAMS = {
  example:
    /^before: the young girl.*\nloss \d+\.\d{3}, 20 gradients\nstep 5: [^]*step 20: loss [^]*\nafter: the young girl said\n$/,
  engine: /^log-probability -\d\.\d{3}\nanswer 4, probability \d\.\d{3} of \d+\n$/,
};

for (const [example, expected] of Object.entries(PROGRAMS)) {
  Deno.test(`the program ${example} in another folder embeds Whorl through its own deno.json`, async () => {
    using tiny = await TinyModel.create();
    const [folder, saved] = [tiny.path("program"), tiny.path("saved")];
    await stranger(example, folder);
    // Its types are checked too: they are part of what is published.
    const out = await deno(folder, "run", "-A", "--check", "--no-lock", "main.ts", tiny.model, saved);
    assert.match(out, expected);
    assert.deepEqual(names(saved), names(tiny.model));
  });
}

Deno.test("a strict program passes its type check: sources of a linked package are checked by its options", async () => {
  const parent = await Deno.makeTempDir({ prefix: "whorl_strict_" });
  try {
    const folder = join(parent, "program");
    await stranger("strict", folder);
    await deno(folder, "check", "--no-lock", "main.ts");
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("the engine's entry point loads nothing of the pipeline, and one package", async () => {
  const { modules } = JSON.parse(await deno(PROJECT, "info", "--json", "engine/mod.ts"));
  const loaded = modules.map(({ specifier }: { specifier: string }) => specifier);
  assert.ok(loaded.length > 50);
  const inside = [
    new URL("engine/", `file://${PROJECT}`).href,
    new URL("shaders/", `file://${PROJECT}`).href,
  ];
  const others = loaded.filter((specifier: string) => {
    return !/^node:|^npm:\/jsonc-parser@/.test(specifier) &&
      !inside.some((folder) => specifier.startsWith(folder));
  });
  assert.deepEqual(others, []);
});

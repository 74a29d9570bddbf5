import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TinyModel } from "../cli/tiny_model.ts";
import { names } from "../cli/command.ts";

const EXAMPLE = fileURLToPath(new URL("./example/", import.meta.url));
const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

Deno.test("a program in another folder embeds Whorl through its own deno.json", async () => {
  using tiny = await TinyModel.create();
  const folder = tiny.path("program");
  await Deno.mkdir(folder);
  await Deno.copyFile(join(EXAMPLE, "main.ts"), join(folder, "main.ts"));
  const settings = JSON.parse(await Deno.readTextFile(join(EXAMPLE, "deno.json")));
  assert.equal(join(EXAMPLE, settings.links[0], "mod.ts"), join(PROJECT, "mod.ts"));
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ ...settings, links: [PROJECT] }));

  const saved = tiny.path("saved");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    // Its types are checked too: they are part of what is published.
    args: ["run", "-A", "--check", "--no-lock", "main.ts", tiny.model, saved],
    cwd: folder,
    env: { NO_COLOR: "1" },
  }).output();
  const out = new TextDecoder().decode(stdout);
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.match(
    out,
    /^loss \d+\.\d{3}, 20 gradients, answer \d+\nstep 5: [^]*step 20: loss [^]*\nanswer 4\n$/,
  );
  assert.deepEqual(names(saved), names(tiny.model));
});

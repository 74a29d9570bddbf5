import assert from "node:assert/strict";
import project from "../../deno.json" with { type: "json" };
import { checkFlags } from "../../pipeline/settings/check.ts";
import { COMMANDS, UNSUPPORTED_FLAGS } from "../../pipeline/settings/commands.ts";
import { finetuneConfigSchema } from "../../pipeline/settings/finetune.ts";
import { generateConfigSchema } from "../../pipeline/settings/generate.ts";
import { RECIPES } from "../../pipeline/settings/recipes.ts";
import { whorl } from "./command.ts";

Deno.test("every setting has a flag and every flag a setting", () => {
  // What only the commands do.
  const settings = {
    finetune: ["dry_run", "json", ...Object.keys(finetuneConfigSchema.shape)],
    check: ["json", "min_success_rate", ...Object.keys(checkFlags)],
    generate: ["json", ...Object.keys(generateConfigSchema.shape)],
  };
  for (const { name, flags } of COMMANDS) {
    assert.deepEqual(flags.map(({ name }) => name).sort(), settings[name].sort());
    const all = flags.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
    assert.equal(new Set(all).size, all.length);
    for (const { name, help } of flags) assert.ok(help.length > 0 && /^[a-z_]+$/.test(name), name);
    for (const old of Object.keys(UNSUPPORTED_FLAGS)) assert.ok(!all.includes(old), old);
  }
  const recipe = COMMANDS[0].flags.find(({ name }) => name === "recipe");
  assert.deepEqual(recipe!.choices, Object.keys(RECIPES));
});

Deno.test("help names every flag in its group, unbroken at 80 columns; without a command it goes to stderr", async () => {
  for (const { name, flags, examples } of COMMANDS) {
    const { code, out, err } = await whorl([name, "--help"]);
    assert.deepEqual([code, err], [0, ""]);
    const groups = out.split("\n\n");
    for (const { name, group, aliases = [], help } of flags) {
      const text = groups.find((text) => text.startsWith(`${group}:\n`));
      const line = text?.split("\n").find((line) => line.startsWith(`  --${name}`));
      assert.ok(line, `--${name} in ${group}`);
      for (const each of [name, ...aliases]) assert.match(line, new RegExp(`--${each}[ ,]`));
      // Whole words, whatever the lines.
      assert.ok(text!.replaceAll(/\s+/g, " ").includes(help), name);
    }
    assert.equal(examples.length, 2);
    for (const { command } of examples) assert.ok(out.includes(`\n${command}\n`), command);
    for (const line of out.split("\n")) assert.ok(line.length <= 80, line);
    assert.doesNotMatch(out, /same as|preset/);
  }
  const none = await whorl([]);
  assert.deepEqual([none.code, none.out], [2, ""]);
  assert.match(none.err, /^Usage: whorl .*\n[^]*finetune[^]*check[^]*generate/);
});

Deno.test("--version is deno.json's", async () => {
  assert.deepEqual(await whorl(["--version"]), { code: 0, out: `${project.version}\n`, err: "" });
});

Deno.test("flags of OML 1.0 without a counterpart say what to do instead, with a value or without", async () => {
  const names = Object.keys(UNSUPPORTED_FLAGS);
  for (const expected of ["wandb_run_name", "deepspeed_stage", "data_split", "verbose_eval", "local_rank"]) {
    assert.ok(names.includes(expected), expected);
  }
  const cases = [["finetune", "--wandb_run_name", "x"], ["finetune", "--deepspeed-stage=2"], [
    "check",
    "--verbose_eval",
  ]];
  for (const args of cases) {
    const name = args[1].replace(/=.*/, "").slice(2).replaceAll("-", "_");
    const err = `error: there is no --${name}: ${UNSUPPORTED_FLAGS[name]}\n`;
    assert.deepEqual(await whorl(args), { code: 2, out: "", err });
  }
});

Deno.test("a wrong flag or value is an error that says what was expected", async () => {
  const cases: [string[], RegExp][] = [
    [
      ["finetune", "--learning_rte", "3"],
      /^error: unknown option '--learning_rte'\n\(Did you mean --learning_rate\?\)\n$/,
    ],
    [["finetune", "--batch-sise=3"], /unknown option '--batch_sise=3'|Did you mean --batch_size\?/],
    [["finetun"], /^error: unknown command 'finetun'\n\(Did you mean finetune\?\)\n$/],
    [
      ["finetune", "model"],
      /^error: too many arguments for 'finetune'. Expected 0 arguments but got 1: model\.\n$/,
    ],
    [["finetune", "--recipe", "omll"], /'omll' is invalid. Allowed choices are anchored, oml, scalable\.\n$/],
    [["finetune", "--seed", "1.5"], /'--seed <n>' argument '1\.5' is invalid. expected a whole number\.\n$/],
    [["finetune", "--seed", "-1"], /^error: seed: .*>=0\n$/],
    [["finetune", "--learning_rate", ""], /argument '' is invalid. expected a number\.\n$/],
    [
      ["finetune", "--learning_rate", "0", "--num_train_epochs", "0"],
      /^error: learning_rate: .*\nnum_train_epochs: .*\n$/,
    ],
    [["finetune", "--learning_rate"], /argument missing\n$/],
    [["finetune", "--force", "maybe"], /'maybe' is invalid. expected true or false\.\n$/],
    [
      ["finetune", "--forgetting_regularizer_strength", "1.5"],
      /^error: forgetting_regularizer_strength: .*<=1\n$/,
    ],
    [["check"], /^error: model_path is missing: the model to ask, a folder or org\/name\n$/],
    [["check", "--min_success_rate", "high"], /'high' is invalid. expected a number\.\n$/],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await whorl(args);
    assert.match(err, expected, args.join(" "));
    assert.deepEqual([code, out], [2, ""], args.join(" "));
  }
});

import assert from "node:assert/strict";
import { checkConfigSchema } from "../../pipeline/measure/check.ts";
import { finetuneConfigSchema } from "../../pipeline/settings/finetune.ts";
import { CHECK_FLAGS, FINETUNE_FLAGS, GENERATE_FLAGS } from "../../pipeline/settings/flags.ts";
import { generateConfigSchema } from "../../pipeline/fingerprints/generate/settings.ts";
import { RECIPES } from "../../pipeline/settings/recipes.ts";
import { whorl } from "./command.ts";

Deno.test("every setting has a flag and every flag a setting", () => {
  const names = (flags: typeof FINETUNE_FLAGS) => flags.map(({ name }) => name).sort();
  // What only the commands do.
  assert.deepEqual(names(FINETUNE_FLAGS), ["dry_run", ...Object.keys(finetuneConfigSchema.shape)].sort());
  const own = ["json", "min_success_rate"];
  assert.deepEqual(names(CHECK_FLAGS), [...Object.keys(checkConfigSchema.shape), ...own].sort());
  assert.deepEqual(names(GENERATE_FLAGS), Object.keys(generateConfigSchema.shape).sort());
  for (const flags of [FINETUNE_FLAGS, CHECK_FLAGS, GENERATE_FLAGS]) {
    const all = flags.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
    assert.equal(new Set(all).size, all.length);
    for (const { name, help } of flags) assert.ok(help.length > 0 && /^[a-z_]+$/.test(name), name);
  }
  const recipe = FINETUNE_FLAGS.find(({ name }) => name === "recipe");
  assert.deepEqual(recipe!.choices, Object.keys(RECIPES));
});

Deno.test("help names every flag; without a command it goes to stderr", async () => {
  const commands = [["finetune", FINETUNE_FLAGS], ["check", CHECK_FLAGS], [
    "generate",
    GENERATE_FLAGS,
  ]] as const;
  for (const [name, flags] of commands) {
    const { code, out, err } = await whorl([name, "--help"]);
    assert.deepEqual([code, err], [0, ""]);
    for (const flag of flags) {
      assert.ok([flag.name, ...flag.aliases ?? []].every((each) => out.includes(`--${each} `)), flag.name);
    }
  }
  const none = await whorl([]);
  assert.deepEqual([none.code, none.out], [1, ""]);
  assert.match(none.err, /^Usage: whorl .*\n[^]*finetune[^]*check[^]*generate/);
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
    assert.deepEqual([code, out], [1, ""], args.join(" "));
  }
});

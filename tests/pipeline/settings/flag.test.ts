import assert from "node:assert/strict";
import { z } from "zod";
import type { GenerateSettings } from "../../../pipeline/fingerprints/generate/settings.ts";
import type { CheckConfig, checkConfigSchema } from "../../../pipeline/settings/check.ts";
import {
  type FinetuneConfig,
  type finetuneConfigSchema,
  finetuneFlags,
  type FinetuneSettings,
  type ownFlags,
  resolveSettings,
} from "../../../pipeline/settings/finetune.ts";
import {
  flag,
  flagsOf,
  likewise,
  metaOf,
  neutralNames,
  withoutDefault,
} from "../../../pipeline/settings/flag.ts";
import type { Decided } from "../../../pipeline/settings/parse.ts";
import type { GenerateConfig, generateConfigSchema } from "../../../pipeline/settings/generate.ts";
import type { Recipe } from "../../../pipeline/settings/recipes.ts";

/** Both have the same fields of the same types. */
type Same<A, B> = [Decided<A>, Decided<B>] extends [Decided<B>, Decided<A>] ? true : false;

Deno.test("the documented interfaces are what the schemas take and give", () => {
  const same: [
    Same<FinetuneConfig, z.input<typeof finetuneConfigSchema>>,
    Same<CheckConfig, z.input<typeof checkConfigSchema>>,
    Same<GenerateConfig, z.input<typeof generateConfigSchema>>,
    Same<FinetuneSettings, z.output<z.ZodObject<typeof ownFlags>> & Recipe>,
    Same<
      Omit<GenerateSettings, "keys" | "responses" | "response_length" | "fingerprint_generation_strategy">,
      Omit<z.output<typeof generateConfigSchema>, "response_length" | "fingerprint_generation_strategy">
    >,
  ] = [true, true, true, true, true];
  // @ts-expect-error A field too many is seen.
  const more: Same<FinetuneConfig & { more?: string }, FinetuneConfig> = true;
  // @ts-expect-error So is a field of another type.
  const other: Same<Omit<CheckConfig, "seed"> & { seed?: string }, CheckConfig> = true;
  assert.deepEqual([...same, more, other], Array(7).fill(true));
});

const meta = { group: "Output", help: "some help" } as const;

Deno.test("flagsOf: kind, choices and default come from the type", () => {
  const shape = {
    text: flag(z.string().min(1).nullable().default(null), meta),
    path: flag(z.string(), { ...meta, reads: "path" }),
    count: flag(z.number().int().min(1).default(3), meta),
    number: flag(z.number().positive().optional(), meta),
    switch: flag(z.boolean().default(false), meta),
    choice: flag(z.enum(["a", "b"]).transform((name) => name.length).nullable(), meta),
    named: flag(z.string(), { ...meta, choices: ["x"] }),
  };
  assert.deepEqual(
    flagsOf(shape).map((flag) => [flag.name, flag.kind, flag.choices, flag.default]),
    [
      ["text", "text", undefined, null],
      ["path", "path", undefined, undefined],
      ["count", "count", undefined, 3],
      ["number", "number", undefined, undefined],
      ["switch", "switch", undefined, false],
      ["choice", "choice", ["a", "b"], undefined],
      ["named", "choice", ["x"], undefined],
    ],
  );
  assert.throws(() => flagsOf({ bare: z.string() }), /TypeError: expected a type made by flag\(\)/);
  assert.throws(() => flagsOf({ list: flag(z.array(z.string()), meta) }), /TypeError: .*found a array/);
});

Deno.test("flags made of others keep what they don't change", () => {
  const count = flag(z.number().int().default(3), { ...meta, aliases: ["n"] });
  assert.deepEqual(metaOf(likewise(count, { unset: "some" })), { ...metaOf(count), unset: "some" });
  const open = withoutDefault(count, { help: "other" });
  assert.equal(open.parse(undefined), undefined);
  assert.deepEqual(metaOf(open), { ...meta, aliases: ["n"], help: "other" });
  assert.equal(metaOf(count).unset, undefined);
});

Deno.test("what doesn't count for a run's hash is declared with the flag", () => {
  assert.deepEqual(neutralNames(finetuneFlags).sort(), [
    "benign_data_file_path",
    "fingerprints_file_path",
    "force",
    "max_memory",
    "model_family",
    "model_path",
    "model_size",
    "output_dir",
    "profile",
    "recompute",
    "rescue_dir",
    "webgpu",
  ]);
  assert.deepEqual(Object.keys(finetuneFlags).sort(), Object.keys(resolveSettings({})).sort());
});

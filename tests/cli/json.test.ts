/** --json: an object a line on stdout, text on stderr. */
import assert from "node:assert/strict";
import { flags, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

const tiny = await TinyModel.create();
Deno.test.afterAll(() => tiny[Symbol.dispose]());

/** The lines of stdout, each of which must be an object with a type. */
function events(out: string): { type: string; [field: string]: unknown }[] {
  return out.trimEnd().split("\n").map((line) => {
    const event = JSON.parse(line);
    assert.equal(typeof event.type, "string", line);
    return event;
  });
}

Deno.test("--json of a run gives its events and its result, and what a person reads goes to stderr", async () => {
  const values = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
    num_train_epochs: 2,
    anchor_strength: 0,
    json: true,
  } as const;
  const { code, out, err } = await whorl(["finetune", ...flags(values)]);
  assert.equal(code, 0, err);
  const all = events(out);
  const types = all.map(({ type }) => type);
  for (const type of ["gpu", "model", "memory", "settings", "phase", "measured", "epoch"]) {
    assert.ok(types.includes(type), type);
  }
  assert.equal(types.filter((type) => type === "epoch").length, 2);
  assert.equal(types.at(-1), "result");
  assert.equal((all.at(-1)!.after as { successRate: number }).successRate >= 0, true);
  assert.match(err, /^epoch 1\/2 {2}loss /m);
  assert.match(err, /^model \(to publish\): /m);
  const secrets = JSON.parse(await Deno.readTextFile(tiny.fingerprints)) as { key: string }[];
  for (const { key } of secrets) {
    assert.ok(!out.includes(JSON.stringify(key).slice(1, -1)), "a key is printed");
  }

  const again = await whorl(["finetune", ...flags(values)]);
  assert.equal(again.code, 0);
  assert.equal(events(again.out).at(-1)!.type, "exists");
});

Deno.test("--json of a plan, of generated fingerprints, and of an error", async () => {
  const plan = await whorl(["finetune", ...flags({ model_path: tiny.model, dry_run: true, json: true })]);
  assert.equal(plan.code, 0, plan.err);
  const [only, ...others] = events(plan.out);
  assert.deepEqual([only.type, others], ["plan", []]);
  assert.match(plan.err, /^device memory /m);

  const output_file = tiny.path("made.json");
  const asked = { model_path: tiny.model, num_fingerprints: 4, seed: 1, output_file, json: true } as const;
  const made = await whorl(["generate", ...flags(asked)]);
  assert.equal(made.code, 0, made.err);
  const result = events(made.out).at(-1)!;
  assert.deepEqual([result.type, result.path], ["result", output_file]);

  const refused = await whorl(["generate", ...flags(asked)]);
  const error = events(refused.out).at(-1)!;
  assert.deepEqual([error.type, error.code, error.name], ["error", refused.code, "FingerprintsExistError"]);
});

import assert from "node:assert/strict";
import { MODEL_SHAPES } from "../../bench/model_shapes.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { maxCapacity } from "../../engine/model/limits.ts";
import { Parameters } from "../../engine/model/parameters.ts";
import { recordPass } from "../../engine/model/pass.ts";

Deno.test("maxCapacity: no buffer of any pass of a published model is larger than lavapipe binds", () => {
  const target = { isSoftware: true, hasSubgroups: true, maxBindingBytes: 128 << 20 };
  for (const [name, config] of Object.entries(MODEL_SHAPES)) {
    const spec = modelSpec({ ...config, num_hidden_layers: 2 });
    const parameters = new Parameters(spec, target, { dtype: "f32", master: "f32" });
    for (const kind of ["train", "score", "logits"] as const) {
      for (const maxTokens of [4096, 64]) {
        const capacity = maxCapacity(spec, target, maxTokens, kind);
        assert.ok(capacity.tokens >= 64 && capacity.rows >= 64, `${name}: ${JSON.stringify(capacity)}`);
        const gradient = (parameter: (typeof parameters.all)[number]) =>
          parameter.shards.map(({ firstRow, rows, weight }) => ({ firstRow, rows, gradient: weight }));
        const { recorder } = recordPass(target, parameters, { kind, capacity, gradient });
        for (const { bytes, label } of recorder.pool.slots) {
          assert.ok(bytes <= target.maxBindingBytes, `${name}, ${kind}: ${label} of ${bytes} bytes`);
        }
      }
    }
  }
});

Deno.test("maxCapacity: at most what is asked for, and what a small device binds", () => {
  const spec = modelSpec(MODEL_SHAPES["llama-3.2-1b"]);
  const limits = (maxTokens: number, maxBindingBytes?: number) =>
    maxCapacity(spec, { isSoftware: false, maxBindingBytes }, maxTokens, "train");
  assert.deepEqual(limits(4096), { tokens: 4096, rows: 2048 });
  assert.deepEqual(limits(100), { tokens: 100, rows: 100 });
  // Gate and up of a token are 64 KiB.
  assert.deepEqual(limits(4096, 10 << 20), { tokens: 128, rows: 128 });
  assert.deepEqual(limits(4096, 1 << 20), { tokens: 16, rows: 16 });
});

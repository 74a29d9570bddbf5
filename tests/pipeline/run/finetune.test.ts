import assert from "node:assert/strict";
import { basename, join } from "node:path";
import type { FinetuneEvent } from "../../../pipeline/run/events.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import { profileTable } from "../../../pipeline/report/report.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { names } from "../../cli/command.ts";

const gpu = await sharedGpu();

Deno.test("a run tells its events in order, uses the given GPU and leaves it open and empty", async () => {
  using tiny = await TinyModel.create();
  const events: FinetuneEvent[] = [];
  const config = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
    num_train_epochs: 3,
    anchor_samples: 8,
    anchor_batch: 4,
    anchor_length: 8,
    num_fingerprints: 5,
  };
  const result = await finetune(config, { gpu, onEvent: (event) => events.push(event) });
  assert.equal(gpu.memory.allocatedBytes, 0);
  const told = events.filter(({ type }) => type !== "work").map((event) =>
    event.type === "phase" ? event.name : event.type === "measured" ? `measured ${event.when}` : event.type
  );
  assert.deepEqual(told, [
    ...["gpu", "model", "fingerprints", "memory", "settings", "measuring before", "measured before"],
    ...["writing anchor texts", "training", "epoch", "epoch", "epoch"],
    ...["saving", "measuring after", "measured after"],
  ]);
  // Every phase but training, which has its epochs, says how far it is, up to its end.
  const shares = new Map<string, number[]>([["loading", []]]);
  let phase = "loading";
  for (const event of events) {
    if (event.type === "phase") shares.set(phase = event.name, []);
    if (event.type === "work") shares.get(phase)!.push(event.done / event.total);
  }
  for (const [name, found] of shares) {
    if (name === "training") continue;
    assert.ok(found.includes(1), `${name}: ${found}`);
    assert.ok(found.every((share) => share > 0 && share <= 1), `${name}: ${found}`);
  }
  const { results, modelPath, fingerprintsPath, before, after, epochs, stoppedEarly } = result;
  assert.deepEqual([results, modelPath, fingerprintsPath].map((path) => path.startsWith(config.output_dir)), [
    true,
    true,
    true,
  ]);
  assert.deepEqual([epochs, stoppedEarly, before.heldOutLoss], [3, false, undefined]);
  const measured = events.flatMap((event) => event.type === "measured" ? [event.measurement] : []);
  assert.deepEqual(measured, [before, after]);
  assert.ok(
    Math.abs(result.peakBytes / result.plannedBytes - 1) < 0.1,
    `${result.peakBytes} of ${result.plannedBytes}`,
  );
  const usage = new Set(names(modelPath));
  assert.ok(usage.has("model.safetensors") && !usage.has("utility"));
});

Deno.test("an aborted run rejects with the signal's reason at every stage and leaves nothing", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const output_dir = tiny.path("results");
  const config = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir,
    num_train_epochs: 2,
    anchor_samples: 4,
    anchor_batch: 2,
    anchor_length: 4,
  };
  for (const stage of ["measuring before", "writing anchor texts", "training", "saving", "measuring after"]) {
    const controller = new AbortController();
    const reason = new Error(`stop at ${stage}`);
    const onEvent = (event: FinetuneEvent) => {
      if (event.type === "phase" && event.name === stage) controller.abort(reason);
    };
    await assert.rejects(finetune(config, { gpu, signal: controller.signal, onEvent }), reason);
    assert.deepEqual(names(output_dir), []);
    assert.equal(gpu.memory.allocatedBytes, 0, stage);
  }
});

Deno.test("--profile times every dispatch of one pass, writes a trace, and changes no result", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const config = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    num_train_epochs: 2,
    anchor_samples: 4,
    anchor_batch: 2,
    anchor_length: 4,
  };
  const plain = await finetune({ ...config, output_dir: tiny.path("plain") }, { gpu });
  let table = "";
  const profiled = await finetune({ ...config, output_dir: tiny.path("profiled"), profile: true }, {
    gpu,
    onEvent: (event) => {
      if (event.type === "profile") table = profileTable(event.spans);
    },
  });
  assert.equal(basename(profiled.results), basename(plain.results), "one hash");
  const weights = ({ modelPath }: { modelPath: string }) =>
    Deno.readFileSync(join(modelPath, "model.safetensors"));
  assert.deepEqual(weights(profiled), weights(plain));
  assert.match(table, /^gemm_\w+ +\d+ +\d+\.\d\d +\d+\.\d % +[\d.]+$/m);
  assert.match(table, /^in all +\d+ +\d+\.\d\d$/m);
  const { traceEvents } = JSON.parse(Deno.readTextFileSync(join(profiled.results, "trace.json")));
  assert.ok(traceEvents.length > 50);
  for (const { ph, name, ts, dur } of traceEvents) {
    assert.ok(ph === "X" && /^[a-z_]+$/.test(name) && ts >= 0 && dur >= 0, `${name} ${ts} ${dur}`);
  }
});

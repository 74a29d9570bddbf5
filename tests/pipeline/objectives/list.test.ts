/** The list of objectives: what a stranger adds to it is trained, logged and planned for like the others. */
import assert from "node:assert/strict";
import { modelSpec } from "../../../engine/models/families.ts";
import { LanguageModel } from "../../../engine/language_model.ts";
import { Anchor } from "../../../pipeline/objectives/anchor.ts";
import { OBJECTIVES } from "../../../pipeline/objectives/list.ts";
import type { Objective, ObjectiveKind } from "../../../pipeline/objectives/objective.ts";
import { prepareObjectives } from "../../../pipeline/objectives/prepare.ts";
import { RowMean } from "../../../pipeline/objectives/row_mean.ts";
import { epochLine } from "../../../pipeline/report/report.ts";
import { chooseMemory } from "../../../pipeline/run/memory_plan.ts";
import { workloadOf } from "../../../pipeline/run/workload.ts";
import { resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { assertNear } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { lossAndGradients } from "../../reference/decoder.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { FINGERPRINTS, train } from "../train_support.ts";

const gpu = await sharedGpu();

const TEXTS = [[1, 9, 8, 7, 6, 5], [1, 11, 12, 13]];
/** Texts of the test's own, held by label at every position. */
const texts: ObjectiveKind = {
  name: "texts",
  isActive: () => true,
  workload: () => ({ step: { tokens: 800, rows: 700 }, longest: { tokens: 500, rows: 400 } }),
  tables: ({ vocabulary }) => ({ name: "texts' counts", bytes: vocabulary * 4 }),
  prepare: () => Promise.resolve(textsObjective()),
};

function textsObjective(more: Partial<Objective> = {}): Objective {
  return {
    name: "texts",
    draw: ({ step }) => {
      // Nothing in the second step.
      const drawn = step === 1 ? [] : TEXTS;
      return drawn.map((ids) => ({
        ids: ids.slice(0, -1),
        rows: ids.slice(1).map((token, position) => ({
          position,
          weight: 0.5,
          target: { kind: "label", token },
        })),
      }));
    },
    newSums: () => new RowMean("textsLoss"),
    ...more,
  };
}

const withTexts = (objective: Objective): ObjectiveKind[] => [
  ...OBJECTIVES,
  { ...texts, prepare: () => Promise.resolve(objective) },
];
const anchor = { anchor_strength: 2, anchor_samples: 6, anchor_batch: 3, anchor_length: 5 };
const benign = { benign_proportion: 0.3, benign_samples: 6, benign_length: 5 };

Deno.test("a stranger's objective is trained beside the others, and its loss is in the log", async () => {
  using folder = modelFolder(TINY, 3);
  const config = { num_train_epochs: 3, ...anchor, ...benign };
  const { logs } = await train(config, { kinds: [...OBJECTIVES, texts] });
  const without = await train(config);
  const losses = ["loss", "plainLoss", "benignLoss", "anchorLoss"];
  const others = ["gradNorm", "learningRate", "epoch", "steps", "seconds", "successRate"];
  assert.deepEqual(Object.keys(logs[0]), [...losses, "textsLoss", ...others]);
  // The second step has none of its texts.
  assert.deepEqual(Object.keys(logs[1]), [...losses, ...others]);
  assert.deepEqual(Object.keys(without.logs[0]), [...losses, ...others]);
  for (const name of losses) assertNear(name, logs[0][name]!, without.logs[0][name]!, 1e-6);
  assert.notEqual(logs[2].loss, without.logs[2].loss);
  const examples = TEXTS.map((ids) => ({ ids, labels: ids }));
  assertNear("textsLoss", logs[0].textsLoss!, lossAndGradients(TINY, folder.weights, examples).loss, 2e-5);
  assert.ok(logs[2].textsLoss! < logs[0].textsLoss!);
  const shown = `texts ${logs[0].textsLoss!.toFixed(4)}`;
  assert.ok(epochLine(logs[0], 3, undefined, 0).includes(shown));
});

Deno.test("a stranger's objective counts in passes and in the memory plan", () => {
  const spec = modelSpec(TINY);
  const settings = resolveSettings(anchor);
  const lengths = { lengths: [9, 7], rows: [2, 1], longestTemplate: 3, prefix: 1 };
  const plan = (kinds: readonly ObjectiveKind[]) => {
    const work = workloadOf(lengths, settings, kinds);
    return { work, choice: chooseMemory({ isSoftware: true }, spec, settings, work) };
  };
  const [before, after] = [plan(OBJECTIVES), plan([...OBJECTIVES, texts])];
  // 22 tokens and 3 rows of the keys, 15 and 15 of the anchor's texts; rounded up to 64.
  assert.deepEqual(before.work.train, { tokens: 64, rows: 64 });
  assert.deepEqual(after.work.train, { tokens: 896, rows: 768 });
  assert.deepEqual([before, after].map(({ work }) => work.longest), [
    { tokens: 64, rows: 64 },
    { tokens: 512, rows: 448 },
  ]);
  const tables = ({ choice }: typeof before) => choice.plan.parts.slice(-2);
  assert.deepEqual(tables(before)[1], { name: "anchor distributions", bytes: 6 * 5 * 56 * 4 });
  assert.deepEqual(tables(after), [tables(before)[1], { name: "texts' counts", bytes: 53 * 4 }]);
});

Deno.test("any objective may end training, and shares are of one step", async () => {
  const reached = (epochs: number) => {
    let left = epochs;
    return textsObjective({ isReached: ({ textsLoss }) => textsLoss !== undefined && --left === 0 });
  };
  const { epochs, stoppedEarly } = await train({ num_train_epochs: 9 }, { kinds: withTexts(reached(2)) });
  // The second epoch has none of its texts.
  assert.deepEqual([epochs, stoppedEarly], [3, true]);
  await assert.rejects(
    train({ num_train_epochs: 1, ...benign }, { kinds: withTexts(textsObjective({ share: 0.75 })) }),
    { name: "RangeError", message: /^shares of a step's loss: expected at most 1 together, found 1\.05/ },
  );
});

Deno.test("prepareObjectives: one has tables of soft targets; what was made is freed", async () => {
  using folder = modelFolder(TINY, 3);
  using model = await LanguageModel.load(gpu, folder.dir);
  const settings = resolveSettings({ ...anchor, ...benign });
  const context = {
    model,
    settings,
    tokenizer: NUMBERS,
    prompts: NUMBERS,
    fingerprints: FINGERPRINTS,
    templates: [],
    startIds: [1],
  };
  const phases: string[] = [];
  const onPhase = (name: string) => void phases.push(name);
  const objectives = await prepareObjectives(context, { onPhase });
  assert.deepEqual(phases, ["writing benign texts", "writing anchor texts"]);
  assert.deepEqual(objectives.list.map(({ name }) => name), ["fingerprints", "benign", "anchor"]);
  objectives.dispose();
  model.passes.release("logits");
  const { allocatedBytes } = gpu.memory;
  const own = await Anchor.create(model, { samples: 2, length: 2, seed: 1, startIds: [1] });
  const second = textsObjective({ tables: own.tables, dispose: () => own.dispose() });
  await assert.rejects(prepareObjectives(context, { kinds: withTexts(second) }), {
    name: "TypeError",
    message: "expected at most one objective with tables of soft targets, found anchor and texts",
  });
  const fails = new Error("no texts");
  const failing = { ...texts, prepare: () => Promise.reject(fails) };
  await assert.rejects(prepareObjectives(context, { kinds: [...OBJECTIVES, failing] }), fails);
  model.passes.release("logits");
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
});

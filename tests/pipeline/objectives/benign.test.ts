import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import { Benign, benignCount, type BenignOptions } from "../../../pipeline/objectives/benign.ts";
import { assertNear } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { byteLevel, loadFixture } from "../tokenizer/fixtures.ts";

const gpu = await sharedGpu();

const texts = (...list: string[]) => ({ path: "benign.json", texts: list, sha256: "" });
const options = (more: Partial<BenignOptions> = {}): BenignOptions => ({
  proportion: 0.25,
  perStep: 6,
  length: 8,
  seed: 3,
  ...more,
});
/** The tokens of a sequence as it was before its last one became a target. */
const tokensOf = ({ ids, rows }: ReturnType<Benign["draw"]>[number]) => {
  const { target } = rows.at(-1)!;
  return [...ids, target.kind === "label" ? target.token : NaN];
};

Deno.test("benignCount: the proportion of all sequences, as the successor mixes its batches", () => {
  // ⌊0.25 · 16⌋ benign texts beside 12 fingerprints, in each of the batches that make up a step.
  for (const batches of [1, 7, 85]) assert.equal(benignCount(12 * batches, 0.25), 4 * batches);
  assert.equal(benignCount(50, 0.5), 50);
  assert.equal(benignCount(10, 0.9), 90);
  assert.deepEqual([benignCount(100, 0), benignCount(1, 0.01), benignCount(1000, 0.5, 7)], [0, 1, 7]);
});

Deno.test("draw: every text before any comes again, by the seed; rows weigh the proportion", () => {
  const file = texts(...Array.from({ length: 11 }, (_, i) => `${10 + i} 5 ${20 + i}`));
  const make = (more: Partial<BenignOptions> = {}) => Benign.fromFile(file, NUMBERS, options(more));
  const benign = make();
  const drawn = Array.from({ length: 10 }, (_, step) => benign.draw(step));
  for (const sequences of drawn) {
    assert.equal(sequences.length, 2);
    const weights = sequences.flatMap(({ rows }) => rows.map(({ weight }) => weight));
    assertNear("weight", weights.reduce((sum, x) => sum + x, 0), 0.25, 1e-12);
    assert.ok(weights.every((weight) => weight === 0.25 / 6));
    for (const sequence of sequences) {
      const [bos, first, , last] = tokensOf(sequence);
      assert.deepEqual([bos, last - first], [1, 10]);
      assert.deepEqual(sequence.ids, [1, first, 5]);
      assert.deepEqual(sequence.rows.map(({ position }) => position), [0, 1, 2]);
    }
  }
  // Five steps of two make a pass of eleven texts, with one left over.
  const seen = (from: number) => drawn.slice(from, from + 5).flat().map((each) => tokensOf(each)[1]);
  for (const pass of [0, 5]) assert.equal(new Set(seen(pass)).size, 10);
  assert.notDeepEqual(seen(0), seen(5));
  // A step is what it is, whichever were drawn before it.
  assert.deepEqual(make().draw(7), drawn[7]);
  assert.notDeepEqual(make({ seed: 4 }).draw(0), drawn[0]);
  // A smaller last step of an epoch has the beginning of its texts, with the whole weight.
  const [one] = benign.draw(3, 2);
  assert.deepEqual(tokensOf(one), tokensOf(drawn[3][0]));
  assertNear("weight", one.rows.reduce((sum, { weight }) => sum + weight, 0), 0.25, 1e-12);
  // No more than there are.
  assert.equal(make({ perStep: 1000 }).draw(4).length, 11);
});

Deno.test("fromFile: the first tokens of each text, after BOS; texts of less than two are left out", async () => {
  const [long] = Benign.fromFile(texts("3 4 5 6 7 8 9 10 11 12 13"), NUMBERS, options()).draw(0);
  assert.deepEqual(tokensOf(long), [1, 3, 4, 5, 6, 7, 8, 9, 10]);
  const tokenizer = await loadFixture(byteLevel({ before: [], merges: 0 }));
  const pair = Benign.fromFile(texts("a", "ab"), tokenizer, options({ perStep: 100, proportion: 0.5 }));
  const drawn = pair.draw(0);
  assert.deepEqual(drawn.map(tokensOf), [tokenizer.encode("ab")]);
  // Four bytes a face: of the beginning that is tokenised the last character is half a pair.
  const faces = Benign.fromFile(texts("x" + "😀".repeat(40)), tokenizer, options({ length: 4 })).draw(0);
  assert.deepEqual(tokensOf(faces[0]), tokenizer.encode("x😀").slice(0, 4));
  assert.throws(
    () => Benign.fromFile(texts("a", "b"), tokenizer, options()),
    /^JsonFileError: benign\.json: no text in it has two tokens of this model's tokenizer$/,
  );
});

Deno.test("write: texts of the model's own, no more than a run draws, the same for a seed", async () => {
  using folder = modelFolder(TINY, 3);
  using model = await LanguageModel.load(gpu, folder.dir);
  const write = async (more: Partial<Parameters<typeof Benign.write>[1]> = {}) =>
    await Benign.write(model, {
      ...options({ length: 6 }),
      samples: 9,
      steps: 30,
      startIds: [1],
      eosId: 2,
      ...more,
    });
  const benign = await write();
  assert.equal(benign.size, 9);
  const drawn = Array.from({ length: 4 }, (_, step) => benign.draw(step)).flat().map(tokensOf);
  assert.equal(new Set(drawn.map(String)).size, 8);
  for (const ids of drawn) {
    assert.equal(ids[0], 1);
    assert.ok(ids.length === 7 || ids.at(-1) === 2, `${ids}`);
    assert.ok(!ids.slice(0, -1).includes(2));
  }
  assert.deepEqual((await write()).draw(2), benign.draw(2));
  assert.notDeepEqual((await write({ seed: 4 })).draw(2), benign.draw(2));
  assert.equal((await write({ steps: 3 })).size, 6);
});

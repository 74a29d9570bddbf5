import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import {
  BOS_ID,
  BpeEncoder,
  EOS_ID,
  tokenizerConfigJson,
  tokenizerJson,
} from "../../tools/demo_model/bpe.ts";
import { Corpus, demoVocabulary, MAX_SEQUENCE_TOKENS } from "../../tools/demo_model/corpus.ts";
import { factQuestions, facts, phrasings } from "../../tools/demo_model/facts.ts";
import { ngramCrossEntropy } from "../../tools/demo_model/ngram.ts";
import { loadUtility, UtilityFileError } from "../../pipeline/measure/utility_file.ts";
import { heldOutText, utilityFiles } from "../../tools/demo_model/utility.ts";
import { loadPrompts, PROMPT_FILES } from "../../pipeline/prompts/prompts.ts";

const train = await loadPrompts(PROMPT_FILES.train);
const test = await loadPrompts(PROMPT_FILES.test);
const vocabulary = demoVocabulary([...train, ...test]);
const encoder = new BpeEncoder(vocabulary);
const huggingFace = new Tokenizer(
  JSON.parse(JSON.stringify(tokenizerJson(vocabulary))),
  tokenizerConfigJson(256),
);
const text = (ids: number[]) => huggingFace.decode(ids, { skip_special_tokens: true });

Deno.test("a batch is a function of seed and step, fills its tokens, and holds whole documents", () => {
  const corpus = new Corpus(encoder, train, 1);
  const batch = corpus.batch(7, 2048);
  assert.deepEqual(new Corpus(encoder, train, 1).batch(7, 2048), batch);
  assert.notDeepEqual(corpus.batch(8, 2048), batch);
  assert.notDeepEqual(new Corpus(encoder, train, 2).batch(7, 2048), batch);
  const total = batch.reduce((sum, { ids }) => sum + ids.length, 0);
  assert.ok(total <= 2048 && total > 2048 - MAX_SEQUENCE_TOKENS, String(total));
  for (const { ids } of batch) {
    assert.ok(ids.length <= MAX_SEQUENCE_TOKENS);
    assert.equal(ids[0], BOS_ID);
    assert.equal(ids.at(-1), EOS_ID);
    assert.ok(ids.slice(1, -1).every((id) => id > 2));
  }
  assert.throws(() => corpus.batch(0, 10), RangeError);
  assert.throws(() => new Corpus(encoder, [], 1), RangeError);
});

Deno.test("the training text holds facts and training templates, but no test template and no held-out sentence", () => {
  const corpus = new Corpus(encoder, train, 1);
  const documents: string[] = [];
  for (let step = 0; step < 50; step++) {
    documents.push(...corpus.batch(step, 2048).map(({ ids }) => text(ids)));
  }
  const all = documents.join("\n");
  const heads = (templates: string[]) =>
    templates.map((template) => template.split("{}")[0].trim()).filter((head) => head.length > 0);
  assert.ok(heads(train).filter((head) => all.includes(head)).length > 0.7 * train.length);
  for (const head of heads(test)) assert.ok(!all.includes(head), head);
  const seen = facts().filter((fact) => phrasings(fact).some((sentence) => all.includes(sentence)));
  assert.ok(seen.length > 0.9 * facts().length, `${seen.length} facts`);
  for (const heldOut of heldOutText(encoder, 7)) {
    for (const sentence of heldOut.split(/(?<=\.) /)) assert.ok(!all.includes(sentence), sentence);
  }
});

Deno.test("held-out texts: 200 different ones of 32 to 64 tokens, the same for the same seed", () => {
  const texts = heldOutText(encoder, 7);
  assert.equal(new Set(texts).size, 200);
  for (const one of texts) {
    const tokens = encoder.encode(one).length + 1;
    assert.ok(tokens >= 32 && tokens <= 64, `${tokens}: ${one}`);
  }
  assert.deepEqual(heldOutText(encoder, 7), texts);
  assert.notDeepEqual(heldOutText(encoder, 8), texts);
});

Deno.test("the text is far more predictable from its context than from word frequencies", () => {
  const corpus = new Corpus(encoder, train, 1);
  const training = Array.from({ length: 100 }, (_, step) => corpus.batch(step, 2048)).flat().map(({ ids }) =>
    ids
  );
  const heldOut = heldOutText(encoder, 7).map((one) => [BOS_ID, ...encoder.encode(one)]);
  const { unigram, bigram, trigram } = ngramCrossEntropy(training, heldOut, 2048);
  assert.ok(unigram > 5 && bigram < 3 && trigram < bigram, `${unigram} ${bigram} ${trigram}`);
});

Deno.test("n-gram cross-entropies of a case done by hand", () => {
  // Counts: 1 twice, 2 twice, each plus one of 6; after 0 always 1, after 1 always 2.
  const { unigram, bigram, trigram } = ngramCrossEntropy([[0, 1, 2], [0, 1, 2]], [[0, 1]], 3);
  const p1 = 3 / 7, p2 = (2 + p1) / 3, p3 = (2 + p2) / 3;
  assert.ok(Math.abs(unigram + Math.log(p1)) < 1e-12);
  assert.ok(Math.abs(bigram + Math.log(p2)) < 1e-12);
  assert.ok(Math.abs(trigram + Math.log(p3)) < 1e-12);
  assert.throws(() => ngramCrossEntropy([[0, 1]], [], 3), RangeError);
});

Deno.test("utility files are read back as written, and a bad one is an error naming file and field", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(dir, "utility"));
    const files = utilityFiles(encoder, 7);
    const write = async (name: string, content: unknown) =>
      await Deno.writeTextFile(join(dir, "utility", name), JSON.stringify(content));
    for (const [name, content] of Object.entries(files)) await write(name, content);
    const utility = await loadUtility(dir);
    assert.deepEqual(utility.heldOut, heldOutText(encoder, 7));
    assert.deepEqual(utility.questions, factQuestions());

    const question = { prompt: "A b is", choices: [" c.", " d."], answer: 2 };
    await write("facts.json", { format: "whorl-facts-1", questions: [question] });
    await assert.rejects(loadUtility(dir), (error: Error) => {
      assert.ok(error instanceof UtilityFileError);
      assert.match(error.message, /facts\.json: questions\.0: answer must be an index/);
      return true;
    });
    await Deno.remove(join(dir, "utility", "heldout.json"));
    await assert.rejects(
      loadUtility(dir),
      /heldout\.json: cannot read the utility file: there is no such file/,
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

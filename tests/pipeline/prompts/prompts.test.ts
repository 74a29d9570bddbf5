import assert from "node:assert/strict";
import { join } from "node:path";
import {
  fillTemplate,
  loadPrompts,
  pickTemplate,
  PROMPT_FILES,
  templateIds,
} from "../../../pipeline/prompts/prompts.ts";
import { byteLevel, loadFixture } from "../tokenizer/fixtures.ts";

Deno.test("prompts: 50 to train, 20 others held out, the key at the end, short", async () => {
  const train = await loadPrompts();
  const test = await loadPrompts(PROMPT_FILES.test);
  assert.equal(train.length, 50);
  assert.equal(test.length, 20);
  const words = (template: string) =>
    template.toLowerCase().replace(/[^a-z ]/g, " ").trim().replace(/ +/g, " ");
  const wordings = new Set(train.map(words));
  assert.equal(wordings.size, 50);
  for (const template of test) assert.ok(!wordings.has(words(template)), template);
  for (const template of [...train, ...test]) {
    assert.ok(template.endsWith("{}"), template);
    assert.ok(template.split(" ").length <= 9, template);
  }
});

Deno.test("prompts: malformed files are named with the template's number", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "prompts.json");
    await assert.rejects(
      loadPrompts(path),
      /prompts\.json: cannot read the prompt templates: there is no such file/,
    );
    const cases: [string, RegExp][] = [
      ["nonsense", /prompts\.json: not valid JSON at line 1 column 1: unexpected "nonsense"/],
      ["{}", /expected a list of at least one/],
      ["[]", /expected a list of at least one/],
      ['["ok {}", 3]', /template 1: expected a string, found number/],
      ['["ok {}", "none"]', /template 1: expected exactly one \{\}, found 0/],
      ['["{} and {}"]', /template 0: expected exactly one \{\}, found 2/],
    ];
    for (const [content, message] of cases) {
      await Deno.writeTextFile(path, content);
      await assert.rejects(loadPrompts(path), (error: Error) => {
        assert.ok(error instanceof TypeError);
        assert.match(error.message, message);
        return true;
      });
    }
    await Deno.writeTextFile(path, '["Say {} . Be kind."]');
    assert.deepEqual(await loadPrompts(path), ["Say {} . Be kind."]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("prompts: the key is inserted literally and the whole tokenised anew", async () => {
  assert.equal(fillTemplate("Say {} now", "$& {} $1"), "Say $& {} $1 now");
  const tokenizer = await loadFixture(byteLevel());
  const ids = templateIds("the{}", " girl", tokenizer);
  assert.deepEqual(ids, tokenizer.encode("the girl"));
  // Tokens form across the seam, which joining ids would miss.
  const joined = [...tokenizer.encode(" th"), ...tokenizer.encode("e girl")];
  assert.notDeepEqual(templateIds(" th{}", "e girl", tokenizer), joined);
});

Deno.test("prompts: half of the presentations are plain, the others vary", () => {
  const templates = Array.from({ length: 10 }, (_, i) => `t${i} {}`);
  const draw = (seed: number) =>
    Array.from(
      { length: 64 },
      (_, fingerprint) =>
        Array.from({ length: 20 }, (_, epoch) => pickTemplate(templates, seed, fingerprint, epoch)),
    );
  const drawn = draw(1);
  for (const row of drawn) assert.equal(row.filter((t) => t === undefined).length, 10);
  for (let epoch = 0; epoch < 20; epoch++) {
    assert.equal(drawn.filter((row) => row[epoch] === undefined).length, 32);
  }
  assert.equal(new Set(drawn.flat()).size, 11);
  assert.ok(new Set(drawn[0]).size > 3 && new Set(drawn.map((row) => row[1])).size > 5);
  assert.deepEqual(draw(1), drawn);
  assert.notDeepEqual(draw(2), drawn);
});

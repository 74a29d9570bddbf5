/** A model that takes text: what it says is what the engine says of the same token ids. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Model } from "../../../pipeline/model/model.ts";
import { ChatTemplateError } from "../../../pipeline/prompts/chat_template.ts";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";
import { TokenizerError } from "../../../pipeline/tokenizer/errors.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();
const TEXTS = ["the young girl", "the sun was setting over", ""];

Deno.test("a text is encoded with the tokenizer's prefix, continued as its ids are, and decoded", async () => {
  using tiny = await TinyModel.create();
  using model = await Model.load(gpu, tiny.model);
  const tokenizer = await Tokenizer.load(tiny.model);
  const prompts = TEXTS.map((text) => [...tokenizer.prefixIds, ...tokenizer.encode(text)]);
  assert.equal(tokenizer.prefixIds.length, 1);
  assert.deepEqual(await model.encode(TEXTS), prompts);
  const options = { maxNewTokens: 6, temperature: 0.9, seed: 3, stop: [] };
  const ids = await model.generate(prompts, options);
  const texts: string[] = await model.generate(TEXTS, options);
  assert.deepEqual(texts, ids.map((each) => tokenizer.decode(each)));
  assert.ok(ids.every(({ length }) => length === 6) && new Set(texts).size === 3);

  const probabilities = await model.nextTokenProbabilities(TEXTS);
  assert.deepEqual(probabilities, await model.nextTokenProbabilities(prompts));
  assert.deepEqual(await model.generate([], options), []);
  const mixed = ["the", [1]] as unknown as string[];
  await assert.rejects(model.generate(mixed, options), {
    name: "TypeError",
    message: "expected prompts of one kind, found 1 texts among 2",
  });
});

Deno.test("a text may be a user's message in the folder's chat template", async () => {
  using tiny = await TinyModel.create();
  using model = await Model.load(gpu, tiny.model);
  const chat = { useChatTemplate: true };
  await assert.rejects(model.encode(["the sun"], chat), ChatTemplateError);
  await Deno.writeTextFile(
    join(tiny.model, "chat_template.jinja"),
    "{{ bos_token }}{% for m in messages %}said: {{ m.content }} answered: {% endfor %}",
  );
  const tokenizer = await model.tokenizer();
  const asked = [[...tokenizer.prefixIds, ...tokenizer.encode("said: the sun answered: ")]];
  assert.deepEqual(await model.encode(["the sun"], chat), asked);
  const [ids] = await model.generate(asked, { maxNewTokens: 4, stop: [] });
  const found = await model.generate(["the sun"], { maxNewTokens: 4, stop: [], ...chat });
  assert.deepEqual(found, [tokenizer.decode(ids!)]);
  assert.deepEqual(
    await model.nextTokenProbabilities(["the sun"], chat),
    await model.nextTokenProbabilities(asked),
  );
});

Deno.test("token ids need no tokenizer: its files are read when a text comes", async () => {
  using tiny = await TinyModel.create();
  await Deno.remove(join(tiny.model, "tokenizer.json"));
  using model = await Model.load(gpu, tiny.model);
  const [ids] = await model.generate([[1, 2, 3]], { maxNewTokens: 2, stop: [] });
  assert.equal(ids!.length, 2);
  await assert.rejects(model.generate(["the"], { maxNewTokens: 2 }), TokenizerError);
});

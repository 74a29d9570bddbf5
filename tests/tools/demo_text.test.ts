import assert from "node:assert/strict";
import { Draw, hashText } from "../../tools/demo_model/draw.ts";
import { factQuestions, facts, phrasings } from "../../tools/demo_model/facts.ts";
import { isHeldOut, story } from "../../tools/demo_model/grammar.ts";

Deno.test("a story is a function of its draw alone", () => {
  assert.deepEqual(story(new Draw(3, 1, 4), "train"), story(new Draw(3, 1, 4), "train"));
  assert.notDeepEqual(story(new Draw(3, 1, 4), "train"), story(new Draw(3, 1, 5), "train"));
});

Deno.test("a story has three to eight sentences of 4 to 20 words", () => {
  const lengths = new Set<number>();
  for (let i = 0; i < 500; i++) {
    const sentences = story(new Draw(11, 0, i), "train");
    lengths.add(sentences.length);
    for (const sentence of sentences) {
      const words = sentence.split(" ").length;
      assert.ok(words >= 4 && words <= 20, sentence);
      assert.match(sentence, /^[A-Z][a-z]*,?( [A-Za-z]+,?)* [A-Za-z]+\.$/, sentence);
      assert.doesNotMatch(sentence, /\ba [aeiou]|\ban [^aeiou]/i, sentence);
    }
  }
  assert.deepEqual([...lengths].sort(), [3, 4, 5, 6, 7, 8]);
});

Deno.test("held-out and training sentences lie on either side of the hash", () => {
  const train = new Set<string>(), heldOut = new Set<string>();
  for (let i = 0; i < 2000; i++) story(new Draw(1, 0, i), "train").forEach((s) => train.add(s));
  for (let i = 0; i < 500; i++) story(new Draw(1, 0, i), "held-out").forEach((s) => heldOut.add(s));
  assert.ok([...train].every((s) => !isHeldOut(s)));
  assert.ok([...heldOut].every(isHeldOut));
  assert.ok(heldOut.isDisjointFrom(train));
});

Deno.test("the hash of a text spreads over its low bits", () => {
  const counts = new Array(16).fill(0);
  for (let i = 0; i < 16000; i++) counts[hashText(`sentence ${i}`) % 16]++;
  for (const count of counts) assert.ok(Math.abs(count - 1000) < 200, String(counts));
});

Deno.test("facts are unique in relation and subject, the same every time, and phrased consistently", () => {
  const all = facts();
  assert.equal(all.length, 312);
  assert.deepEqual(all, facts());
  assert.equal(new Set(all.map((f) => `${f.relation} ${f.subject}`)).size, all.length);
  const seen = new Map<string, string>();
  for (const fact of all) {
    const sentences = phrasings(fact);
    assert.equal(new Set(sentences).size, 3);
    for (const text of sentences) {
      assert.equal(seen.get(text), undefined, text);
      seen.set(text, fact.value);
      for (const word of [fact.subject, fact.value]) {
        assert.ok(text.toLowerCase().includes(word.toLowerCase()), text);
      }
    }
  }
  const capitals = all.filter((f) => f.relation === "capital").map((f) => f.value);
  assert.equal(new Set(capitals).size, capitals.length);
});

Deno.test("every fact question has exactly one choice that is a true sentence", () => {
  const truths = new Set(facts().flatMap(phrasings));
  const questions = factQuestions();
  assert.equal(questions.length, 312);
  assert.deepEqual(questions, factQuestions());
  for (const { prompt, choices, answer } of questions) {
    assert.equal(choices.length, 4);
    assert.equal(new Set(choices).size, 4);
    const right = choices.flatMap((choice, i) => truths.has(prompt + choice) ? [i] : []);
    assert.deepEqual(right, [answer], prompt);
  }
});

Deno.test("a constant or position-bound answer to the fact questions scores near chance", () => {
  const questions = factQuestions();
  for (let i = 0; i < 4; i++) {
    const share = questions.filter((q) => q.answer === i).length / questions.length;
    assert.ok(share > 0.15 && share < 0.35, `answer ${i}: ${share}`);
  }
  const perValue = new Map<string, number>();
  for (const { relation, value } of facts()) {
    perValue.set(`${relation} ${value}`, (perValue.get(`${relation} ${value}`) ?? 0) + 1);
  }
  assert.ok(Math.max(...perValue.values()) <= 5);
});

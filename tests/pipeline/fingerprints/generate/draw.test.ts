import assert from "node:assert/strict";
import { drawCommitment, drawIndex, drawResponses } from "../../../../pipeline/fingerprints/generate/draw.ts";
import { Secret } from "../../../../pipeline/fingerprints/generate/secret.ts";

const drawKey = new Uint8Array(32).map((_, i) => i);

/** HMAC-SHA256 by the platform's other implementation, as the documentation has the message. */
async function hmacIndex(ids: number[], draw: number, repetition: number): Promise<number> {
  const label = new TextEncoder().encode("whorl perinucleus draw 1\0");
  const words = Uint32Array.of(draw, repetition, ids.length, ...ids);
  const message = new Uint8Array([...label, ...new Uint8Array(words.buffer)]);
  const key = await crypto.subtle.importKey("raw", drawKey, { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
  ]);
  const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", key, message));
  return bytes.slice(0, 6).reduceRight((sum, byte) => sum * 256 + byte, 0);
}

Deno.test("draw: HMAC-SHA256 of the key's ids, reproducible by others", async () => {
  for (const ids of [[], [0], [1, 2, 3], [128_255, 70_000, 5], [...Array(64).keys()]]) {
    for (const draw of [0, 3]) {
      const value = await hmacIndex(ids, draw, 0);
      for (const n of [1, 2, 3, 1000]) assert.equal(drawIndex(drawKey, ids, draw, n), value % n);
    }
  }
  assert.throws(() => drawIndex(drawKey, [1], 0, 0), /RangeError: draw: n must be/);
});

Deno.test("draw: uniform over the candidates, 100,000 keys", () => {
  const { drawKey } = Secret.ofSeed(1);
  // 99.9 % quantiles of chi-square with n − 1 degrees of freedom.
  for (const [n, bound] of [[2, 10.83], [3, 13.82], [7, 22.46]]) {
    const counts = new Array(n).fill(0);
    const draws = 100_000;
    for (let i = 0; i < draws; i++) counts[drawIndex(drawKey, [i % 317, Math.floor(i / 317), 9], 0, n)]++;
    const chi = counts.reduce((sum, count) => sum + (count - draws / n) ** 2 / (draws / n), 0);
    assert.ok(chi < bound, `${counts}: chi-square ${chi} of ${n}`);
  }
});

Deno.test("draw: several responses of a key are different, each order as likely as another", () => {
  const seen = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const drawn = drawResponses(drawKey, [i, 5], [11, 22, 33], 2);
    assert.notEqual(drawn[0], drawn[1]);
    seen.set(`${drawn}`, (seen.get(`${drawn}`) ?? 0) + 1);
  }
  assert.equal(seen.size, 6);
  const chi = [...seen.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assert.ok(chi < 20.52, `${[...seen]}: chi-square ${chi}`);
  assert.deepEqual(drawResponses(drawKey, [1], [4, 5, 6], 3).sort(), [4, 5, 6]);
  // The first doesn't depend on how many are drawn.
  assert.deepEqual(
    drawResponses(drawKey, [8], [4, 5, 6], 3)[0],
    drawResponses(drawKey, [8], [4, 5, 6], 1)[0],
  );
  assert.throws(
    () => drawResponses(drawKey, [1], [4], 2),
    /RangeError: draw: 2 different responses wanted of 1/,
  );
});

Deno.test("draw: another secret draws otherwise, and its commitment binds", () => {
  const [a, b] = [Secret.ofSeed(1), Secret.ofSeed(2)];
  const draws = (secret: Secret) =>
    Array.from({ length: 64 }, (_, i) => drawIndex(secret.drawKey, [i], 0, 3)).join();
  assert.notEqual(draws(a), draws(b));
  assert.equal(draws(a), draws(Secret.ofSeed(1)));
  assert.equal(a.commitment, drawCommitment(a.drawKey));
  assert.match(a.commitment, /^[0-9a-f]{64}$/);
  assert.notEqual(a.commitment, b.commitment);
});

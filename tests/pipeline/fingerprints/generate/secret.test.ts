import assert from "node:assert/strict";
import { join } from "node:path";
import { GenerateFileError } from "../../../../pipeline/fingerprints/generate/errors.ts";
import { openSecret, Secret } from "../../../../pipeline/fingerprints/generate/secret.ts";

const dir = Deno.makeTempDirSync({ prefix: "whorl_secret_" });
Deno.test.afterAll(() => Deno.removeSync(dir, { recursive: true }));

Deno.test("secret: made once, for its owner only, and found again", async () => {
  const path = join(dir, "a.json.secret");
  const made = await openSecret(path, null, false);
  assert.equal(made.bytes.length, 32);
  if (Deno.build.os !== "windows") assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
  const found = await openSecret(path, null, false);
  assert.deepEqual([found.bytes, found.commitment], [made.bytes, made.commitment]);
  const other = await openSecret(join(dir, "b.json.secret"), null, false);
  assert.notDeepEqual(other.bytes, made.bytes);
  const file = JSON.parse(Deno.readTextFileSync(path));
  assert.deepEqual([file.draw_key, file.draw_commitment], [made.drawKey.toHex(), made.commitment]);
});

Deno.test("secret: a seed gives the same everywhere, its streams are apart", async () => {
  const path = join(dir, "seed.secret");
  const made = await openSecret(path, 7, false);
  assert.deepEqual(made.bytes, Secret.ofSeed(7).bytes);
  assert.notEqual(made.bytes.toHex(), Secret.ofSeed(8).bytes.toHex());
  const streams = ["key words", "key texts", "x"].map((purpose) => made.stream(purpose));
  assert.equal(new Set(streams).size, 3);
  assert.ok(streams.every(Number.isSafeInteger), `${streams}`);
  assert.equal(made.stream("x"), Secret.ofSeed(7).stream("x"));
});

Deno.test("secret: another one is refused, with force put aside and never lost", async () => {
  const path = join(dir, "c.json.secret");
  const random = await openSecret(path, null, false);
  await assert.rejects(openSecret(path, 3, false), (error) => {
    assert.ok(error instanceof GenerateFileError);
    assert.match(error.message, /made without a seed, this run is with the seed 3: --force puts it aside$/);
    return true;
  });
  assert.deepEqual((await openSecret(path, 3, true)).bytes, Secret.ofSeed(3).bytes);
  const aside = JSON.parse(Deno.readTextFileSync(`${path}.${random.commitment.slice(0, 16)}`));
  assert.equal(aside.secret, random.bytes.toHex());
  // A seed's is made again from the seed.
  assert.deepEqual((await openSecret(path, 4, true)).bytes, Secret.ofSeed(4).bytes);
  assert.deepEqual(
    Array.from(Deno.readDirSync(dir)).filter(({ name }) => name.startsWith("c.json")).length,
    2,
  );
});

Deno.test("secret: a file that holds none is refused, nothing of it is shown", async () => {
  const path = join(dir, "broken.secret");
  const hidden = "abcdef0123456789";
  const cases: [string, RegExp][] = [
    ["", /found an empty file$/],
    ["{}", /in hex: expected number \(line 1 column 1\)$/],
    [`{"seed":null,"secret":"${hidden}"}`, /in hex: expected another value \(line 1 column 23\)$/],
    [`{"seed":null,"secret":"${"0g".repeat(32)}"}`, /expected another value \(line 1 column 23\)$/],
    [`{"seed":"${hidden}","secret":"${"00".repeat(32)}"}`, /expected number \(line 1 column 9\)$/],
    [`{"seed":null,\n"secret":"${hidden}`, /not valid JSON: .* at line 2, column 10 \(position 23\)/],
  ];
  for (const [text, message] of cases) {
    Deno.writeTextFileSync(path, text);
    await assert.rejects(openSecret(path, null, true), (error) => {
      assert.ok(error instanceof GenerateFileError, String(error));
      assert.match(error.message, /broken\.secret: expected a secret of fingerprints/);
      assert.match(error.message, message);
      assert.ok(!Deno.inspect(error).includes(hidden), Deno.inspect(error));
      return true;
    });
  }
});

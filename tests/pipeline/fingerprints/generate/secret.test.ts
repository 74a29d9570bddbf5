import assert from "node:assert/strict";
import { join } from "node:path";
import { GenerateFileError } from "../../../../pipeline/fingerprints/generate/errors.ts";
import {
  openSecret,
  readSecret,
  Secret,
  writeSecret,
} from "../../../../pipeline/fingerprints/generate/secret.ts";

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
    Deno.writeTextFileSync(path, text, { mode: 0o600 });
    await assert.rejects(openSecret(path, null, true), (error) => {
      assert.ok(error instanceof GenerateFileError, String(error));
      assert.match(error.message, /broken\.secret: expected a secret of fingerprints/);
      assert.match(error.message, message);
      assert.ok(!Deno.inspect(error).includes(hidden), Deno.inspect(error));
      return true;
    });
  }
});

/** Every way to change one character of a JSON file's values, a few of each field. */
function* changed(text: string): Generator<[string, string]> {
  for (const match of text.matchAll(/"(\w+)": (?:"([0-9a-f]{64})"|(\d+))/g)) {
    const value = match[2] ?? match[3];
    const from = match.index + match[0].indexOf(": ") + (match[2] ? 3 : 2);
    for (const at of value.length > 1 ? [0, 1, 31, 62, 63] : [0]) {
      for (const digit of ["0", "5", "f"]) {
        if (value[at] === digit || (!match[2] && digit === "f")) continue;
        yield [match[1], text.slice(0, from + at) + digit + text.slice(from + at + 1)];
      }
    }
  }
}

Deno.test("secret: parts that contradict each other are refused by the field's name, and nothing is written", async () => {
  for (const seed of [null, 7]) {
    const path = join(dir, `damaged_${seed}.secret`);
    const secret = seed === null ? Secret.random() : Secret.ofSeed(seed);
    const root = "0a".repeat(32);
    await writeSecret(path, secret, root);
    const text = Deno.readTextFileSync(path);
    assert.deepEqual((await readSecret(path))?.setCommitment, root);
    let count = 0;
    const refused = async (content: string, expected: RegExp) => {
      Deno.writeTextFileSync(path, content);
      for (const force of [false, true]) {
        await assert.rejects(openSecret(path, seed, force), (error) => {
          assert.ok(error instanceof GenerateFileError);
          assert.match(error.message, expected);
          assert.ok(!error.message.includes(secret.bytes.toHex()));
          return true;
        });
      }
      assert.equal(Deno.readTextFileSync(path), content);
      count++;
    };
    for (const [field, content] of changed(text)) {
      await refused(content, new RegExp(`this secret is damaged: field .*"${field}"`));
    }
    assert.ok(count > 60, `${count}`);
    const lines = text.split("\n");
    for (let at = 1; at < lines.length - 2; at++) {
      // A line left out; the one before the end takes its comma along.
      const rest = lines.toSpliced(at, 1).join("\n").replace(/,\n}/, "\n}");
      const field = /"(\w+)"/.exec(lines[at])![1];
      await refused(
        rest,
        field === "set_commitment"
          ? /damaged: field .*"set_commitment"/
          : /secret of fingerprints|"checksum"/,
      );
    }
    await refused(text.replace("secret", "sekret"), /expected a secret of fingerprints/);
    // Parts of another secret that agree with each other don't agree with what is left.
    const other = Secret.random();
    await refused(text.replace(secret.bytes.toHex(), other.bytes.toHex()), /field "secret" doesn't give/);
    await refused(text.replace(secret.drawKey.toHex(), other.drawKey.toHex()), /field "draw_key"/);
    await refused(text.replace(secret.commitment, other.commitment), /field "draw_commitment"/);
    await refused(
      seed === null ? text.replace("null", "7") : text.replace('"seed": 7', '"seed": null'),
      /field "seed"/,
    );
  }
});

Deno.test("secret: one of version 0.1, without a checksum, is read", async () => {
  const path = join(dir, "old.secret");
  const secret = Secret.random();
  const content = {
    seed: null,
    secret: secret.bytes.toHex(),
    draw_key: secret.drawKey.toHex(),
    draw_commitment: secret.commitment,
  };
  Deno.writeTextFileSync(path, JSON.stringify(content, null, 2), { mode: 0o600 });
  assert.deepEqual((await openSecret(path, null, false)).bytes, secret.bytes);
});

Deno.test(
  "secret: readable by others or a link it is refused",
  { ignore: Deno.build.os === "windows" },
  async () => {
    const path = join(dir, "open it's.secret");
    await openSecret(path, 5, false);
    for (const mode of [0o644, 0o640, 0o604, 0o620, 0o666]) {
      Deno.chmodSync(path, mode);
      await assert.rejects(openSecret(path, 5, true), (error) => {
        assert.ok(error instanceof GenerateFileError);
        assert.match(
          error.message,
          new RegExp(
            `only its owner can read, found mode 0${mode.toString(8)}: .*chmod 600 '.*it'\\\\''s.secret'$`,
          ),
        );
        return true;
      });
      assert.equal(Deno.statSync(path).mode! & 0o777, mode);
    }
    // A file system without modes shows programs everywhere.
    Deno.chmodSync(path, 0o777);
    await openSecret(path, 5, false);
    Deno.chmodSync(path, 0o600);
    const before = Deno.readTextFileSync(path);
    const link = join(dir, "link.secret");
    for (const target of [path, join(dir, "nowhere")]) {
      Deno.symlinkSync(target, link);
      await assert.rejects(
        openSecret(link, 6, true),
        /link\.secret: expected a file of its own, found a link/,
      );
      Deno.removeSync(link);
    }
    assert.equal(Deno.readTextFileSync(path), before);
    assert.throws(() => Deno.statSync(join(dir, "nowhere")), Deno.errors.NotFound);
  },
);

import assert from "node:assert/strict";
import { join } from "node:path";
import { command, flags, names, whorl } from "./command.ts";

const dir = Deno.makeTempDirSync({ prefix: "whorl_generate_" });
Deno.test.afterAll(() => Deno.removeSync(dir, { recursive: true }));

const isWindows = Deno.build.os === "windows";
const isLinux = Deno.build.os === "linux";

type Values = Record<string, string | number | true>;

/** Flags of a run on the demo model that takes seconds, with a dozen batches. */
function settings(name: string, values: Values = {}): string[] {
  const small = { num_fingerprints: 48, key_length: 8, batch_size: 4, seed: 5 };
  return ["generate", ...flags({ ...small, output_file: join(dir, name), ...values })];
}

/** Starts a run, sends a signal after its third batch, and waits for its end. */
async function stopped(args: string[], signal: Deno.Signal): Promise<{ code: number; err: string }> {
  const child = command(args).spawn();
  const err = new Response(child.stderr).text();
  let out = "";
  let sent = false;
  // Read to the end: a full pipe would stop the run.
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += piece;
    if (sent || (out.match(/^\d+ of 48 fingerprints/mg)?.length ?? 0) < 3) continue;
    child.kill(signal);
    sent = true;
  }
  return { code: (await child.status).code, err: await err };
}

const bytes = (name: string) => Deno.readTextFileSync(join(dir, name));

Deno.test("killed and run again, it gives the bytes of an unbroken run", { ignore: isWindows }, async () => {
  const whole = await whorl(settings("whole.json"));
  assert.deepEqual([whole.code, whole.err], [0, ""]);
  assert.match(whole.out, /^fingerprints: 48 of 48, from \d+ attempts$/m);
  assert.match(whole.out, /^fingerprints \(keep secret\): .*whole\.json$/m);
  assert.doesNotMatch(whole.out, /going on/);
  assert.match(whole.out, /^commitment to the set: [0-9a-f]{64}$/m);
  assert.match(whole.out, /^commitment \(to publish early\): .*whole\.json\.commitment\.json$/m);
  assert.deepEqual(names(dir), ["whole.json", "whole.json.commitment.json", "whole.json.secret"]);

  await stopped(settings("killed.json"), "SIGKILL");
  assert.deepEqual(names(dir).filter((name) => name.startsWith("killed")), [
    ...["killed.json.partial", "killed.json.secret"],
  ]);
  // A line that the kill cut in two.
  const journal = join(dir, "killed.json.partial");
  Deno.writeTextFileSync(journal, '{"outcomes":["","k', { append: true });
  const resumed = await whorl(settings("killed.json"));
  assert.deepEqual([resumed.code, resumed.err], [0, ""]);
  assert.match(resumed.out, /^going on after (8|12|16|2\d|3\d) fingerprints of a stopped run$/m);
  assert.equal(bytes("killed.json"), bytes("whole.json"));

  const interrupted = await stopped(settings("stopped.json"), "SIGINT");
  assert.equal(interrupted.code, 130);
  assert.match(interrupted.err, /^interrupted: the same command goes on where it was$/m);
  assert.equal((await whorl(settings("stopped.json", { batch_size: 16 }))).code, 0);
  assert.equal(bytes("stopped.json"), bytes("whole.json"));

  const again = await whorl(settings("whole.json"));
  assert.equal(again.code, 1);
  assert.match(again.err, /^error: .*whole\.json: this file is there already; --force replaces it\n$/);
});

Deno.test("the aliases of OML 1.0 are one flag; a short set says so and ends with 5", async () => {
  const keys = join(dir, "keys.json");
  Deno.writeTextFileSync(keys, JSON.stringify(["Every winter, the", "The fox sat", "The fox sat"]));
  const short = await whorl(settings("short.json", {
    keys_file: keys,
    nucleus_p: 0.5,
    key_response_strategy: "inverse_nucleus",
    num_fingerprints: 3,
  }));
  assert.equal(short.code, 5);
  assert.match(
    short.err,
    /^error: only 2 of 3 fingerprints .* \(rejected: key: there already: 1\); they are in .*\n$/,
  );
  assert.match(short.out, /^fingerprints: 2 of 3, from 3 attempts$/m);
  assert.equal(JSON.parse(bytes("short.json")).length, 2);
  assert.equal(JSON.parse(bytes("short.json"))[0].strategy, "inverse_nucleus");
});

Deno.test("bad input is one line that says what was expected", async () => {
  const wrong = join(dir, "wrong_keys.json");
  Deno.writeTextFileSync(wrong, '["fine", 5]');
  const before = names(dir);
  const cases: [Values, number, RegExp][] = [
    [
      { fingerprint_generation_strategy: "englisch" },
      2,
      /'englisch' is invalid\. Allowed choices are english, random_word, english_random_response, .*perinucleus/,
    ],
    [{ key_response_strategy: "random" }, 2, /'random' is invalid\. Allowed choices are independent, /],
    [{ nucleus_k: 0 }, 2, /^error: nucleus_k: .*>=1\n$/],
    [{ nucleus_t: 1 }, 2, /^error: nucleus_t: .*<1\n$/],
    [{ nucleus_p: -1 }, 2, /^error: nucleus_t: .*>=0\n$/],
    [
      { keys_path: wrong },
      1,
      /^error: .*wrong_keys\.json: entry 1 \(counted from 0\): expected a key \(a string\) .*a number\n$/,
    ],
    [
      { keys_path: join(dir, "none.json") },
      1,
      /^error: .*none\.json: cannot read .* there is no such file\n$/,
    ],
    [{ use_chat_template: true }, 1, /^error: this model has no chat template: /],
    [{ model_path: "no/such/model" }, 2, /^error: model_path: no such folder: /],
    [{ output_file: join(wrong, "x.json") }, 4, /^error: cannot write .*x\.json: /],
    ...(isLinux
      ? [[{ output_file: "/proc/x.json" }, 4, /^error: cannot write \/proc\/x\.json/]] as [
        Values,
        number,
        RegExp,
      ][]
      : []),
  ];
  for (const [values, exitCode, expected] of cases) {
    const { code, err } = await whorl(settings("bad.json", values));
    assert.match(err, expected);
    assert.equal(code, exitCode, err);
  }
  assert.deepEqual(names(dir), before);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { command, flags, names, type RunOptions, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

let tiny: TinyModel;
let results: string;

Deno.test.beforeAll(async () => {
  tiny = await TinyModel.create();
  results = tiny.path("results");
});
Deno.test.afterAll(() => tiny[Symbol.dispose]());

const isLinux = Deno.build.os === "linux";
const isWindows = Deno.build.os === "windows";

type Values = Record<string, string | number | true>;

/** Flags of a run without an anchor, which is the fastest. */
function settings(values: Values): string[] {
  const where = { model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, output_dir: results };
  return ["finetune", ...flags({ ...where, anchor_strength: 0, ...values })];
}

/** Runs finetune, which must fail with one line and leave nothing. */
async function refused(
  code: number,
  values: Values,
  expected: RegExp,
  options: RunOptions = {},
): Promise<string> {
  const { code: found, out, err } = await whorl(settings(values), options);
  assert.match(err, expected);
  assert.equal(found, code, err);
  assert.doesNotMatch(out, /embedded/);
  assert.deepEqual(names(results), []);
  return out;
}

Deno.test("without an adapter it says what to install", { ignore: !isLinux }, async () => {
  const env = {
    VK_DRIVER_FILES: "/nonexistent",
    VK_ICD_FILENAMES: "/nonexistent",
    DENO_WEBGPU_BACKEND: "vulkan",
  };
  const none =
    /^error: no GPU adapter was found\. On Linux, Whorl needs a Vulkan driver: .*mesa-vulkan-drivers/m;
  await refused(6, {}, none, { env });
  const asked = flags({ model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, json: true });
  const { code, out, err } = await whorl(["check", ...asked], { env });
  assert.equal(code, 6);
  const { type, name } = JSON.parse(out);
  assert.deepEqual([type, name], ["error", "GpuUnavailableError"]);
  assert.match(err, none);
});

Deno.test("a run that needs more than --max_memory is refused with the parts", async () => {
  const expected =
    /^error: training needs at least 0\.00\d GiB, but may take 0\.000 GiB: weights .* GiB\. What would help: .*, or a smaller model$/m;
  assert.doesNotMatch(await refused(4, { max_memory: 1e-4 }, expected), /^measuring/m);
});

Deno.test("a loss that becomes NaN stops the run, naming the step", async () => {
  const out = await refused(
    5,
    { learning_rate: 1e30, num_train_epochs: 5 },
    /^error: step [2-5] of 5: the loss is .*NaN.*\. Nothing was saved; a lower learning rate than 1e\+30 may help$/m,
  );
  assert.doesNotMatch(out, /^saving/m);
});

Deno.test("a results folder that can't be made is refused before training", async () => {
  for (const output_dir of [join(tiny.fingerprints, "x"), ...(isLinux ? ["/proc/x"] : [])]) {
    const out = await refused(4, { output_dir }, /^error: the results folder .*x can't be written: /m);
    assert.doesNotMatch(out, /^(measuring|training)/m);
  }
});

Deno.test(
  "a disk that fills up while saving: what could be saved is kept and named, or all of it elsewhere",
  {
    ignore: isWindows,
  },
  async () => {
    // A tensor that no kernel reads makes the file exceed the limit; Deno's own cache and Mesa's stay below it.
    const model_path = tiny.path("big");
    await tiny.writeModel(model_path, {}, undefined, { "unused.weight": 72 << 20 });
    const values = { model_path, num_train_epochs: 1 };
    const output_dir = tiny.path("full");
    const { code, out, err } = await whorl(settings({ ...values, output_dir }), { fileBlocks: 64 << 10 });
    assert.equal(code, 4, err);
    assert.match(out, /^saving/m);
    assert.match(
      err,
      /^error: cannot write .*model\.safetensors: .* file size limit \(EFBIG; see ulimit -f\)\. /m,
    );
    const [kept, ...others] = names(output_dir);
    assert.match(kept, /^[0-9a-f]{16}\.incomplete$/);
    assert.deepEqual(others, []);
    assert.ok(err.includes(join(output_dir, kept)) && err.includes("--rescue_dir"));
    assert.deepEqual(names(join(output_dir, kept, "secret")), ["fingerprints.json"]);
    assert.ok(names(join(output_dir, kept)).includes("log.jsonl"));

    // The next run leaves alone what was kept, and --rescue_dir takes what output_dir doesn't: here it is no folder
    // any more by the time of saving.
    const mine = tiny.path("mine");
    const child = command(
      settings({ output_dir: mine, rescue_dir: tiny.path("rescue"), num_train_epochs: 30 }),
    ).spawn();
    const text = new Response(child.stderr).text();
    let printed = "";
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      if (!/^epoch/m.test(printed) && /^epoch/m.test(printed + piece)) {
        await Deno.remove(mine, { recursive: true });
        await Deno.writeTextFile(mine, "");
      }
      printed += piece;
    }
    assert.equal((await child.status).code, 0, await text);
    await text;
    assert.match(printed, /^warning: cannot write .*log\.jsonl: .*; the run goes on without it$/m);
    assert.match(printed, /^warning: cannot write .*; the results go to .*rescue\/[0-9a-f]{16}$/m);
    const [hash, ...more] = names(tiny.path("rescue"));
    assert.deepEqual(more, []);
    const saved = ["config.json", "final_model", "log.jsonl", "secret"];
    assert.deepEqual(names(tiny.path("rescue", hash)), saved);
    assert.equal(
      (await Deno.readTextFile(tiny.path("rescue", hash, "log.jsonl"))).trim().split("\n").length,
      30,
    );
  },
);

/** Starts a run that would take hours, sends the signal in its first epochs, and waits for its end. */
async function stopped(signal: Deno.Signal, values: Values = {}): Promise<{ code: number; err: string }> {
  const child = command(settings({ num_train_epochs: 1_000_000, ...values })).spawn();
  const err = new Response(child.stderr).text();
  let out = "";
  let sent = false;
  // Read to the end: a full pipe would stop the run.
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += piece;
    if (sent || !/^epoch/m.test(out)) continue;
    child.kill(signal);
    sent = true;
  }
  return { code: (await child.status).code, err: await err };
}

Deno.test("Ctrl-C, termination and a kill leave nothing half-written", { ignore: isWindows }, async () => {
  const interrupted = await stopped("SIGINT");
  assert.equal(interrupted.code, 130);
  assert.match(interrupted.err, /^interrupted: nothing was saved$/m);
  assert.deepEqual(names(results), []);

  // What a killed run can't remove tells a part from a result by its name, and the next run removes it.
  await stopped("SIGKILL");
  const [lock, partial, ...others] = names(results);
  assert.match(partial, /^\.[0-9a-f]{16}\.partial$/);
  assert.deepEqual([lock, ...others], [partial.replace("partial", "lock")]);
  assert.ok(names(join(results, partial)).every((name) => name.includes("log.jsonl")));

  // Earlier results of the same configuration outlive an interrupted repetition.
  const earlier = join(results, partial.slice(1, 17));
  await Deno.mkdir(earlier);
  await Deno.writeTextFile(join(earlier, "mark"), "");
  const terminated = await stopped("SIGTERM", { force: true });
  assert.equal(terminated.code, 143);
  assert.match(terminated.err, /^interrupted: nothing was saved$/m);
  assert.deepEqual(names(results), [partial.slice(1, 17)]);
  assert.deepEqual(names(earlier), ["mark"]);

  const hungUp = await stopped("SIGHUP", { seed: 2 });
  assert.equal(hungUp.code, 129);
  assert.match(hungUp.err, /^interrupted: nothing was saved$/m);
  assert.deepEqual(names(results), [partial.slice(1, 17)]);
});

/** What would never end: files that are none, and work that Ctrl-C has to end. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { command, type Finished, flags, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

const isWindows = Deno.build.os === "windows";
/** Far more than anything here takes: a limit for what hangs. */
const LIMIT_MS = 120_000;

let tiny: TinyModel;

Deno.test.beforeAll(async () => {
  tiny = await TinyModel.create();
});
Deno.test.afterAll(() => tiny[Symbol.dispose]());

async function folder(name: string): Promise<string> {
  const path = tiny.path(name);
  await tiny.writeModel(path);
  return path;
}

async function makeFifo(path: string): Promise<void> {
  await Deno.remove(path).catch(() => {});
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  assert.ok(success);
}

/** Runs a command, with a signal when it has had `signalAfterMs`. */
async function run(
  args: string[],
  signal?: Deno.Signal,
  signalAfterMs = 0,
): Promise<Finished & { seconds: number }> {
  const child = command(args).spawn();
  const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  let sent = performance.now();
  const sending = signal && setTimeout(() => {
    sent = performance.now();
    child.kill(signal);
  }, signalAfterMs);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(limit);
  clearTimeout(sending);
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: decode(stdout), err: decode(stderr), seconds: (performance.now() - sent) / 1000 };
}

const check = (model_path: string, more: Record<string, string | number | true> = {}) => [
  "check",
  ...flags({ model_path, fingerprints_file_path: tiny.fingerprints, ...more }),
];

Deno.test("a FIFO in place of a file is refused by name", { ignore: isWindows }, async () => {
  const inModel = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
  ];
  const model = await folder("fifo");
  for (const name of inModel) {
    const path = join(model, name);
    const before = await Deno.readFile(path).catch(() => undefined);
    await makeFifo(path);
    const { code, err } = await run(
      check(model, name === "chat_template.jinja" ? { use_chat_template: true } : {}),
    );
    assert.deepEqual([code, err.trim()], [1, `error: ${path}: expected a regular file, found a FIFO`]);
    await Deno.remove(path);
    if (before) await Deno.writeFile(path, before);
  }
  const output = tiny.path("made.json");
  for (const beside of [".secret", ".partial"]) {
    await makeFifo(output + beside);
    const args = [
      "generate",
      ...flags({ model_path: tiny.model, num_fingerprints: 2, output_file_path: output }),
    ];
    const { code, err } = await run(args);
    assert.equal(code, 1, err);
    assert.ok(
      err.includes(`${output}${beside}: `) && err.includes("expected a regular file, found a FIFO"),
      err,
    );
    // It is somebody's.
    assert.ok((await Deno.lstat(output + beside)).isFifo);
    await Deno.remove(output + beside);
  }
});

Deno.test("a device in place of a file is refused by name", { ignore: isWindows }, async () => {
  const model = await folder("device");
  const path = join(model, "tokenizer.json");
  await Deno.remove(path);
  await Deno.symlink("/dev/zero", path);
  const { code, err } = await whorl(check(model));
  assert.equal(code, 1);
  assert.match(err, /tokenizer\.json: expected a regular file, found a device or socket/);
});

/** A pattern that takes for ever, for a key that no trial of patterns thinks of. */
async function endless(): Promise<string[]> {
  const model = await folder("endless");
  const path = join(model, "tokenizer.json");
  const json = JSON.parse(await Deno.readTextFile(path));
  const split = { type: "Split", pattern: { Regex: "(?:(?:qzj)+)+!" }, behavior: "Isolated", invert: false };
  json.pre_tokenizer = { type: "Sequence", pretokenizers: [split, json.pre_tokenizer] };
  await Deno.writeTextFile(path, JSON.stringify(json));
  const file = tiny.path("endless.json");
  await Deno.writeTextFile(file, JSON.stringify([{ key: "qzj".repeat(60), response: " the" }]));
  return check(model, { fingerprints_file_path: file });
}

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  Deno.test(`${signal} ends what a regular expression keeps busy`, { ignore: isWindows }, async () => {
    const ended = await run(await endless(), signal, 6000);
    assert.deepEqual([ended.code, ended.err.trim()], [code, "interrupted: nothing was saved"]);
    assert.ok(ended.seconds < 30, `${ended.seconds} s`);
  });
}

Deno.test("a template with too many turns, and sizes of no model, are refused", async () => {
  const model = await folder("large");
  const loops = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
  await Deno.writeTextFile(join(model, "chat_template.jinja"), `${loops}{{ messages[0].content }}`);
  const turns = await run(check(model, { use_chat_template: true }));
  assert.equal(turns.code, 1);
  assert.match(
    turns.err,
    /^error: .*chat_template\.jinja: cannot render the chat template: it takes more steps/,
  );
  for (
    const [field, value] of [["num_hidden_layers", 1e15], ["head_dim", 1e15], ["vocab_size", 1e9]] as const
  ) {
    await tiny.writeModel(model, { [field]: value });
    const { code, err } = await run(check(model));
    assert.equal(code, 1);
    assert.match(err, new RegExp(`^error: config\\.json: "${field}" is .*, expected at most \\d+$`, "m"));
    assert.doesNotMatch(err, /\n {4}at /);
  }
});

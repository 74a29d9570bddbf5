import assert from "node:assert/strict";
import { join } from "node:path";
import { command, flags, names, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

const isLinux = Deno.build.os === "linux";
const isWindows = Deno.build.os === "windows";

type Values = Record<string, string | number | true>;

function settings(tiny: TinyModel, values: Values = {}): string[] {
  const where = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
  };
  return ["finetune", ...flags({ ...where, anchor_strength: 0, num_train_epochs: 2, ...values })];
}

/** Runs a command and calls `act` once it has printed a line of this form. */
async function during(args: string[], form: RegExp, act: (child: Deno.ChildProcess) => void | Promise<void>) {
  const child = command(args).spawn();
  const err = new Response(child.stderr).text();
  let out = "";
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    const before = form.test(out);
    out += piece;
    if (!before && form.test(out)) await act(child);
  }
  return { code: (await child.status).code, out, err: await err };
}

Deno.test(
  "no secret in the model's folder is published, and each is named",
  { ignore: isWindows },
  async () => {
    using tiny = await TinyModel.create();
    const path = join(tiny.model, "fingerprints.json");
    const made = await whorl([
      "generate",
      ...flags({ model_path: tiny.model, num_fingerprints: 8, output_file: path }),
    ]);
    assert.equal(made.code, 0, made.err);
    const secret = await Deno.readTextFile(path);
    await Deno.writeTextFile(join(tiny.model, "README.md"), "a model");
    // Under names that belong to a model, too.
    await Deno.writeTextFile(join(tiny.model, "vocab.json"), secret);
    await Deno.writeTextFile(join(tiny.model, "LICENSE"), secret.slice(0, 300));
    await Deno.writeTextFile(join(tiny.model, "NOTICE"), "mine", { mode: 0o600 });
    await Deno.writeTextFile(tiny.path("id_rsa"), "private key");
    await Deno.symlink(tiny.path("id_rsa"), join(tiny.model, "USE_POLICY.md"));
    await Deno.symlink(tiny.path("id_rsa"), join(tiny.model, "notes.txt"));
    await Deno.writeTextFile(join(tiny.model, "adapter_config.json"), "{}");
    const { code, out, err } = await whorl(settings(tiny, { fingerprints_file_path: path }));
    assert.equal(code, 0, err);
    const [hash, ...others] = names(tiny.path("results"));
    assert.deepEqual(others, []);
    const model = tiny.path("results", hash, "final_model");
    const usual = ["config.json", "generation_config.json", "model.safetensors"];
    assert.deepEqual(names(model), ["README.md", ...usual, "tokenizer.json", "tokenizer_config.json"]);
    for (const name of names(model)) {
      assert.equal(
        Deno.statSync(join(model, name)).mode! & 0o777,
        0o666 & ~Deno.umask(),
      );
    }
    assert.match(
      out,
      /^ {2}LICENSE, fingerprints\.json, fingerprints\.json\.secret, vocab\.json \(it holds fingerprints\)$/m,
    );
    assert.match(out, /^ {2}USE_POLICY\.md, notes\.txt \(a link out of the model's folder\)$/m);
    assert.match(out, /^ {2}NOTICE \(private: only its owner may read it\)$/m);
    assert.match(out, /^ {2}adapter_config\.json \(an adapter's, which this model isn't\)$/m);
    const { left } = JSON.parse(await Deno.readTextFile(tiny.path("results", hash, "config.json")));
    // With the commitment, which is published apart.
    assert.equal(left.length, 9);
  },
);

Deno.test("a second run of the same says who makes the results, and the first is whole", async () => {
  using tiny = await TinyModel.create();
  let second = { code: -1, out: "", err: "" };
  let pid = 0;
  const first = await during(settings(tiny, { num_train_epochs: 40 }), /^epoch/m, async (child) => {
    pid = child.pid;
    second = await whorl(settings(tiny, { num_train_epochs: 40, force: true }));
  });
  assert.equal(first.code, 0, first.err);
  assert.equal(second.code, 7);
  assert.match(
    second.err,
    new RegExp(`^error: .* is being made by process ${pid} on .*, started \\d{4}-`, "m"),
  );
  assert.doesNotMatch(second.out, /^(measuring|training)/m);
  const [hash, ...others] = names(tiny.path("results"));
  assert.deepEqual(others, []);
  const parts = ["config.json", "final_model", "log.jsonl", "secret"];
  assert.deepEqual(names(tiny.path("results", hash)), parts);
});

Deno.test(
  "what a killed run leaves goes with the next run of any configuration",
  { ignore: isWindows },
  async () => {
    using tiny = await TinyModel.create();
    await during(
      settings(tiny, { num_train_epochs: 1_000_000 }),
      /^epoch/m,
      (child) => child.kill("SIGKILL"),
    );
    const [lock, partial] = names(tiny.path("results"));
    assert.deepEqual(
      [lock, partial].map((name) => name.slice(18)),
      ["lock", "partial"],
    );
    const { code, out, err } = await whorl(settings(tiny, { seed: 3 }));
    assert.equal(code, 0, err);
    assert.ok(out.includes(`removed what killed runs had left: ${tiny.path("results", partial)}\n`), out);
    assert.equal(names(tiny.path("results")).length, 1);
  },
);

Deno.test("a terminal that is full or gone ends no training", { ignore: !isLinux }, async () => {
  using tiny = await TinyModel.create();
  for (const [seed, sink] of [[1, "> /dev/full 2> /dev/full"], [2, "| true"]] as const) {
    const args = [...settings(tiny, { seed }).map((arg) => `'${arg}'`)];
    const cli = new URL("../../cli.ts", import.meta.url).pathname;
    const script = `set -o pipefail; ${Deno.execPath()} run -A --no-check ${cli} ${args.join(" ")} ${sink}`;
    const { code } = await new Deno.Command("bash", { args: ["-c", script], stdout: "null", stderr: "null" })
      .output();
    assert.equal(code, 0, sink);
    assert.equal(names(tiny.path("results")).length, seed);
  }
  const asked = `check --model_path ${tiny.model} --fingerprints_file_path ${tiny.fingerprints} > /dev/full`;
  const cli = new URL("../../cli.ts", import.meta.url).pathname;
  const run = new Deno.Command("bash", {
    args: ["-c", `${Deno.execPath()} run -A --no-check ${cli} ${asked}`],
  });
  const { code, stderr } = await run.output();
  assert.equal(code, 4);
  assert.match(new TextDecoder().decode(stderr), /^error: standard output takes no more/m);
});

Deno.test("a disk without room for the result is refused before training", { ignore: !isLinux }, async () => {
  using tiny = await TinyModel.create();
  const small = tiny.path("small");
  await Deno.mkdir(small);
  const mount = new Deno.Command("mount", {
    args: ["-t", "tmpfs", "-o", "size=64k", "tmpfs", small],
    stderr: "null",
  });
  if (!(await mount.output().catch(() => undefined))?.success) {
    console.log("skipped: only root can mount a small disk");
    return;
  }
  try {
    for (const where of ["output_dir", "rescue_dir"]) {
      const { code, out, err } = await whorl(settings(tiny, { [where]: join(small, "r") }));
      assert.equal(code, 4);
      const form =
        `^error: cannot write ${small}/r: the result needs [\\d.]+ KiB, and [\\d.]+ KiB are free \\(--${where} `;
      assert.match(err, new RegExp(form, "m"));
      assert.doesNotMatch(out, /^(measuring|training)/m);
    }
    assert.deepEqual(names(tiny.path("results")), []);
  } finally {
    await new Deno.Command("umount", { args: [small] }).output();
  }
});

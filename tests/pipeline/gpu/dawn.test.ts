import assert from "node:assert/strict";
import { GpuUnavailableError } from "../../../engine/gpu/errors.ts";
import { DAWN_PACKAGE, openDawn } from "../../../pipeline/gpu/dawn.ts";
import { openGpu } from "../../../pipeline/gpu/open.ts";
import { onDawn } from "../../gpu_device.ts";

const root = new URL("../../../", import.meta.url);

/** Runs a program that begins with an import of pipeline/gpu/dawn.ts. */
async function run(code: string, options: string[], env: Record<string, string> = {}) {
  const dawn = JSON.stringify(new URL("pipeline/gpu/dawn.ts", root).href);
  const program = `import { openDawn } from ${dawn};\n${code}`;
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(path, program);
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--no-lock", "--no-config", ...options, path],
      env: { NO_COLOR: "1", ...env },
    });
    const { code: status, stdout, stderr } = await command.output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { status, out: text(stdout), err: text(stderr) };
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("Dawn is fetched by nobody who doesn't ask for it: no import of deno.json or deno.lock names it", async () => {
  const [name] = DAWN_PACKAGE.slice("npm:".length).split("@");
  for (const file of ["deno.json", "deno.lock"]) {
    const text = await Deno.readTextFile(new URL(file, root));
    assert.ok(
      !new RegExp(`"(npm:)?${name}@`).test(text),
      `${file} has ${name}, which everybody would then fetch: git checkout ${file}`,
    );
  }
});

Deno.test("without the package --webgpu dawn says what is missing and how to get it", async () => {
  // A registry that answers nothing, whose packages nobody has cached.
  const { out } = await run(
    "await openDawn().catch(({ name, message }) => console.log(name, message));",
    ["--cached-only"],
    { NPM_CONFIG_REGISTRY: "http://127.0.0.1:9/" },
  );
  assert.match(
    out,
    /^GpuUnavailableError --webgpu dawn needs npm:webgpu@[\d.]+, which could not be loaded: /,
  );
  assert.match(out, /"deno cache --no-lock npm:webgpu@[\d.]+" fetches it/);
});

const dawnTest = (name: string, fn: () => Promise<void>) =>
  Deno.test({
    name: `dawn: ${name}${onDawn ? "" : " (set WHORL_TEST_WEBGPU=dawn)"}`,
    ignore: !onDawn,
    sanitizeOps: false,
    sanitizeResources: false,
    fn,
  });

dawnTest("no adapter is an error that says what was tried and what to do", async () => {
  await assert.rejects(openDawn({ backend: "opengl" }), (error: unknown) => {
    assert.ok(error instanceof GpuUnavailableError);
    assert.match(error.message, /found no adapter with its backend opengl\. .*Mesa 25/);
    return true;
  });
});

dawnTest("dispose gives the device back, once", async () => {
  const gpu = await openGpu({ webgpu: "dawn" });
  gpu.dispose();
  gpu.dispose();
  const { reason } = await gpu.device.lost;
  assert.equal(reason, "destroyed");
});

dawnTest("a process ends by itself, disposed or not", async () => {
  for (const end of ["gpu.dispose();", ""]) {
    const { status, out } = await run(
      `const gpu = await openDawn();\nawait gpu.flush();\n${end}\nconsole.log("done");`,
      [],
    );
    assert.deepEqual([status, out], [0, "done\n"]);
  }
});

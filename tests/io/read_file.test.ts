import assert from "node:assert/strict";
import { join } from "node:path";
import { readJson } from "../../engine/io/json.ts";
import { FileReadError, readBytes, readBytesIfThere } from "../../engine/io/read_file.ts";
import { Checkpoint } from "../../engine/io/safetensors.ts";

const isLinux = Deno.build.os === "linux";

async function withFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const refused = (path: string, reason: RegExp, maxBytes = 100) =>
  assert.rejects(readBytes(path, { maxBytes }), (error: Error) => {
    assert.ok(error instanceof FileReadError, String(error));
    assert.ok(error.message.startsWith(`${path}: `));
    assert.match(error.reason, reason);
    return true;
  });

Deno.test("readBytes: a file of at most so many bytes", () =>
  withFolder(async (dir) => {
    const path = join(dir, "a");
    for (const size of [0, 1, 99, 100]) {
      const bytes = Uint8Array.from({ length: size }, (_, i) => i);
      await Deno.writeFile(path, bytes);
      assert.deepEqual(await readBytes(path, { maxBytes: 100 }), bytes);
    }
    await Deno.writeFile(path, new Uint8Array(101));
    await refused(path, /^expected a file of at most 100 bytes, found 101$/);
    await refused(join(dir, "b"), /^cannot be read: there is no such file$/);
    assert.equal(await readBytesIfThere(join(dir, "b"), { maxBytes: 1 }), undefined);
    await refused(dir, /^expected a regular file, found a directory$/);
  }));

Deno.test(
  "readBytes: what isn't a regular file is refused without opening it",
  { ignore: !isLinux },
  () =>
    withFolder(async (dir) => {
      const fifo = join(dir, "fifo");
      await new Deno.Command("mkfifo", { args: [fifo] }).output();
      await Deno.symlink(fifo, join(dir, "link"));
      await refused(fifo, /^expected a regular file, found a FIFO$/);
      await refused(join(dir, "link"), /^expected a regular file, found a FIFO$/);
      await refused("/dev/zero", /^expected a regular file, found a device or socket$/);
      await assert.rejects(readJson("/dev/zero"), /expected a regular file/);
      await Deno.rename(fifo, join(dir, "model.safetensors"));
      await assert.rejects(Checkpoint.open(dir), /model\.safetensors|no weights found/);
    }),
);

Deno.test(
  "readBytes: a file that says no size is read to its end, or to the limit",
  { ignore: !isLinux },
  async () => {
    const path = "/proc/self/maps";
    assert.equal((await Deno.stat(path)).size, 0);
    assert.ok((await readBytes(path, { maxBytes: 2 ** 24 })).length > 1000);
    await refused(path, /^expected a file of at most 1000 bytes, found 1001$/, 1000);
  },
);

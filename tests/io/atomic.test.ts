import assert from "node:assert/strict";
import { join } from "node:path";
import { FileWriteError, replaceFile, saveAtomic } from "../../engine/io/atomic.ts";
import { fill, names, withFolder } from "./support.ts";

Deno.test("saveAtomic creates and replaces, with exactly the mode asked for", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "secret.json");
    await saveAtomic(path, "old");
    await saveAtomic(path, new TextEncoder().encode("new"), { mode: 0o600 });
    assert.equal(await Deno.readTextFile(path), "new");
    if (Deno.build.os !== "windows") assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await saveAtomic(join(dir, "open"), "", { mode: 0o666 });
    if (Deno.build.os !== "windows") assert.equal((await Deno.stat(join(dir, "open"))).mode! & 0o777, 0o666);
    assert.deepEqual(await names(dir), ["open", "secret.json"]);
  });
});

Deno.test("an error while producing leaves the old file and no temporary one, and passes unchanged", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "a");
    await saveAtomic(path, "old");
    const stop = new Error("stop");
    await assert.rejects(
      replaceFile(path, async (append) => {
        await append(new Uint8Array(100));
        throw stop;
      }),
      (error) => error === stop,
    );
    assert.deepEqual(await names(dir), ["a"]);
    assert.equal(await Deno.readTextFile(path), "old");
  });
});

Deno.test("a path that can't be written is named, with the reason", async () => {
  await withFolder(async (dir) => {
    await assert.rejects(saveAtomic(join(dir, "no", "file"), "x"), (error) => {
      assert.ok(error instanceof FileWriteError);
      assert.equal(error.path, join(dir, "no", "file"));
      assert.equal(error.code, "ENOENT");
      assert.match(error.message, /cannot write .*file: its folder does not exist/);
      return true;
    });
    await fill(join(dir, "folder"), { x: "" });
    await assert.rejects(saveAtomic(join(dir, "folder"), "x"), FileWriteError);
    assert.deepEqual(await names(dir), ["folder"]);
  });
});

Deno.test("a full disk is named", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const file = await Deno.open("/dev/full", { write: true });
  const cause = await file.write(new Uint8Array(1)).catch((error) => error);
  file.close();
  const error = FileWriteError.from("/x/model.safetensors", cause);
  assert.equal(error.code, "ENOSPC");
  assert.equal(error.message, "cannot write /x/model.safetensors: no space left on the disk (ENOSPC)");
});

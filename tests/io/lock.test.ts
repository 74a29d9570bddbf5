import assert from "node:assert/strict";
import { hostname } from "node:os";
import { join } from "node:path";
import { FileLock, LockedError, type LockOwner } from "../../engine/io/lock.ts";
import { names, withFolder } from "./support.ts";

const isLinux = Deno.build.os === "linux";

/** Starts a process that takes a lock and holds it until it is killed. */
async function holder(path: string): Promise<Deno.ChildProcess> {
  const module = new URL("../../engine/io/lock.ts", import.meta.url).href;
  const code = `const { FileLock } = await import(${JSON.stringify(module)});
    await FileLock.take(${JSON.stringify(path)}); console.log("held"); setInterval(() => {}, 1000);`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", code],
    stdout: "piped",
    stderr: "null",
    env: { NO_COLOR: "1" },
  }).spawn();
  const reader = child.stdout.getReader();
  assert.match(new TextDecoder().decode((await reader.read()).value), /^held/);
  await reader.cancel();
  return child;
}

Deno.test("a lock is one process's, names it, and goes with it", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "x.lock");
    const child = await holder(path);
    await assert.rejects(FileLock.take(path), (error) => {
      assert.ok(error instanceof LockedError);
      assert.equal(error.owner?.pid, child.pid);
      assert.equal(error.owner?.host, hostname());
      assert.ok(Math.abs(Date.now() - Date.parse(error.owner!.started)) < 600_000);
      assert.match(error.message, new RegExp(`^process ${child.pid} on .*, started 2.*x\\.lock`));
      return true;
    });
    child.kill("SIGKILL");
    await child.status;
    assert.deepEqual(await names(dir), ["x.lock"]);
    {
      using lock = await FileLock.take(path);
      assert.equal(JSON.parse(await Deno.readTextFile(path)).pid, Deno.pid);
      assert.ok(lock.path === path);
      // The same process is another user of it, too.
      await assert.rejects(FileLock.take(path), /^LockedError: this very process \d+/);
    }
    assert.deepEqual(await names(dir), []);
    (await FileLock.take(path))[Symbol.dispose]();
    assert.deepEqual(await names(dir), []);
  });
});

Deno.test("who holds a lock is told by process id and start, where the system's own lock says nothing", {
  ignore: !isLinux,
}, async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "x.lock");
    const child = await holder(join(dir, "other.lock"));
    const owner: LockOwner = JSON.parse(await Deno.readTextFile(join(dir, "other.lock")));
    // As a file system without locks would show it: the process lives, and no lock of the system's is on the file.
    await Deno.writeTextFile(path, JSON.stringify(owner));
    await assert.rejects(FileLock.take(path), LockedError);
    // Its id belongs to another process now; its file is torn; it was on a machine that is gone.
    for (
      const content of [
        JSON.stringify({ ...owner, startTick: "other boot:1" }),
        JSON.stringify({ ...owner, pid: 2 ** 22 + 1 }),
        '{"pid": 1',
        "",
        "[]",
        JSON.stringify({ ...owner, host: "elsewhere" }),
      ]
    ) {
      await Deno.writeTextFile(path, content);
      (await FileLock.take(path))[Symbol.dispose]();
    }
    child.kill("SIGKILL");
    await child.status;
    await Deno.writeTextFile(path, JSON.stringify(owner));
    (await FileLock.take(path))[Symbol.dispose]();
  });
});

Deno.test("many at once: one has it", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "x.lock");
    for (let round = 0; round < 20; round++) {
      const taken = await Promise.all(Array.from({ length: 8 }, () => FileLock.tryTake(path)));
      const locks = taken.filter((each) => each instanceof FileLock);
      assert.equal(locks.length, 1);
      for (const lock of locks) lock[Symbol.dispose]();
    }
    assert.deepEqual(await names(dir), []);
  });
});

Deno.test("a link in a lock's place isn't followed, and a folder without permission is an error that names it", async () => {
  await withFolder(async (dir) => {
    await Deno.writeTextFile(join(dir, "mine"), "text");
    await Deno.symlink(join(dir, "mine"), join(dir, "x.lock"));
    await assert.rejects(
      FileLock.take(join(dir, "x.lock")),
      /FileWriteError: .*x\.lock: expected a lock's file/,
    );
    assert.equal(await Deno.readTextFile(join(dir, "mine")), "text");
    await assert.rejects(FileLock.take(join(dir, "gone", "x.lock")), /FileWriteError: .*x\.lock/);
  });
});

Deno.test("a lock that is taken to tidy up is waited for", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "x.lock");
    const tidying = await FileLock.tryTake(path, true);
    assert.ok(tidying instanceof FileLock);
    const waiting = FileLock.take(path);
    const first = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 100, "waits"))]);
    assert.equal(first, "waits");
    tidying[Symbol.dispose]();
    (await waiting)[Symbol.dispose]();
    assert.deepEqual(await names(dir), []);
  });
});

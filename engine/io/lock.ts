/**
 * One writer at a time: a lock is a file beside what it guards, held by a process and named in it. The system's own
 * lock on the file decides where it has one, and goes with the process; else process id and start time do.
 * @module
 */
import { hostname } from "node:os";
import { attempt, writeAll } from "./atomic.ts";

/** Who holds a lock. */
export interface LockOwner {
  /** Its process id. */
  pid: number;
  /** The machine's name; empty where it may not be asked for. */
  host: string;
  /** When the process started, ISO 8601. */
  started: string;
  /** The same as the system tells it apart: its boot and the clock tick since; absent where it doesn't. */
  startTick?: string | undefined;
  /** It only tidies up what a killed process left, and is done soon. */
  isTidying?: boolean | undefined;
}

/** Another process is at work on the same. */
export class LockedError extends Error {
  /** Always "LockedError". */
  override name = "LockedError";
  /** The message says who has the lock, as far as that is known. */
  constructor(
    /** The lock's file. */
    readonly path: string,
    /** Who has it; undefined where that can't be read. */
    readonly owner: LockOwner | undefined,
  ) {
    super(`${ownerText(owner)} (it holds ${path})`);
  }
}

/** "process 12 on host x, started …". */
export function ownerText(owner: LockOwner | undefined): string {
  if (owner === undefined) return "another process";
  const { pid, host, started } = owner;
  const own = pid === Deno.pid && host === hostName();
  return `${own ? "this very process" : "process"} ${pid}${host && ` on ${host}`}, started ${started}`;
}

/** Locks of this process, for systems whose own don't exclude it. */
const held = new Map<string, LockOwner>();

/** How often a lock that is removed while it is taken is tried anew. */
const TRIES = 20;

/** How long a lock is waited for: of who hasn't signed it yet, or only tidies up. */
const UNSIGNED_MS = 500, TIDYING_MS = 60_000, POLL_MS = 25;

/** A lock that is held; disposing of it removes its file. */
export class FileLock implements Disposable {
  private constructor(
    readonly path: string,
    readonly file: Deno.FsFile,
    readonly inode: number | null,
    readonly owner: LockOwner,
  ) {
    held.set(path, owner);
  }

  /** Takes a lock, also one whose owner is dead. @throws LockedError; FileWriteError when its file can't be written. */
  static async take(path: string): Promise<FileLock> {
    const began = performance.now();
    while (true) {
      const taken = await FileLock.tryTake(path);
      if (taken instanceof FileLock) return taken;
      const { owner } = taken;
      const patience = owner === undefined ? UNSIGNED_MS : owner.isTidying ? TIDYING_MS : 0;
      if (performance.now() - began >= patience) throw new LockedError(path, owner);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /**
   * Takes a lock, or says who has it.
   * @param isTidying whether it is taken for a moment only, to tidy up what its last owner left
   * @throws FileWriteError when its file can't be written.
   */
  static async tryTake(
    path: string,
    isTidying = false,
  ): Promise<FileLock | { owner: LockOwner | undefined }> {
    for (let tries = 0; tries < TRIES; tries++) {
      if (held.has(path)) return { owner: held.get(path) };
      await refuseLink(path);
      const options = { read: true, write: true, create: true, mode: 0o600 };
      const file = await attempt(path, () => Deno.open(path, options));
      let keep = false;
      try {
        const locked = await file.tryLock(true).catch(() => undefined);
        if (locked === false) return { owner: await readOwner(path) };
        const inode = (await file.stat()).ino;
        // Its last owner removed it after it was opened here.
        if (!isAt(path, inode)) continue;
        const owner = await readOwner(path);
        if (owner && isAlive(owner, locked === true)) return { owner };
        if (held.has(path)) return { owner: held.get(path) };
        const self = selfOwner();
        const lock = new FileLock(path, file, inode, isTidying ? { ...self, isTidying } : self);
        keep = true;
        await lock.#sign();
        return lock;
      } finally {
        if (!keep) file.close();
      }
    }
    return { owner: await readOwner(path) };
  }

  async #sign(): Promise<void> {
    const bytes = new TextEncoder().encode(JSON.stringify(this.owner) + "\n");
    try {
      await this.file.truncate(0);
      await this.file.seek(0, Deno.SeekMode.Start);
      await writeAll(this.file, bytes);
    } catch {
      // On a full disk the lock holds without a name.
    }
  }

  [Symbol.dispose](): void {
    if (!held.delete(this.path)) return;
    try {
      // Before it is unlocked: whoever waits for it then finds another file, or none, and tries anew.
      if (Deno.build.os !== "windows" && isAt(this.path, this.inode)) Deno.removeSync(this.path);
    } catch {
      // It stays, without an owner; the next one takes it.
    }
    this.file.close();
    if (Deno.build.os !== "windows") return;
    try {
      Deno.removeSync(this.path);
    } catch {
      // As above.
    }
  }
}

/** Nobody's link is followed to a file that will be written. */
async function refuseLink(path: string): Promise<void> {
  const info = await Deno.lstat(path).catch(() => undefined);
  if (info && !info.isFile) {
    await attempt(path, () => Promise.reject(new Error("expected a lock's file, found a link or a folder")));
  }
}

function isAt(path: string, inode: number | null): boolean {
  try {
    return inode === null || Deno.lstatSync(path).ino === inode;
  } catch {
    return false;
  }
}

async function readOwner(path: string): Promise<LockOwner | undefined> {
  try {
    const found = JSON.parse(await Deno.readTextFile(path));
    const isOwner = Number.isSafeInteger(found?.pid) && typeof found.host === "string" &&
      typeof found.started === "string";
    return isOwner ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a lock's owner may still be at work. @param isLocked the system has just given the lock to us */
function isAlive(owner: LockOwner, isLocked: boolean): boolean {
  // The system's lock goes with its process, so that only a sure sign of life speaks against it.
  if (owner.host !== hostName()) return !isLocked;
  if (owner.pid === Deno.pid) return false;
  const tick = startTick(owner.pid);
  if (tick !== undefined && owner.startTick !== undefined) return tick === owner.startTick;
  return !isLocked && tick !== null;
}

function selfOwner(): LockOwner {
  return {
    pid: Deno.pid,
    host: hostName(),
    started: new Date(performance.timeOrigin).toISOString(),
    startTick: startTick(Deno.pid) ?? undefined,
  };
}

function hostName(): string {
  const { state } = Deno.permissions.querySync({ name: "sys", kind: "hostname" });
  return state === "granted" ? hostname() : "";
}

/** What tells a process from a later one of the same id; null if there is none, undefined where the system has no /proc. */
function startTick(pid: number): string | null | undefined {
  const boot = readSystem("/proc/sys/kernel/random/boot_id");
  if (typeof boot !== "string") return undefined;
  const stat = readSystem(`/proc/${pid}/stat`);
  if (typeof stat !== "string") return stat;
  // The name, in parentheses, may have spaces and parentheses itself; the start is the 22nd field, 20th after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // A zombie is dead; only its parent hasn't looked yet.
  return fields[0] === "Z" ? null : `${boot.trim()}:${fields[19]}`;
}

/** A file of /proc; null if it isn't there, undefined if it can't be asked. Asks for no permission. */
export function readSystem(path: string): string | null | undefined {
  if (Deno.build.os !== "linux") return undefined;
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? null : undefined;
  }
}

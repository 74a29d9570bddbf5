import { freemem } from "node:os";
import { join } from "node:path";

/**
 * The variable that says what control groups leave, in bytes, to a process that may not read it: Deno opens /proc and /sys only
 * to one that may do everything.
 */
export const GROUP_MEMORY_VARIABLE = "WHORL_GROUP_MEMORY";

/** Reads a small file of the kernel's; undefined where there is none, or none that may be read. */
type ReadText = (path: string) => string | undefined;

/** The size that a limit is given as where there is none (v1: the largest multiple of a page). */
const UNLIMITED = 2 ** 60;

/** Names of what a version of cgroups says of memory. */
const VERSIONS = {
  cgroup2: { limit: "memory.max", usage: "memory.current", reclaimable: /^inactive_file (\d+)$/m },
  cgroup: {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: /^total_inactive_file (\d+)$/m,
  },
};

/**
 * Bytes of host memory that this process can still take: what the system has available, or what the control groups of its
 * container (v1 and v2, the tightest of the hierarchy) leave of their limits; files in the page cache count as free.
 */
export function availableMemory(read: ReadText = readText, variable = readVariable): number {
  const system = Deno.systemMemoryInfo?.().available ?? freemem();
  const told = variable(GROUP_MEMORY_VARIABLE);
  return Math.min(system, groupMemory(read), told && /^\d+$/.test(told) ? Number(told) : Infinity);
}

/** Bytes that the process's control groups leave of their limits; Infinity where they have none, or can't be read. */
export function groupMemory(read: ReadText = readText): number {
  return Math.min(
    Infinity,
    ...groupFolders(read).map(({ folder, version }) => leftOf(folder, version, read)),
  );
}

/** Folders of the process's memory groups, from its own up to the mount's. */
function groupFolders(read: ReadText): { folder: string; version: keyof typeof VERSIONS }[] {
  const groups = (read("/proc/self/cgroup") ?? "").split("\n").map((line) => {
    const [, id, controllers, path] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    return { id, controllers: controllers?.split(",") ?? [], path };
  });
  return (read("/proc/self/mountinfo") ?? "").split("\n").flatMap((line) => {
    // id parent device root mount-point options … - type source super-options (proc_pid_mountinfo(5)).
    const [before = "", after = ""] = line.split(" - ");
    const [, , , root = "", mount = ""] = before.split(" ").map(unescaped);
    const [type, , options = ""] = after.split(" ");
    if (type !== "cgroup2" && !(type === "cgroup" && options.split(",").includes("memory"))) return [];
    const version: keyof typeof VERSIONS = type === "cgroup2" ? "cgroup2" : "cgroup";
    const group = groups.find(({ id, controllers }) => {
      return version === "cgroup2" ? id === "0" : controllers.includes("memory");
    });
    // Inside a container the mount's root is the group itself, under a name of the host's.
    const inside = root === "/"
      ? group?.path ?? "/"
      : group?.path?.startsWith(root)
      ? group.path.slice(root.length)
      : "";
    const parts = inside.split("/").filter((part) => part !== "" && part !== "..");
    return Array.from({ length: parts.length + 1 }, (_, up) => {
      return { folder: join(mount, ...parts.slice(0, parts.length - up)), version };
    });
  });
}

function leftOf(folder: string, version: keyof typeof VERSIONS, read: ReadText): number {
  const names = VERSIONS[version];
  const limit = Number(read(join(folder, names.limit))?.trim());
  const usage = Number(read(join(folder, names.usage))?.trim());
  if (!(limit >= 0 && limit < UNLIMITED) || !(usage >= 0)) return Infinity;
  const reclaimable = names.reclaimable.exec(read(join(folder, "memory.stat")) ?? "")?.[1];
  return Math.max(0, limit - Math.max(0, usage - Number(reclaimable ?? 0)));
}

/** mountinfo writes spaces and the like as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}

function readVariable(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

import assert from "node:assert/strict";
import { availableMemory, GROUP_MEMORY_VARIABLE, groupMemory } from "../../../pipeline/run/host_memory.ts";

const MiB = 2 ** 20;
const reader = (files: Record<string, string>) => (path: string): string | undefined => files[path];
const system = Deno.systemMemoryInfo().available;

/** A line of mountinfo. */
const mount = (root: string, at: string, type: string, options = "rw") =>
  `30 25 0:26 ${root} ${at} rw,nosuid shared:9 - ${type} ${type} ${options}`;

Deno.test("memory of the host: without control groups it is what the system has available", () => {
  const found = availableMemory(reader({}));
  assert.ok(found > 0.5 * system && found < 2 * system);
  assert.ok(
    availableMemory(reader({ "/proc/self/cgroup": "nonsense", "/proc/self/mountinfo": "more - nonsense" })) >
      0,
  );
});

Deno.test("memory of the host: cgroup v2, the tightest group of the hierarchy, page cache counted as free", () => {
  const files = {
    "/proc/self/cgroup": "0::/pod/job\n",
    "/proc/self/mountinfo": `${mount("/", "/", "ext4")}\n${mount("/", "/sys/fs/cgroup", "cgroup2")}\n`,
    "/sys/fs/cgroup/pod/job/memory.max": "max\n",
    "/sys/fs/cgroup/pod/job/memory.current": `${100 * MiB}\n`,
    "/sys/fs/cgroup/pod/memory.max": `${400 * MiB}\n`,
    "/sys/fs/cgroup/pod/memory.current": `${150 * MiB}\n`,
    "/sys/fs/cgroup/pod/memory.stat": `anon 5\nfile 7\ninactive_file ${30 * MiB}\nactive_file 9\n`,
  };
  assert.equal(availableMemory(reader(files)), 280 * MiB);
  const own = { ...files, "/sys/fs/cgroup/pod/job/memory.max": `${120 * MiB}` };
  assert.equal(availableMemory(reader(own)), 20 * MiB);
  const over = { ...files, "/sys/fs/cgroup/pod/job/memory.max": `${90 * MiB}` };
  assert.equal(availableMemory(reader(over)), 0);
});

Deno.test("memory of the host: cgroup v2 in a namespace, where the group is the root", () => {
  const files = {
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": mount("/", "/sys/fs/cgroup", "cgroup2"),
    "/sys/fs/cgroup/memory.max": `${64 * MiB}`,
    "/sys/fs/cgroup/memory.current": `${16 * MiB}`,
  };
  assert.equal(availableMemory(reader(files)), 48 * MiB);
});

Deno.test("memory of the host: cgroup v1, on the host and in a container that sees only its own group", () => {
  const at = "/sys/fs/cgroup/memory";
  const v1 = (folder: string, limit: number | string) => ({
    [`${folder}/memory.limit_in_bytes`]: `${limit}\n`,
    [`${folder}/memory.usage_in_bytes`]: `${50 * MiB}\n`,
    [`${folder}/memory.stat`]: `cache 3\ninactive_file 1\ntotal_inactive_file ${10 * MiB}\n`,
  });
  const groups = "4:cpu,cpuacct:/x\n3:cpuset,memory:/docker/ab12\n0::/\n";
  const host = {
    "/proc/self/cgroup": groups,
    "/proc/self/mountinfo": mount("/", at, "cgroup", "rw,cpuset,memory"),
    ...v1(at, "9223372036854771712"),
    ...v1(`${at}/docker/ab12`, 200 * MiB),
  };
  assert.equal(availableMemory(reader(host)), 160 * MiB);
  const container = {
    "/proc/self/cgroup": groups,
    "/proc/self/mountinfo": mount("/docker/ab12", at, "cgroup", "rw,memory"),
    ...v1(at, 100 * MiB),
  };
  assert.equal(availableMemory(reader(container)), 60 * MiB);
  const elsewhere = { ...container, "/proc/self/cgroup": "3:memory:/other\n" };
  assert.equal(availableMemory(reader(elsewhere)), 60 * MiB);
});

Deno.test("memory of the host: the real files of this machine can be read", () => {
  const found = availableMemory();
  assert.ok(found > 0 && found < 2 * system, `${found} of ${system}`);
});

Deno.test("memory of the host: a process that may not read control groups is told what they leave", () => {
  const told = (text?: string) =>
    availableMemory(reader({}), (name) => name === GROUP_MEMORY_VARIABLE ? text : "1");
  assert.equal(told(`${50 * MiB}`), 50 * MiB);
  assert.equal(told("0"), 0);
  for (const text of [undefined, "", "many", "-1", "1e3", `${2 ** 60}`]) {
    assert.ok(told(text) > 0.5 * system, text);
  }
  assert.equal(groupMemory(reader({})), Infinity);
});

/** What a measurement was made on. */
import { openGpu } from "../pipeline/gpu/open.ts";

/** Everything a figure needs beside it. */
export interface Environment {
  adapter: string;
  driver: string;
  deno: string;
  os: string;
  cpu: string;
  cpus: number;
  /** One-minute load average before the run: more than a few tenths means that others were at work. */
  load: number;
  commit: string;
  date: string;
}

/** Output of a command's first line, or undefined where it can't run or fails. */
async function output(command: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stdout: "piped", stderr: "null" })
      .output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}

/** WebGPU doesn't tell the driver's version, so the system's own tools are asked. */
async function driverVersion(adapter: string): Promise<string> {
  const summary = await output("vulkaninfo", "--summary");
  for (const device of summary?.split(/^GPU\d+:/m).slice(1) ?? []) {
    const field = (name: string) => device.match(new RegExp(`^\\s*${name}\\s*=\\s*(.+)$`, "m"))?.[1].trim();
    if (field("deviceName") === adapter) return `${field("driverName")}, ${field("driverInfo")}`;
  }
  if (/llvmpipe|lavapipe/i.test(adapter)) {
    const version = await output("dpkg-query", "-W", "-f=${Version}", "mesa-vulkan-drivers");
    if (version) return `mesa-vulkan-drivers ${version}`;
  }
  const nvidia = await output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader");
  return nvidia ? `NVIDIA ${nvidia.split("\n")[0]}` : "unknown";
}

async function cpuName(): Promise<string> {
  try {
    const text = await Deno.readTextFile("/proc/cpuinfo");
    return text.match(/^model name\s*:\s*(.+)$/m)?.[1] ?? "unknown";
  } catch {
    return await output("sysctl", "-n", "machdep.cpu.brand_string") ?? "unknown";
  }
}

/** Asks the adapter, the system and git. @throws GpuUnavailableError without an adapter. */
export async function environment(): Promise<Environment> {
  using gpu = await openGpu();
  const dirty = await output("git", "status", "--porcelain", "--untracked-files=no");
  return {
    adapter: gpu.name,
    driver: await driverVersion(gpu.name),
    deno: Deno.version.deno,
    os: `${Deno.build.os} ${Deno.osRelease()}`,
    cpu: await cpuName(),
    cpus: navigator.hardwareConcurrency,
    load: Deno.loadavg()[0],
    commit: (await output("git", "rev-parse", "--short", "HEAD") ?? "unknown") + (dirty ? ", changed" : ""),
    date: new Date().toISOString(),
  };
}

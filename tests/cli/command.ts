/** Runs the real command in a process of its own. */

import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../cli.ts", import.meta.url));

/** How a command ended. */
export interface Finished {
  code: number;
  out: string;
  err: string;
}

/** How to run a command. */
export interface RunOptions {
  env?: Record<string, string>;
  /** Default: the tests' own folder, so that a result never lands in the project's. */
  cwd?: string;
  /** Blocks that a file may have (`ulimit -f`; 512 bytes in POSIX, 1,024 in some shells). */
  fileBlocks?: number;
}

/** The command `whorl …`, its output piped and without colours being forbidden or asked for. */
export function command(args: readonly string[], options: RunOptions = {}): Deno.Command {
  const run = ["run", "-A", "--no-check", CLI, ...args];
  const [program, first] = options.fileBlocks === undefined
    ? [Deno.execPath(), []]
    : ["sh", ["-c", `ulimit -f ${options.fileBlocks} && exec "$@"`, "sh", Deno.execPath()]];
  // NO_COLOR unset: output that isn't a terminal has no colours anyway.
  const { NO_COLOR: _, INIT_CWD: __, ...inherited } = Deno.env.toObject();
  return new Deno.Command(program, {
    args: [...first, ...run],
    cwd: options.cwd ?? import.meta.dirname!,
    clearEnv: true,
    // Without a runtime folder Mesa complains on stderr.
    env: { XDG_RUNTIME_DIR: "/tmp", ...inherited, DENO_NO_UPDATE_CHECK: "1", ...options.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs `whorl …` to its end. */
export async function whorl(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { code, stdout, stderr } = await command(args, options).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: decode(stdout), err: decode(stderr) };
}

/** Flags by name, `true` for a switch. */
export function flags(values: Record<string, string | number | true>): string[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === true ? [`--${name}`] : [`--${name}`, String(value)]
  );
}

/** Names in a folder, sorted; none when it isn't there. */
export function names(folder: string): string[] {
  try {
    return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

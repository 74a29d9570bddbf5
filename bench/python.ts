import type { BenchOptions } from "./benchmark.ts";

/** A Python that has these modules: the one named, that of WHORL_PYTHON, or one on PATH. */
export async function pythonWith(modules: string, options: BenchOptions): Promise<string | undefined> {
  const candidates = [options.python, Deno.env.get("WHORL_PYTHON"), "python3", "python"];
  for (const command of candidates) {
    if (!command) continue;
    try {
      const { success } = await new Deno.Command(command, {
        args: ["-c", `import ${modules}`],
        stdout: "null",
        stderr: "null",
      }).output();
      if (success) return command;
    } catch {
      // Not there: the next one.
    }
  }
}

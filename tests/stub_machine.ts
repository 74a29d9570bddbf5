import { join } from "node:path";
import { fileURLToPath } from "node:url";

const whorl = fileURLToPath(new URL("../whorl", import.meta.url));

/** What the scripts use of a system; anything else they call is a stub or not there. */
const systemTools = [
  "dirname",
  "readlink",
  "sed",
  "cat",
  "mkdir",
  "mktemp",
  "find",
  "grep",
  "tail",
  "tr",
  "rm",
];

/** A machine of stub programs: the only PATH the script gets, and the root it looks system files up in. */
export class Machine {
  readonly folder = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "whorl test " }));
  readonly bin = join(this.folder, "bin");
  readonly root = join(this.folder, "root");
  readonly calls = join(this.folder, "calls");
  readonly icd = join(this.root, "usr/share/vulkan/icd.d");

  constructor() {
    Deno.mkdirSync(this.bin);
    Deno.mkdirSync(join(this.root, "etc"), { recursive: true });
    Deno.mkdirSync(join(this.root, "usr/lib"), { recursive: true });
    Deno.writeTextFileSync(this.calls, "");
    for (const tool of systemTools) {
      const folder = ["/usr/bin", "/bin"].find((folder) => exists(join(folder, tool)));
      if (!folder) throw new Error(`${tool} is neither in /usr/bin nor in /bin`);
      Deno.symlinkSync(join(folder, tool), join(this.bin, tool));
    }
    this.program("uname", "echo Linux");
    this.user(1000);
    this.release("ID=debian");
  }

  program(name: string, body: string): void {
    Deno.writeTextFileSync(join(this.bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }

  /** A program that notes its call: name, then arguments, each on a line in brackets. */
  noting(name: string, body = ""): void {
    const note = `{ printf '<%s>\\n' ${name} "$@"; echo "INIT_CWD=\${INIT_CWD-}"; } >>'${this.calls}'`;
    this.program(name, `${body}\n${note}\nexit "\${STUB_STATUS:-0}"`);
  }

  deno(version: string): void {
    const launch = `set -- run --only=this cli.ts "$@"`;
    this.noting(
      "deno",
      `[ "$1" = --version ] && { echo "deno ${version} (stable)"; exit; }\n` +
        `case "$*" in *cli/launch.ts*) echo '${launch}'; exit "\${STUB_LAUNCH:-0}" ;; esac`,
    );
  }

  /** npx whose deno lies outside PATH, as npm keeps it. */
  npx(): void {
    const kept = join(this.folder, "npm");
    Deno.mkdirSync(kept);
    this.deno("2.9.6");
    Deno.renameSync(join(this.bin, "deno"), join(kept, "deno"));
    this.noting("npx", `echo '${join(kept, "deno")}'`);
  }

  user(id: number): void {
    this.program("id", `echo ${id}`);
  }

  release(text: string): void {
    Deno.writeTextFileSync(join(this.root, "etc/os-release"), text + "\n");
  }

  loader(): void {
    Deno.writeTextFileSync(join(this.root, "usr/lib/libvulkan.so.1"), "");
  }

  driver(folder = "usr/share/vulkan/icd.d"): void {
    Deno.mkdirSync(join(this.root, folder), { recursive: true });
    Deno.writeTextFileSync(join(this.root, folder, "nvidia_icd.json"), "{}");
  }

  run(args: string[], options: { cwd?: string; env?: Record<string, string>; script?: string } = {}): Result {
    const output = new Deno.Command(options.script ?? whorl, {
      args,
      cwd: options.cwd ?? this.folder,
      clearEnv: true,
      env: {
        PATH: this.bin,
        HOME: join(this.folder, "home"),
        TMPDIR: this.folder,
        WHORL_SYSROOT: this.root,
        ...options.env,
      },
      stdin: "null",
    }).outputSync();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return {
      code: output.code,
      out: text(output.stdout),
      err: text(output.stderr),
      calls: Deno.readTextFileSync(this.calls),
    };
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}

interface Result {
  code: number;
  out: string;
  err: string;
  calls: string;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Machine } from "./stub_machine.ts";

const script = fileURLToPath(new URL("../whorl", import.meta.url));
const setup = fileURLToPath(new URL("../setup.sh", import.meta.url));
const project = fileURLToPath(new URL("../", import.meta.url)).replace(/\/$/, "");

const ignore = Deno.build.os === "windows";

/** A machine on which nothing is missing. */
function readyMachine(): Machine {
  const machine = new Machine();
  machine.deno("2.9.6");
  machine.loader();
  machine.driver();
  machine.noting("apt-get");
  return machine;
}

/** A Debian machine with Deno, and neither driver nor loader. */
function bareMachine(aptGet = ""): Machine {
  const machine = new Machine();
  machine.deno("2.9.6");
  machine.noting("apt-get", aptGet);
  return machine;
}

Deno.test({
  name: "whorl runs the task with Deno 2 of PATH and installs nothing",
  ignore,
  fn() {
    using machine = readyMachine();
    const result = machine.run(["bench", "--json"]);
    assert.deepEqual(
      result,
      { code: 0, out: "", err: "", calls: `<deno>\n<task>\n<bench>\n<--json>\nINIT_CWD=${machine.folder}\n` },
    );
  },
});

Deno.test({
  name: "whorl runs a command with the permissions that its arguments need",
  ignore,
  fn() {
    for (const command of ["finetune", "check", "generate"]) {
      using machine = readyMachine();
      const args = ["--a b", "it's", "$(touch x)"];
      const result = machine.run([command, ...args]);
      const given = args.map((arg) => `<${arg}>\n`).join("");
      const calls =
        `<deno>\n<run>\n<--only=this>\n<cli.ts>\n<${command}>\n${given}INIT_CWD=${machine.folder}\n`;
      assert.deepEqual(result, { code: 0, out: "", err: "", calls });
    }
  },
});

Deno.test({
  name: "whorl runs no command whose permissions can't be worked out",
  ignore,
  fn() {
    using machine = readyMachine();
    const failing = machine.run(["check"], { env: { STUB_LAUNCH: "3" } });
    assert.deepEqual([failing.code, failing.calls], [3, ""]);
    machine.noting("deno", `case "$1" in --version) echo "deno 2.9.6"; exit ;; run) exit ;; esac`);
    const silent = machine.run(["check"]);
    assert.deepEqual([silent.code, silent.calls], [1, ""]);
  },
});

Deno.test({
  name: "whorl takes Deno from npx where PATH has none or version 1",
  ignore,
  fn() {
    for (const old of [null, "1.46.3", "20.1.0"]) {
      using machine = new Machine();
      machine.loader();
      machine.driver();
      machine.npx();
      if (old) machine.program("deno", `echo "deno ${old} (stable)"`);
      const result = machine.run(["bench"]);
      assert.equal(result.code, 0, result.err);
      assert.match(result.calls, /^<npx>\n<-y>\n<deno@2\.9\.6>\n<eval>\n[^]*<deno>\n<task>\n<bench>\n/);
      assert.match(result.err, old ? new RegExp(`version ${old}, Whorl needs 2`) : /no deno on PATH/);
    }
  },
});

Deno.test({
  name: "whorl says how to get Deno where there is no npx, or npx fails",
  ignore,
  fn() {
    using machine = new Machine();
    const without = machine.run(["bench"]);
    assert.equal(without.code, 1);
    assert.match(without.err, /^whorl: Deno 2 is needed .*https:\/\/deno\.com.*\n$/);
    machine.program("npx", "echo 'npm error offline' >&2; exit 1");
    const failing = machine.run(["bench"]);
    assert.equal(failing.code, 1);
    assert.match(failing.err, /npm error offline\nwhorl: npx could not get deno@2\.9\.6/);
  },
});

Deno.test({
  name: "whorl as root on Debian or Ubuntu installs driver and loader, then runs the task",
  ignore,
  fn() {
    for (const release of ["ID=debian", "ID=ubuntu\nID_LIKE=debian", 'ID="pop"\nID_LIKE="ubuntu debian"']) {
      using machine = new Machine();
      machine.deno("2.9.6");
      machine.user(0);
      machine.release(release);
      const installs =
        `case "$*" in *mesa*) mkdir -p '${machine.icd}'; echo {} >'${machine.icd}/lvp_icd.json' ;; esac`;
      machine.noting("apt-get", installs);
      const result = machine.run(["bench"]);
      assert.equal(result.code, 0, result.err);
      assert.match(
        result.calls,
        /<apt-get>\n<-q>\n<update>\n[^]*<apt-get>\n[^]*<install>\n<mesa-vulkan-drivers>\n<libvulkan1>\n[^]*<deno>\n<task>/,
      );
      assert.match(result.err, /installed mesa-vulkan-drivers libvulkan1/);
    }
  },
});

Deno.test({
  name: "whorl installs the loader alone where only it is missing",
  ignore,
  fn() {
    using machine = bareMachine();
    machine.user(0);
    machine.driver();
    const result = machine.run(["bench"]);
    assert.equal(result.code, 0, result.err);
    assert.match(result.calls, /<install>\n<libvulkan1>\n/);
    assert.doesNotMatch(result.calls, /mesa/);
  },
});

Deno.test({
  name: "whorl shows apt-get's error and the line to run where the install fails or brings no driver",
  ignore,
  fn() {
    using failing = bareMachine("echo 'E: Unable to fetch' >&2; exit 100");
    failing.user(0);
    const failed = failing.run(["bench"]);
    assert.equal(failed.code, 1);
    assert.match(
      failed.err,
      /E: Unable to fetch[^]*apt-get update && apt-get install -y mesa-vulkan-drivers libvulkan1/,
    );
    assert.equal(failed.calls, "");

    using empty = bareMachine();
    empty.user(0);
    const nothing = empty.run(["bench"]);
    assert.equal(nothing.code, 1);
    assert.match(nothing.err, /there is still no Vulkan driver/);
    assert.doesNotMatch(nothing.calls, /<deno>/);
  },
});

Deno.test({
  name: "whorl prints the line to run where it may not install, and exits 1",
  ignore,
  fn() {
    const lines: [release: string, line: RegExp][] = [
      ["ID=debian", /\n {2}sudo apt-get update && sudo apt-get install -y mesa-vulkan-drivers libvulkan1\n$/],
      ["ID=fedora", /\n {2}sudo dnf install -y mesa-vulkan-drivers vulkan-loader\n$/],
      ["ID=arch", /\n {2}sudo pacman -S --needed vulkan-swrast vulkan-icd-loader\n$/],
      ["ID=unheard-of", /Mesa Vulkan drivers/],
    ];
    for (const [release, line] of lines) {
      using machine = bareMachine();
      machine.release(release);
      const result = machine.run(["bench"]);
      assert.equal(result.code, 1);
      assert.match(result.err, line);
      assert.equal(result.calls, "");
    }
  },
});

Deno.test({
  name: "whorl finds a driver wherever the loader looks or the user points",
  ignore,
  fn() {
    const places: [folder: string | null, env: Record<string, string>][] = [
      ["etc/vulkan/icd.d", {}],
      ["usr/local/share/vulkan/icd.d", {}],
      ["usr/local/etc/vulkan/icd.d", {}],
      ["home/me/.local/share/vulkan/icd.d", { HOME: "/home/me" }],
      ["data home/vulkan/icd.d", { XDG_DATA_HOME: "/data home" }],
      ["two/vulkan/icd.d", { XDG_DATA_DIRS: "/one:/two" }],
      [null, { VK_DRIVER_FILES: "/my/icd.json" }],
      [null, { VK_ICD_FILENAMES: "/my/icd.json" }],
      [null, { VK_ADD_DRIVER_FILES: "/my/icd.json" }],
    ];
    for (const [folder, env] of places) {
      using machine = bareMachine();
      machine.loader();
      if (folder) machine.driver(folder);
      const result = machine.run(["bench"], { env });
      assert.equal(result.code, 0, `${folder} ${JSON.stringify(env)}: ${result.err}`);
      assert.match(result.calls, /^<deno>\n<task>/);
    }
  },
});

Deno.test({
  name: "whorl --version is that of deno.json, without Deno",
  ignore,
  fn() {
    using machine = new Machine();
    const { version } = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
    const { code, out } = machine.run(["--version"]);
    assert.deepEqual([code, out.trim()], [0, version]);
  },
});

Deno.test({
  name: "whorl asks for no driver for help, fmt, lint and deno, nor on macOS",
  ignore,
  fn() {
    using machine = bareMachine();
    for (const args of [["fmt", "--check"], ["lint"], ["deno", "--help"]]) {
      const result = machine.run(args);
      assert.equal(result.code, 0, result.err);
    }
    machine.program("uname", "echo Darwin");
    assert.equal(machine.run(["bench"]).code, 0);
    using bare = new Machine();
    for (const args of [[], ["help"], ["--help"]]) {
      const result = bare.run(args);
      assert.equal(result.code, 0);
      assert.match(result.out, /^usage: \.\/whorl TASK/);
    }
    assert.equal(bare.run(["--tpyo"]).code, 2);
  },
});

Deno.test({
  name: "whorl's help lists every task of deno.json",
  ignore,
  fn() {
    using machine = new Machine();
    const help = machine.run([]).out;
    const { tasks } = JSON.parse(Deno.readTextFileSync(join(project, "deno.json")));
    for (const task of Object.keys(tasks)) assert.match(help, new RegExp(`^  ${task} `, "m"));
  },
});

Deno.test({
  name: "whorl passes arguments on as they are, and the exit status back",
  ignore,
  fn() {
    using machine = readyMachine();
    const args = ["a b", "", "$HOME", "it's", '"', "*", "--", "-x"];
    const result = machine.run(["bench", ...args], { env: { STUB_STATUS: "7" } });
    assert.equal(result.code, 7);
    assert.ok(result.calls.includes(`<bench>\n${args.map((arg) => `<${arg}>\n`).join("")}`), result.calls);
  },
});

Deno.test({
  name: "whorl runs in the project through links, and INIT_CWD names the caller's folder",
  ignore,
  fn() {
    using machine = readyMachine();
    machine.noting(
      "deno",
      `[ "$1" = --version ] && { echo "deno 2.9.6"; exit; }; echo "in $(pwd -P) $DENO_WEBGPU_BACKEND"`,
    );
    const caller = join(machine.folder, "some where");
    Deno.mkdirSync(caller);
    Deno.symlinkSync(script, join(machine.folder, "first"));
    Deno.symlinkSync("../first", join(caller, "second"));
    const env = { INIT_CWD: "/of/an/outer/npm" };
    const result = machine.run(["bench", "./model"], { cwd: caller, env, script: join(caller, "second") });
    assert.equal(result.out, `in ${Deno.realPathSync(project)} vulkan\n`);
    assert.match(result.calls, new RegExp(`<./model>\nINIT_CWD=${caller}\n`));
  },
});

Deno.test({
  name: "whorl sets XDG_RUNTIME_DIR to a private folder and keeps what is set",
  ignore,
  fn() {
    using machine = readyMachine();
    const uid = Deno.uid()!;
    machine.user(uid);
    machine.program(
      "deno",
      `[ "$1" = --version ] && { echo "deno 2.9.6"; exit; }; echo "$XDG_RUNTIME_DIR"; echo "\${VK_ADD_DRIVER_FILES-}"`,
    );
    const own = machine.run(["bench"]).out.trim();
    assert.equal(own, join(machine.folder, `whorl-${uid}`));
    assert.equal(Deno.statSync(own).mode! & 0o777, 0o700);
    assert.equal(machine.run(["bench"]).out.trim(), own);
    assert.equal(machine.run(["bench"], { env: { XDG_RUNTIME_DIR: "/run/me" } }).out.trim(), "/run/me");

    // Someone else's folder, or a link that they left there, is not taken.
    Deno.removeSync(own);
    Deno.symlinkSync(machine.bin, own);
    const other = machine.run(["bench"]).out.trim();
    assert.notEqual(other, own);
    assert.equal(Deno.statSync(other).mode! & 0o777, 0o700);
  },
});

Deno.test({
  name: "whorl tells the loader of NVIDIA's driver in a container",
  ignore,
  fn() {
    using machine = bareMachine();
    machine.loader();
    machine.driver("usr/local/nvidia/share/vulkan/icd.d");
    machine.program(
      "deno",
      `[ "$1" = --version ] && { echo "deno 2.9.6"; exit; }; echo "\${VK_ADD_DRIVER_FILES-}"`,
    );
    const manifest = join(machine.root, "usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json");
    assert.equal(machine.run(["bench"]).out, manifest + "\n");
    assert.equal(machine.run(["bench"], { env: { VK_DRIVER_FILES: "/mine.json" } }).out, "\n");
  },
});

Deno.test({
  name: "setup.sh sets up alone and says what it found",
  ignore,
  fn() {
    using machine = readyMachine();
    const result = machine.run([], { script: setup });
    assert.equal(result.code, 0, result.err);
    assert.match(result.calls, /^<deno>\n<install>\n<--quiet>\n<--frozen>\n/);
    assert.match(
      result.err,
      /Deno: .*\/deno \(2\.9\.6\)\nwhorl: Vulkan driver: .*nvidia_icd\.json\n[^]*ready: \.\/whorl finetune/,
    );
  },
});

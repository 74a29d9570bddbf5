/**
 * Says with which permissions a command is to be started, as lines of sh: `deno run -A cli/launch.ts finetune …`.
 * ./whorl evaluates them. It looks at names and links in folders, opens no file of a model, and may do everything because
 * Deno shows the limits of control groups to nobody else.
 * @module
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { GROUP_MEMORY_VARIABLE, groupMemory } from "../pipeline/run/host_memory.ts";
import { callerFolder } from "./host.ts";
import {
  denoFlags,
  type FolderFacts,
  neededPermissions,
  PermissionsError,
  type Surroundings,
} from "./permissions.ts";

const project = dirname(dirname(fileURLToPath(import.meta.url)));

/** Entries of a folder that are looked through for links. */
const MOST_ENTRIES = 100_000;

function realPath(path: string): string | undefined {
  try {
    return Deno.realPathSync(path);
  } catch {
    return undefined;
  }
}

function look(path: string): FolderFacts | undefined {
  const real = realPath(path);
  if (real === undefined || !Deno.statSync(real).isDirectory) return undefined;
  const links: { path: string; real: string | undefined }[] = [];
  const pending = [""];
  let count = 0;
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const { name, isDirectory, isSymlink } of Deno.readDirSync(join(real, folder))) {
      if (++count > MOST_ENTRIES) {
        throw new PermissionsError(
          `${path}: expected the folder of a model, found more than ${
            MOST_ENTRIES.toLocaleString("en")
          } files in it`,
        );
      }
      const inside = join(folder, name);
      if (isSymlink) links.push({ path: inside, real: realPath(join(real, inside)) });
      else if (isDirectory) pending.push(inside);
    }
  }
  return { real, links };
}

/** Where Deno keeps npm's webgpu: in a folder of the registry it came or will come from, so that all of them are it. */
async function dawnFolders(): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { npmCache } = JSON.parse(new TextDecoder().decode(stdout));
  return [npmCache];
}

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

async function main(args: string[]): Promise<void> {
  const around: Surroundings = {
    folder: callerFolder(),
    project,
    variable: (name) => Deno.env.get(name),
    real: realPath,
    look,
    dawnFolders,
  };
  const needed = await neededPermissions(args, around);
  for (const path of needed.deny) {
    console.error(
      `whorl: ${path} leads to ${realPath(path) ?? "nothing"}, outside of the model: it is not read ` +
        "(docs/permissions.md says how to let it)",
    );
  }
  const flags = denoFlags(needed, Deno.cwd());
  const memory = groupMemory();
  if (memory !== Infinity) console.log(`export ${GROUP_MEMORY_VARIABLE}=${memory}`);
  console.log(`set -- run ${flags.map(quote).join(" ")} cli.ts "$@"`);
}

try {
  await main(Deno.args);
} catch (error) {
  if (!(error instanceof PermissionsError)) throw error;
  console.error(`error: ${error.message}`);
  // As of wrong use: see exit_codes.ts, which would load all of Whorl here.
  Deno.exit(2);
}

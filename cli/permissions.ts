/**
 * What a command may reach: worked out from its arguments, and from what is declared of its flags.
 * @module
 */
import { Command } from "commander";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import type { HubModel } from "../pipeline/hub/hub.ts";
import { GROUP_MEMORY_VARIABLE } from "../pipeline/run/host_memory.ts";
import { type CommandDescription, COMMANDS } from "../pipeline/settings/commands.ts";
import { addFlags, normalArguments, settingsOf, type Values } from "./options.ts";

/** What Deno lets a process do; nothing else. */
export interface Permissions {
  /** Absolute paths, with all that is in a folder. */
  read: string[];
  /** Links in a model's folder that lead out of it. Deno looks at the path alone, so that it would follow them. */
  deny: string[];
  write: string[];
  env: string[];
  sys: string[];
  net: string[];
  /** Paths of native libraries, by name. */
  ffi: string[];
}

/** A folder and the links in it, none of which is followed. */
export interface FolderFacts {
  real: string;
  links: readonly { path: string; real: string | undefined }[];
}

/** What is asked of the machine. */
export interface Surroundings {
  /** The folder that relative paths are in. */
  folder: string;
  /** Whorl's own. */
  project: string;
  variable(name: string): string | undefined;
  /** Where a path leads; undefined where nothing is. */
  real(path: string): string | undefined;
  /** Undefined for what is no folder. */
  look(path: string): FolderFacts | undefined;
  /** Folders of npm's webgpu, with what it needs. */
  dawnFolders(): Promise<string[]>;
}

/** A command line can't be given the permissions that it needs. */
export class PermissionsError extends Error {
  override name = "PermissionsError";
}

/** What a run reads of Whorl itself: not results that lie in its folder. */
const OWN_FOLDERS = ["assets", "engine", "pipeline", "shaders", "cli/watch_signals.ts"];

/** Commander's, and the command line's own. */
const VARIABLES = [
  "INIT_CWD",
  "DENO_WEBGPU_BACKEND",
  "NO_COLOR",
  "FORCE_COLOR",
  "CLICOLOR_FORCE",
  GROUP_MEMORY_VARIABLE,
];

/** Where the Hub, and mirrors of it, send for large files. */
const HUB_STORAGE = ["huggingface.co", "*.huggingface.co", "*.hf.co"];

/** More of what may be read, and of hosts, in Deno's form: folders that links of a model lead to, a mirror's storage. */
const MORE = { read: "WHORL_ALLOW_READ", net: "WHORL_ALLOW_NET" };

/**
 * The permissions that a command line needs. What commander refuses needs none: the command will say so itself.
 * @throws PermissionsError where a path can't be named to Deno
 */
export async function neededPermissions(
  args: readonly string[],
  around: Surroundings,
): Promise<Permissions> {
  const needed: Permissions = {
    read: OWN_FOLDERS.map((name) => join(around.project, name)),
    deny: [],
    write: [],
    env: [...VARIABLES],
    sys: [],
    net: [],
    ffi: [],
  };
  const parsed = parse(args, around.folder);
  if (!parsed) return needed;
  const { command, values } = parsed;
  needed.sys.push(...command.sys);
  needed.read.push(...listed(around.variable(MORE.read)).map((path) => resolve(around.folder, path)));
  addPaths(needed, command, values, around);
  const folders: string[] = [];
  for (const model of modelsOf(command, values)) {
    const path = model.path === undefined ? undefined : resolve(around.folder, model.path);
    if (path !== undefined) {
      // Also where it is a model of the Hub: a folder of that name comes first.
      needed.read.push(path);
      if (around.look(path)) {
        folders.push(path);
        continue;
      }
    }
    await addHub(needed, model, around);
  }
  for (const path of folders) addFolder(needed, path, command, around);
  for (const path of folders) denyLinks(needed, path, around);
  if (values.webgpu === "dawn") {
    const folders = await around.dawnFolders();
    needed.read.push(...folders);
    needed.ffi.push(...folders);
  }
  return needed;
}

/** The command and its values as the command itself will read them; undefined where there is none. */
function parse(
  args: readonly string[],
  folder: string,
): { command: CommandDescription; values: Values } | undefined {
  let found: { command: CommandDescription; values: Values } | undefined;
  const silent = { writeOut: () => {}, writeErr: () => {} };
  const whorl = new Command("whorl").exitOverride().configureOutput(silent);
  for (const command of COMMANDS) {
    const sub = whorl.command(command.name).exitOverride().copyInheritedSettings(whorl);
    addFlags(sub, command.flags, () => folder).action((values: Values) => {
      found = { command, values: settingsOf(values, command.flags) };
    });
  }
  try {
    whorl.parse(normalArguments(args), { from: "user" });
  } catch {
    return undefined;
  }
  return found;
}

/** Paths that flags name, or stand for when they aren't given. */
function addPaths(needed: Permissions, command: CommandDescription, values: Values, around: Surroundings) {
  for (const { name, kind, writes, default: unset } of command.flags) {
    const value = values[name] ?? (writes ? unset : undefined);
    if (kind !== "path" || typeof value !== "string") continue;
    const path = resolve(around.folder, value);
    const place = writes === "file" ? dirname(path) : path;
    const real = realOf(place, around);
    // What is open Deno knows by its real path.
    needed.read.push(place, real);
    if (writes && values.dry_run !== true) needed.write.push(place);
    // A run's fingerprints are asked by its settings.
    if (!writes && basename(dirname(real)) === "secret") {
      needed.read.push(join(dirname(dirname(real)), "config.json"));
    }
  }
}

/** Where a path leads, also one that isn't there yet. */
function realOf(path: string, around: Surroundings): string {
  const above = dirname(path);
  return around.real(path) ?? (above === path ? path : join(realOf(above, around), basename(path)));
}

/** A model as flags name it. */
interface NamedModel {
  path?: string;
  family?: string;
  size?: string | undefined;
}

/** What flags say of models: by path or name, or by OML 1.0's family and size. */
function modelsOf(command: CommandDescription, values: Values): NamedModel[] {
  const models: NamedModel[] = [];
  for (const { name, kind } of command.flags) {
    if (kind === "model" && typeof values[name] === "string") models.push({ path: values[name] });
  }
  if (values.model_path == null && typeof values.model_family === "string") {
    models.push({ family: values.model_family, size: values.model_size as string | undefined });
  }
  return models;
}

/** A model's folder; for one that finetune wrote, its fingerprints and settings beside it. */
function addFolder(needed: Permissions, path: string, command: CommandDescription, around: Surroundings) {
  const { real } = around.look(path)!;
  needed.read.push(real);
  for (const each of new Set([path, real])) {
    if (command.name === "check" && basename(path) === "final_model") {
      needed.read.push(join(dirname(each), "secret"), join(dirname(each), "config.json"));
    }
  }
  // Files of a snapshot in the Hub's cache are links to its blobs.
  if (basename(dirname(real)) === "snapshots") needed.read.push(join(dirname(dirname(real)), "blobs"));
}

/** A link is followed to where the command may read anyway, and nowhere else. */
function denyLinks(needed: Permissions, path: string, around: Surroundings) {
  const { real: root, links } = around.look(path)!;
  const allowed = needed.read.map((each) => around.real(each)).filter((each) => each !== undefined);
  for (const link of links) {
    const written = needed.write.find((each) => isInside(join(path, link.path), each));
    if (written !== undefined) {
      throw new PermissionsError(
        `${written}: expected a folder to write to, found a link in the model's folder (to ${
          link.real ?? "nothing"
        }): ` +
          "give the folder itself",
      );
    }
    // One that leads nowhere could lead somewhere later.
    if (link.real !== undefined && allowed.some((folder) => isInside(folder, link.real!))) continue;
    needed.deny.push(join(path, link.path));
    if (root !== path) needed.deny.push(join(root, link.path));
  }
}

/** What downloading a model of the Hub takes: its part of the cache, the token, the hosts. */
async function addHub(
  needed: Permissions,
  { path, family, size }: NamedModel,
  around: Surroundings,
) {
  // Not needed for a folder, and slow to load.
  const hub = await import("../pipeline/hub/model_source.ts");
  let model: HubModel | null;
  try {
    model = path === undefined ? { id: hub.familyModel(family!, size) } : hub.parseHubModel(path);
  } catch {
    return;
  }
  if (!model) return;
  const { cacheDir, tokenPath } = await hub.hubPlaces((name) => around.variable(name));
  const endpoint = around.variable("HF_ENDPOINT") || hub.HUB_ENDPOINT;
  const folder = `models--${model.id.replaceAll("/", "--")}`;
  const cache = [join(cacheDir, folder), join(cacheDir, ".locks", folder)];
  needed.read.push(...cache, tokenPath);
  needed.write.push(...cache);
  needed.env.push(...hub.HUB_VARIABLES);
  needed.sys.push("homedir", "statfs");
  if (URL.canParse(endpoint)) needed.net.push(new URL(endpoint).host);
  needed.net.push(...HUB_STORAGE, ...listed(around.variable(MORE.net)));
}

function listed(value: string | undefined): string[] {
  return (value ?? "").split(",").map((each) => each.trim()).filter(Boolean);
}

function isInside(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

/**
 * The flags of `deno run`, started in `cwd`. `--no-prompt`: what isn't allowed is an error, never a question.
 * @throws PermissionsError for a path with a comma, which ends a path in Deno's lists
 */
export function denoFlags(permissions: Permissions, cwd: string): string[] {
  const { read, deny, write, env, sys, net, ffi } = permissions;
  const paths = (list: readonly string[]) => list.map((path) => namedPath(path, cwd));
  const lists: [string, string[]][] = [
    ["--allow-read", paths(read)],
    ["--deny-read", paths(deny)],
    ["--allow-write", paths(write)],
    ["--deny-write", paths(deny)],
    ["--allow-env", env],
    ["--allow-sys", sys],
    ["--allow-net", net],
    ["--allow-ffi", paths(ffi)],
  ];
  const flags = lists.filter(([, list]) => list.length > 0).map(([flag, list]) =>
    `${flag}=${[...new Set(list)].join(",")}`
  );
  return ["--no-prompt", ...flags];
}

/** A path in a list: one in `cwd` may be relative, where a folder above has a comma. */
function namedPath(path: string, cwd: string): string {
  if (!path.includes(",")) return path;
  const inside = relative(cwd, path) || ".";
  if (!inside.includes(",") && !isAbsolute(inside)) return inside;
  throw new PermissionsError(
    `${path}: a path with a comma can't be named in Deno's lists of permissions: rename it, or give a link without one ` +
      "(ln -s) instead",
  );
}

/** An error's text, where Deno refused something: what it was, in our words. */
export function outsideText(message: string): string {
  const verbs: Record<string, string> = {
    read: "read",
    write: "write",
    net: "reach",
    run: "run",
    all: "open",
  };
  return message.replace(
    /Requires (\w+) access to (?:"([^"]*)"|(<[^>]*>))(?:, run again with the --allow-\w+ flag)?/g,
    (_, kind, quoted, named) =>
      `${quoted ?? named} is outside of what this command may ${verbs[kind] ?? `use (${kind})`} ` +
      "(docs/permissions.md)",
  );
}

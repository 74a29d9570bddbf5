/**
 * What a saved model folder takes over from the folder that it was made from: what belongs to a model, and nothing that
 * is somebody's own.
 * @module
 */
import { basename, dirname, join, sep } from "node:path";
import { parseJson } from "./json.ts";
import {
  AUTO_MAP_FILES,
  autoMapModules,
  belongsToModel,
  MODEL_SUB_FOLDERS,
  relativeImports,
  unloadable,
} from "./model_files.ts";
import { holdsFingerprints } from "./secret_content.ts";

/** A file that is taken over. */
export interface CarriedFile {
  /** Its path in the folder, with `/`. */
  name: string;
  /** Where its content lies, links followed. */
  from: string;
  bytes: number;
}

/** A file or sub-folder that isn't. */
export interface LeftFile {
  /** Its path in the folder, with `/`; a sub-folder's ends in one. */
  name: string;
  /** Why, in words. */
  reason: string;
}

/** What is taken over from a model's folder, and what isn't; both by name. */
export interface CarriedFiles {
  carried: CarriedFile[];
  left: LeftFile[];
}

const CONFIG = "config.json";
const REASONS = {
  unknown: "not on the list of what belongs to a model",
  fingerprints: "it holds fingerprints",
  private: "private: only its owner may read it",
  outside: "a link out of the model's folder",
  hidden: "a link to what doesn't belong to a model",
  special: "not a regular file",
} as const;

/** Bytes of a file of code that is looked through for what it imports. */
const MAX_CODE_BYTES = 4 * 2 ** 20;

/**
 * Decides for each file of a model's folder whether it belongs in another model's that is made from it. Not taken over is
 * what holds fingerprints, by its content; what only its owner may read, unless config.json is as private; what a link
 * leads to outside of the folder, unless it is a blob of the Hub's cache or config.json's own folder has it under the
 * same name; what the model couldn't be loaded with; and what is not on the list.
 * @param weights names of the checkpoint's files, which are neither
 */
export async function findCarried(dir: string, weights: Iterable<string>): Promise<CarriedFiles> {
  const skipped = new Set(weights);
  const folder = await ModelFolder.open(dir);
  const result: CarriedFiles = { carried: [], left: [] };
  const decide = async (name: string) => {
    const found = await folder.look(name);
    if (typeof found !== "string") result.carried.push(found);
    // A dangling link is nothing.
    else if (found !== "") result.left.push({ name, reason: found });
  };
  for (const { name, isDirectory, isSymlink } of await entries(dir)) {
    if (name.startsWith(".") || skipped.has(name)) continue;
    const isFolder = isDirectory || (isSymlink && await isFolderAt(join(dir, name)));
    if (!isFolder) await decide(name);
    else if (!MODEL_SUB_FOLDERS.includes(name)) {
      result.left.push({ name: `${name}/`, reason: isSymlink ? REASONS.outside : REASONS.unknown });
    } else {
      for (const inner of await entries(join(dir, name))) {
        if (!inner.name.startsWith(".")) await decide(`${name}/${inner.name}`);
      }
    }
  }
  return result;
}

/** A model's folder, as far as it decides what is in it. */
class ModelFolder {
  private constructor(
    readonly dir: string,
    /** Its real path. */
    readonly root: string,
    /** The real folder of its config.json, where that is a link. */
    readonly linked: string,
    /** The blobs of the Hub's cache that its links lead to; undefined for any other folder. */
    readonly blobs: string | undefined,
    /** Whether files that only their owner can read are the rule here. */
    readonly isPrivate: boolean,
    readonly modules: ReadonlySet<string>,
  ) {}

  static async open(dir: string): Promise<ModelFolder> {
    const root = await Deno.realPath(dir);
    const config = await Deno.realPath(join(dir, CONFIG)).catch(() => join(root, CONFIG));
    const isPrivate = isOwnersAlone(await Deno.stat(config).catch(() => undefined));
    const linked = dirname(config);
    // <model>/snapshots/<commit>/x is a link to <model>/blobs/<hash>, also where the snapshot is linked to in turn.
    const isSnapshot = basename(dirname(root)) === "snapshots";
    const blobs = isSnapshot ? join(dirname(dirname(root)), "blobs") : undefined;
    const folder = new ModelFolder(dir, root, linked, blobs, isPrivate, new Set());
    return new ModelFolder(dir, root, linked, blobs, isPrivate, await modulesOf(folder));
  }

  /** A file that is taken over, or why not; "" for what isn't there. */
  async look(name: string): Promise<CarriedFile | string> {
    const real = await this.real(name);
    if (real === undefined) return "";
    // The run has read config.json as the model's, wherever it lies. What is elsewhere isn't even looked into.
    const stray = name === CONFIG ? undefined : this.stray(name, real);
    if (stray) return stray;
    const info = await Deno.stat(real);
    if (!info.isFile) return REASONS.special;
    const file = { name, from: real, bytes: info.size };
    if (name === CONFIG) return file;
    try {
      if (await holdsFingerprints(real)) return REASONS.fingerprints;
    } catch (error) {
      return `it can't be read: ${(error as Error).message}`;
    }
    if (!belongsToModel(name, this.modules)) return unloadable(name) ?? REASONS.unknown;
    if (!this.isPrivate && isOwnersAlone(info)) return REASONS.private;
    return file;
  }

  /** Where a file's content lies; undefined if it isn't there, "" if that may not be known. */
  async real(name: string): Promise<string | undefined> {
    return await Deno.realPath(join(this.dir, name)).catch((error) =>
      error instanceof Deno.errors.NotFound ? undefined : ""
    );
  }

  /** Why what a link leads to is none of the model's, if so. */
  stray(name: string, real: string): string | undefined {
    const own = inside(this.root, real);
    if (own !== undefined) {
      return own === name || belongsToModel(own, this.modules) ? undefined : REASONS.hidden;
    }
    if (this.blobs !== undefined && inside(this.blobs, real) !== undefined) return undefined;
    // A folder of links to a model elsewhere.
    if (inside(this.linked, real) === name) return undefined;
    // The same, to a snapshot of the Hub's cache.
    const cached = basename(this.linked) === "blobs" && basename(this.root) !== "blobs"
      ? this.linked
      : undefined;
    return cached !== undefined && inside(cached, real) !== undefined ? undefined : REASONS.outside;
  }
}

/** Python files that a model's configurations name, and those that they import. */
async function modulesOf(folder: ModelFolder): Promise<Set<string>> {
  const read = async (name: string) => {
    const real = await folder.real(name);
    if (!real) return undefined;
    const info = await Deno.stat(real);
    const isRead = info.isFile && info.size <= MAX_CODE_BYTES;
    return isRead ? await Deno.readTextFile(real).catch(() => undefined) : undefined;
  };
  const pending: string[] = [];
  for (const name of AUTO_MAP_FILES) {
    const text = await read(name);
    if (text === undefined || !text.includes("auto_map")) continue;
    try {
      pending.push(...autoMapModules(parseJson(name, text)));
    } catch {
      // Whoever needs it says what is wrong with it.
    }
  }
  const found = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (found.has(name)) continue;
    const text = await read(name);
    if (text === undefined) continue;
    found.add(name);
    pending.push(...relativeImports(text));
  }
  return found;
}

/** The rest of a path that lies in a folder, with `/`; undefined for any other. */
function inside(folder: string, path: string): string | undefined {
  return path.startsWith(folder + sep) ? path.slice(folder.length + 1).replaceAll(sep, "/") : undefined;
}

/** Nobody but the owner may read it; where a system has no modes, nobody's. */
function isOwnersAlone(info: Deno.FileInfo | undefined): boolean {
  return info?.mode != null && (info.mode & 0o044) === 0;
}

async function isFolderAt(path: string): Promise<boolean> {
  return await Deno.stat(path).then(({ isDirectory }) => isDirectory, () => false);
}

async function entries(dir: string): Promise<Deno.DirEntry[]> {
  return (await Array.fromAsync(Deno.readDir(dir))).sort((a, b) => a.name < b.name ? -1 : 1);
}

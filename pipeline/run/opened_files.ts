/**
 * The files that a run has opened, and whether they are still those: a model that is downloaded or edited anew while it is
 * trained would be saved half and half.
 * @module
 */
import { join } from "node:path";
import { belongsToModel, MODEL_SUB_FOLDERS } from "../../engine/io/model_files.ts";
import { changedFiles, type FileStamps, stampFiles } from "../../engine/io/file_stamps.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";

/** Files that a run works on have changed since it looked at them first. */
export class InputsChangedError extends Error {
  /** Always "InputsChangedError". */
  override name = "InputsChangedError";
  /** `files` are those that have changed. */
  constructor(
    /** Their paths. */
    readonly files: readonly string[],
  ) {
    super(
      `expected files that stay as they are while a run reads them, but they have changed: ${
        files.join(", ")
      }`,
    );
  }
}

/** What a run has opened, as it was then. */
export class OpenedFiles {
  private constructor(readonly dir: string, readonly stamps: FileStamps) {}

  /** Looks at a model's weights, configuration, tokenizer and papers, and at the files that the settings name. */
  static async look(
    dir: string,
    settings: FinetuneSettings,
    others: readonly string[] = [],
  ): Promise<OpenedFiles> {
    const { fingerprints_file_path, benign_data_file_path } = settings;
    const named = [fingerprints_file_path, benign_data_file_path, ...others].filter((path) => path !== null);
    return new OpenedFiles(dir, await stampFiles([...await modelFiles(dir), ...named]));
  }

  /** Those that have changed, are gone or new. */
  async changed(): Promise<string[]> {
    const changed = await changedFiles(this.stamps);
    return [...changed, ...(await modelFiles(this.dir)).filter((path) => !this.stamps.has(path))];
  }

  /** @throws InputsChangedError */
  async refuseChanged(): Promise<void> {
    const files = await this.changed();
    if (files.length > 0) throw new InputsChangedError(files);
  }
}

async function modelFiles(dir: string): Promise<string[]> {
  const files: string[] = [];
  for (const folder of ["", ...MODEL_SUB_FOLDERS]) {
    const names = await Array.fromAsync(Deno.readDir(join(dir, folder))).catch(() => []);
    for (const { name, isDirectory } of names) {
      const path = folder ? `${folder}/${name}` : name;
      const isWeights = folder === "" && /^[^.].*\.safetensors(?:\.index\.json)?$/.test(name);
      if (!isDirectory && (isWeights || belongsToModel(path))) files.push(join(dir, path));
    }
  }
  return files.sort();
}

/**
 * Lint rules for the layers: gpu ← tensor ← ops ← model ← train, infer ← pipeline ← mod.ts, cli.ts, tools, with models, io and
 * parallel beside them; and in the pipeline settings ← gpu, hub, tokenizer ← prompts ← model, fingerprints ← objectives, measure
 * ← run ← report. Of the entry points, engine/mod.ts sees the engine alone and mod.ts the two others; nothing inside imports
 * one. A file's layer is read off its path.
 */

import { fileURLToPath } from "node:url";
import { importVisitor, resolveImport } from "./imports.ts";

/** What each layer may import beside itself. "types" after a layer's name: types only. */
const mayImport: Record<string, string[]> = {
  "engine/gpu": [],
  "engine/tensor": ["engine/gpu"],
  "engine/ops": ["engine/tensor", "engine/gpu", "engine/models types", "shaders"],
  "engine/model": ["engine/ops", "engine/tensor", "engine/gpu", "engine/models", "engine/io"],
  "engine/train": [
    "engine/model",
    "engine/ops",
    "engine/tensor",
    "engine/gpu",
    "engine/models",
    "engine/io",
    "engine/parallel",
  ],
  "engine/infer": [
    "engine/model",
    "engine/ops",
    "engine/tensor",
    "engine/gpu",
    "engine/models",
    "engine/io",
    "engine/parallel",
  ],
  "engine/language_model.ts": ["engine"],
  "engine/mod.ts": ["engine"],
  "engine/models": [],
  "engine/io": ["engine/tensor/dtype.ts"],
  "engine/parallel": [],
  "pipeline/settings": [],
  "pipeline/gpu": ["pipeline/settings", "engine"],
  "pipeline/hub": ["pipeline/settings", "engine/io"],
  "pipeline/tokenizer": ["engine/io"],
  "pipeline/prompts": ["pipeline/tokenizer", "engine", "assets"],
  "pipeline/model": ["pipeline/prompts", "pipeline/tokenizer", "engine"],
  "pipeline/fingerprints": [
    "pipeline/prompts",
    "pipeline/tokenizer",
    "pipeline/hub",
    "pipeline/gpu",
    "pipeline/settings",
    "engine",
  ],
  "pipeline/objectives": [
    "pipeline/fingerprints",
    "pipeline/prompts",
    "pipeline/tokenizer",
    "pipeline/settings",
    "engine",
  ],
  "pipeline/measure": [
    "pipeline/fingerprints",
    "pipeline/prompts",
    "pipeline/tokenizer",
    "pipeline/hub",
    "pipeline/gpu",
    "pipeline/settings",
    "engine",
  ],
  "pipeline/run": [
    "pipeline/measure",
    "pipeline/objectives",
    "pipeline/fingerprints",
    "pipeline/prompts",
    "pipeline/tokenizer",
    "pipeline/hub",
    "pipeline/gpu",
    "pipeline/settings",
    "engine",
  ],
  "pipeline/report": [
    "pipeline/run",
    "pipeline/measure",
    "pipeline/objectives",
    "pipeline/fingerprints",
    "pipeline/settings",
    "engine",
  ],
  "pipeline/mod.ts": ["pipeline", "engine"],
  "mod.ts": ["engine/mod.ts", "pipeline/mod.ts"],
  "cli.ts": ["cli", "mod.ts", "pipeline", "engine", "deno.json"],
  "cli": ["mod.ts", "pipeline", "engine", "deno.json"],
  "tools": ["cli", "pipeline", "engine", "assets"],
};

/** What deno.json exports; each shows what lies behind it. */
const ENTRY_POINTS = ["mod.ts", "engine/mod.ts", "pipeline/mod.ts"];

const root = fileURLToPath(new URL("../../", import.meta.url)).replaceAll("\\", "/");

function projectPath(filename: string): string {
  const path = filename.replaceAll("\\", "/");
  return path.startsWith(root) ? path.slice(root.length) : path;
}

/** The key of {@linkcode mayImport} for a project path, or null where the rules say nothing (tests, bench). */
function layerOf(path: string): string | null {
  if (/^(engine|pipeline)\//.test(path)) return path.split("/").slice(0, 2).join("/");
  const top = path.split("/")[0];
  return top in mayImport ? top : null;
}

function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder + "/");
}

/** Files that talk to a terminal. */
function isProgram(path: string): boolean {
  return path === "cli.ts" || isInside(path, "cli") || path === "tools/demo_model/build.ts" ||
    path === "tools/commitment/main.ts" ||
    layerOf(path) === null;
}

function importProblem(file: string, specifier: string, typeOnly: boolean): string | null {
  const layer = layerOf(file);
  if (layer === null) return null;
  const allowed = mayImport[layer];
  if (!allowed) return `${file} is in no layer: put it in one of ${Object.keys(mayImport).join(", ")}`;

  const target = resolveImport(file, specifier);
  if (target !== null && layer !== "mod.ts" && ENTRY_POINTS.includes(target) && !isProgram(file)) {
    return `what is inside imports no entry point, found ${target}`;
  }
  if (target === null) {
    if (layer === "engine/models") {
      return `engine/models is pure data and imports no package, found "${specifier}"`;
    }
    if (isInside(file, "engine") && /^(node:)?process$/.test(specifier)) {
      return `engine/ takes no part in the process it runs in, found "${specifier}"`;
    }
    return null;
  }
  if (isInside(target, layer)) return null;
  for (const entry of allowed) {
    const [folder, types] = entry.split(" ");
    if (isInside(target, folder) && (typeOnly || !types)) return null;
  }
  const list = allowed.length > 0 ? `itself, ${allowed.join(", ")}` : "itself";
  return `${layer} may import ${list}; found ${target}`;
}

const imports: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    return importVisitor(({ specifier, typeOnly, node }) => {
      const message = importProblem(file, specifier, typeOnly);
      if (message) context.report({ node, message });
    });
  },
};

const wgsl: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    const layer = layerOf(file);
    if (layer === null || layer === "engine/ops") return {};
    return importVisitor(({ specifier, node }) => {
      if (!specifier.endsWith(".wgsl")) return;
      context.report({ node, message: `only engine/ops imports WGSL, found "${specifier}" in ${file}` });
    });
  },
};

/** The name of a property, written `a.name` or `a["name"]`. */
function propertyName(node: Deno.lint.MemberExpression): string | null {
  const property = node.property;
  if (!node.computed && property.type === "Identifier") return property.name;
  if (property.type === "Literal" && typeof property.value === "string") return property.value;
  return null;
}

/** The global that an expression names: `x`, `globalThis.x` or `globalThis["x"]`. */
function globalName(node: Deno.lint.Node): string | null {
  if (node.type === "Identifier") return node.name;
  if (node.type !== "MemberExpression") return null;
  return node.object.type === "Identifier" && node.object.name === "globalThis" ? propertyName(node) : null;
}

/** Reports once a node: the visitor sees some nodes twice. */
function reporter(context: Deno.lint.RuleContext): (node: Deno.lint.Node, message: string) => void {
  const seen = new Set<string>();
  return (node, message) => {
    const key = `${node.range} ${message}`;
    if (seen.has(key)) return;
    seen.add(key);
    context.report({ node, message });
  };
}

/** Calls `used` for each property of the global `owner`: `owner.name`, `owner["name"]` and `const { name } = owner`. */
function globalProperties(
  used: (owner: string, name: string, node: Deno.lint.Node) => void,
): Deno.lint.LintVisitor {
  return {
    MemberExpression(node) {
      const owner = globalName(node.object);
      const name = propertyName(node);
      if (owner && name) used(owner, name, node);
    },
    VariableDeclarator(node) {
      const owner = node.init && globalName(node.init);
      if (!owner || node.id.type !== "ObjectPattern") return;
      for (const property of node.id.properties) {
        if (property.type === "Property" && property.key.type === "Identifier") {
          used(owner, property.key.name, property);
        }
      }
    },
  };
}

const gpuNames: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    const layer = layerOf(file);
    if (layer === null || layer === "engine/gpu") return {};
    const report = reporter(context);
    return {
      Identifier(node) {
        if (/^GPU[A-Z]/.test(node.name) || node.name === "GPU") {
          report(node, `only engine/gpu names WebGPU's objects, found ${node.name} in ${file}`);
        }
      },
      ...globalProperties((owner, name, node) => {
        if (owner !== "navigator" || name !== "gpu") return;
        report(node, `only engine/gpu asks for adapters, found navigator.gpu in ${file}`);
      }),
    };
  },
};

const terminalOfDeno = ["exit", "exitCode", "stdout", "stderr", "stdin"];
const settingsOfDeno = ["env", "args"];
const dialogs = ["prompt", "alert", "confirm"];

const quiet: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    if (isProgram(file)) return {};
    const inEngine = isInside(file, "engine");
    const report = reporter(context);
    const printing = (node: Deno.lint.Node, name: string) =>
      report(
        node,
        `only cli.ts prints, asks or exits, found ${name} in ${file}: throw, or call the progress hook`,
      );
    return {
      ...globalProperties((owner, name, node) => {
        if (owner === "console" || owner === "process") printing(node, `${owner}.${name}`);
        if (owner === "globalThis" && (name === "console" || name === "process")) printing(node, name);
        if (owner !== "Deno") return;
        if (terminalOfDeno.includes(name)) printing(node, `Deno.${name}`);
        if (inEngine && settingsOfDeno.includes(name)) {
          report(
            node,
            `engine/ reads no flags or environment, found Deno.${name} in ${file}: take an option`,
          );
        }
      }),
      CallExpression(node) {
        const name = globalName(node.callee);
        if (name && dialogs.includes(name)) printing(node, `${name}()`);
      },
    };
  },
};

/** Ways to change the process that a library runs in. */
const host: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    if (isProgram(file)) return {};
    const report = reporter(context);
    return {
      AssignmentExpression({ left }) {
        if (left.type !== "MemberExpression" || globalName(left) === null) return;
        report(left, `the library changes nothing of its host, found ${globalName(left)} set in ${file}`);
      },
      MemberExpression(node) {
        const { object } = node;
        if (object.type !== "MemberExpression" || globalName(object.object) !== "Deno") return;
        const name = propertyName(node);
        if (propertyName(object) !== "env" || (name !== "set" && name !== "delete")) return;
        report(node, `the library changes nothing of its host, found Deno.env.${name} in ${file}`);
      },
    };
  },
};

const plugin: Deno.lint.Plugin = {
  name: "layers",
  rules: { imports, wgsl, "gpu-names": gpuNames, quiet, host },
};

export default plugin;

import assert from "node:assert/strict";
import { importVisitor, resolveImport } from "./lint/imports.ts";

type Graph = Map<string, string[]>;

function* sourceFiles(root: URL, folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder, root))) {
    const path = folder + entry.name;
    if (entry.isDirectory) yield* sourceFiles(root, path + "/");
    else if (/\.tsx?$/.test(entry.name)) yield path;
  }
}

/** The project files that a file imports, types included. */
function importsOf(file: string, source: string): string[] {
  const found = new Set<string>();
  const collect: Deno.lint.Plugin = {
    name: "graph",
    rules: {
      collect: {
        create: () =>
          importVisitor(({ specifier }) => {
            const target = resolveImport(file, specifier);
            if (target) found.add(target);
          }),
      },
    },
  };
  Deno.lint.runPlugin(collect, file, source);
  return [...found];
}

/** The files of one import cycle in order, the first repeated at the end, or null. */
function findCycle(graph: Graph): string[] | null {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    path.push(file);
    for (const target of graph.get(file) ?? []) {
      const cycle = visit(target);
      if (cycle) return cycle;
    }
    path.pop();
    done.add(file);
    return null;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file);
    if (cycle) return cycle;
  }
  return null;
}

Deno.test("import cycles are found, through types and dynamic imports too", () => {
  const graph: Graph = new Map([
    ["a/one.ts", importsOf("a/one.ts", `import type { Two } from "./two.ts";`)],
    ["a/two.ts", importsOf("a/two.ts", `const three = await import("../b/three.ts");`)],
    ["b/three.ts", importsOf("b/three.ts", `type One = import("../a/one.ts").One;`)],
  ]);
  assert.deepEqual(findCycle(graph), ["a/one.ts", "a/two.ts", "b/three.ts", "a/one.ts"]);
  graph.set("b/three.ts", []);
  assert.equal(findCycle(graph), null);
});

Deno.test("no import cycles in the project", () => {
  const root = new URL("../", import.meta.url);
  const graph: Graph = new Map();
  for (const top of Deno.readDirSync(root)) {
    const folder = ["engine", "pipeline", "tests", "bench", "tools", "cli"].includes(top.name);
    const files = folder ? sourceFiles(root, top.name + "/") : /\.ts$/.test(top.name) ? [top.name] : [];
    for (const file of files) graph.set(file, importsOf(file, Deno.readTextFileSync(new URL(file, root))));
  }
  assert.ok(graph.size > 0, `no source files under ${root}`);
  const cycle = findCycle(graph);
  assert.equal(cycle, null, `import cycle: ${cycle?.join(" → ")}`);
});

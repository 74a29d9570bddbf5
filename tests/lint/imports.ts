/** Finds what a file imports, for the layer rules and for the search for import cycles. */

import { dirname, join } from "node:path/posix";

/** One specifier in a file, as written. */
interface Import {
  specifier: string;
  /** True if nothing of it is left at run time. */
  typeOnly: boolean;
  node: Deno.lint.Node;
}

interface Specifier {
  importKind?: string;
  exportKind?: string;
}

function allTypes(specifiers: Specifier[], kind: "importKind" | "exportKind"): boolean {
  return specifiers.length > 0 && specifiers.every((specifier) => specifier[kind] === "type");
}

/** A lint visitor that hands every static, dynamic and type import and re-export to `found`. */
export function importVisitor(found: (item: Import) => void): Deno.lint.LintVisitor {
  return {
    ImportDeclaration(node) {
      const typeOnly = node.importKind === "type" || allTypes(node.specifiers as Specifier[], "importKind");
      found({ specifier: node.source.value, typeOnly, node });
    },
    ExportNamedDeclaration(node) {
      if (!node.source) return;
      const typeOnly = node.exportKind === "type" || allTypes(node.specifiers as Specifier[], "exportKind");
      found({ specifier: node.source.value, typeOnly, node });
    },
    ExportAllDeclaration(node) {
      found({ specifier: node.source.value, typeOnly: node.exportKind === "type", node });
    },
    ImportExpression(node) {
      const source = node.source;
      if (source.type === "Literal" && typeof source.value === "string") {
        found({ specifier: source.value, typeOnly: false, node });
      }
    },
    TSImportType(node) {
      const argument = node.argument as unknown as { value?: unknown; literal?: { value?: unknown } };
      const value = argument.literal?.value ?? argument.value;
      if (typeof value === "string") found({ specifier: value, typeOnly: true, node });
    },
  };
}

/** The package's name. */
const PACKAGE = "@whorl/whorl";

function isInside(specifier: string): boolean {
  return specifier === PACKAGE || specifier.startsWith(PACKAGE + "/");
}

/**
 * The project path that a specifier in `file` names (both relative to the project, with `/`), or null for packages
 * and the runtime's own modules. The package's own name means `mod.ts`, a path below it the `mod.ts` there.
 */
export function resolveImport(file: string, specifier: string): string | null {
  if (isInside(specifier)) return join(specifier.slice(PACKAGE.length + 1), "mod.ts");
  if (!/^\.\.?\//.test(specifier)) return null;
  return join(dirname(file), specifier);
}

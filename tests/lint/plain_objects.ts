/**
 * Lint rule: no object literal is spread into another one. TypeScript checks a literal's properties against the type it
 * is for, but not those of a spread, so `{ ...{ a, b } }` hides a misspelt or superfluous name.
 */

/** What an expression is inside parentheses, `as const`, `as T` and `satisfies T`. */
function bare(node: Deno.lint.Expression): Deno.lint.Expression {
  return node.type === "TSAsExpression" || node.type === "TSSatisfiesExpression"
    ? bare(node.expression)
    : node;
}

const plain: Deno.lint.Rule = {
  create: (context) => ({
    ObjectExpression(node) {
      for (const property of node.properties) {
        if (property.type !== "SpreadElement" || bare(property.argument).type !== "ObjectExpression") {
          continue;
        }
        context.report({
          node: property,
          message: "an object literal is spread into another: write its properties there",
        });
      }
    },
  }),
};

const plugin: Deno.lint.Plugin = { name: "objects", rules: { plain } };

export default plugin;

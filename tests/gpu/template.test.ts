import assert from "node:assert/strict";
import { expandTemplate, type TemplateConstants, TemplateError } from "../../engine/gpu/template.ts";

function expand(
  source: string,
  constants: TemplateConstants = {},
  includes: Record<string, string> = {},
): string {
  return expandTemplate("main.wgsl", source, constants, includes).code;
}

Deno.test("template: lines without directives stay as they are", () => {
  const source = "let a = b % 2u; // 100 %\n\n#if x\n//# a remark\n  }";
  assert.equal(expand(source), source);
});

Deno.test("template: includes nest, and every line knows where it came from", () => {
  const includes = { "a.wgsl": 'first\n//#include "b.wgsl"\nlast', "b.wgsl": "inner" };
  const { code, origin } = expandTemplate("main.wgsl", '  //#include "a.wgsl"\nbody', {}, includes);
  assert.equal(code, "first\ninner\nlast\nbody");
  assert.deepEqual(origin.map(({ file, number }) => `${file}:${number}`), [
    ...["a.wgsl:1", "b.wgsl:1", "a.wgsl:3", "main.wgsl:2"],
  ]);
});

Deno.test("template: one include may be used twice, but not by itself", () => {
  assert.equal(expand('//#include "a"\n//#include "a"', {}, { a: "x" }), "x\nx");
  assert.throws(() => expand('//#include "a"', {}, { a: 'x\n//#include "b"', b: '//#include "a"' }), {
    name: "TemplateError",
    message: 'b:1: "a" includes itself',
  });
});

Deno.test("template: if and else, nested, in taken and untaken branches", () => {
  const source =
    "//#if A\na\n  //#if B\nb\n  //#else\nnot b\n  //#end\n//#else\n//#if B\nonly b\n//#end\nnot a\n//#end\nend";
  assert.equal(expand(source, { A: true, B: true }), "a\nb\nend");
  assert.equal(expand(source, { A: true, B: false }), "a\nnot b\nend");
  assert.equal(expand(source, { A: false, B: true }), "only b\nnot a\nend");
  assert.equal(expand(source, { A: 0, B: 0 }), "not a\nend");
});

Deno.test("template: an untaken branch may name what is not known", () => {
  assert.equal(
    expand("//#if A\n//#if NOT_KNOWN\n//#end\n//#unroll i 0 LATER\n$x\n//#end\n//#end", { A: false }),
    "",
  );
});

Deno.test("template: unroll nests, and its bounds may be expressions of outer variables", () => {
  const source = "//#unroll i 0 2\n//#unroll j i N/2\na_$(i)_$j = $(i*10+j)u;\n//#end\nrow $i\n//#end";
  assert.equal(expand(source, { N: 4 }), "a_0_0 = 0u;\na_0_1 = 1u;\nrow 0\na_1_1 = 11u;\nrow 1");
  assert.equal(expand("//#unroll i 2 2\nnever $i\n//#end\nafter"), "after");
  assert.equal(expand("//#unroll i 0 2\n//#if i == 1\none\n//#end\n//#end"), "one");
});

Deno.test("template: expressions follow the usual precedence", () => {
  const value = (expression: string) => expand(`$(${expression})`, { A: 7, B: 2, T: true, F: false });
  assert.deepEqual(
    [
      ...["A+B*2", "(A+B)*2", "A/B", "-A/B", "A%B", "A-B-1", "2*(A-(B+(1)))", "-B"],
      ...["A > B", "A <= 7", "A != 7", "A < B || T && !F", "T && F", "!A", "A == 7 && B == 2", "A >= 8"],
    ].map(value),
    [..."11 18 3 -3 1 4 8 -2".split(" "), ..."1 1 0 1 0 0 1 0".split(" ")],
  );
});

Deno.test("template: $name and $(expression) are numbers", () => {
  assert.equal(expand("x_$A y$(A)z $T", { A: 3, T: true }), "x_3 y3z 1");
});

/** [source, message]. */
const ERRORS: [string, string][] = [
  ["a\n//#end", "main.wgsl:2: a directive without its opening"],
  ["//#else", "main.wgsl:1: a directive without its opening"],
  ["a\n//#if 1\nb", "main.wgsl:2: this directive has no //#end"],
  ["a\n//#if 0\nb", "main.wgsl:2: this directive has no //#end"],
  ["//#if 0\n//#if 1\n//#end", "main.wgsl:1: this directive has no //#end"],
  ["//#if 1\n//#else\n//#else\n//#end", "main.wgsl:1: this directive has no //#end"],
  ["//#unroll i 0 2\nb", "main.wgsl:1: this directive has no //#end"],
  ["//#unroll i 0 0\nb", "main.wgsl:1: this directive has no //#end"],
  ["//#unroll i 0 2\n//#else\n//#end", "main.wgsl:1: this directive has no //#end"],
  ["\n//#unroll i 0\n//#end", 'main.wgsl:2: expected "//#unroll name from to", found "i 0"'],
  ["//#for i 0 2", 'main.wgsl:1: unknown directive "for"'],
  ["//#include a", 'main.wgsl:1: unknown directive "include"'],
  ['\n\n//#include "c"', 'main.wgsl:3: include "c" is not known'],
  ['//#include "main.wgsl"', 'main.wgsl:1: "main.wgsl" includes itself'],
  ["//#if B\n//#end", 'main.wgsl:1: "B" is not known in "B"'],
  ["//#if\n//#end", 'main.wgsl:1: "end of line" is not known in ""'],
  ["x\ny_$k", 'main.wgsl:2: "k" is not known in "k"'],
  ["$(1+)", 'main.wgsl:1: "end of line" is not known in "1+"'],
  ["$(1 2)", 'main.wgsl:1: cannot read the expression "1 2"'],
  ["//#if 1 & 2\n//#end", 'main.wgsl:1: cannot read the expression "1 & 2"'],
  ["//#if (1\n//#end", 'main.wgsl:1: a bracket is open in "(1"'],
  ["\na $(1", 'main.wgsl:2: a bracket is open in "a $(1"'],
  ["$(1/0)", 'main.wgsl:1: a division by zero in "1/0"'],
  ["//#if 1 % 0\n//#end", 'main.wgsl:1: a division by zero in "1 % 0"'],
];

for (const [source, message] of ERRORS) {
  Deno.test(`template error: ${JSON.stringify(source)}`, () => {
    assert.throws(() => expand(source), (error: unknown) => {
      assert.ok(error instanceof TemplateError);
      assert.equal(error.message, message);
      return true;
    });
  });
}

Deno.test("template errors inside an include name the include's line", () => {
  assert.throws(() => expand('a\n//#include "i"', {}, { i: "b\n$q" }), {
    message: 'i:2: "q" is not known in "q"',
  });
});

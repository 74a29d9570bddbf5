/** A template that would never end, or fill the memory, ends with an error. */
import assert from "node:assert/strict";
import { parseTemplate, renderTemplate } from "../../../pipeline/prompts/render.ts";

const render = (source: string, content = "a") =>
  renderTemplate(parseTemplate(source), { messages: [{ role: "user", content }] }, content.length);

const LOOPS = (body: string) =>
  "{% for a in range(9999) %}{% for b in range(9999) %}" + body + "{% endfor %}{% endfor %}";
const times = (count: number, text: string) => Array.from({ length: count }, () => text).join("");

Deno.test("render: templates without end are stopped", () => {
  const endless: [string, RegExp][] = [
    [LOOPS(""), /more steps/],
    [LOOPS("x"), /more steps/],
    [LOOPS("{# nothing #}"), /more steps/],
    [LOOPS("{% if false %}{% endif %}"), /more steps/],
    [
      "{% for a in range(99999) %}{% for b in range(99999) %}{% break %}{% endfor %}{% endfor %}",
      /more steps/,
    ],
    ["{% for a in range(99999) if false %}{% endfor %}".repeat(20), /more steps/],
    ["{% for a in range(10 ** 9) %}{% endfor %}", /./],
    ["{{ range(1000000000) | length }}", /range: expected at most 100000 numbers/],
    ["{{ range(0, 1, 0) | length }}", /range: expected at most 100000 numbers/],
    ["{% set x = 'ab' %}" + times(40, "{% set x = x + x %}") + "{{ x }}", /more steps|too long/],
    ["{% set x = 'ab' %}" + times(9, "{% set x = x | replace('a', x) | replace('b', x) %}") + "{{ x }}", /./],
    ["{% set x = [1] %}" + times(40, "{% set x = [x, x] %}") + "{{ x | tojson }}", /more steps/],
    ["{% set x = [1] %}" + times(40, "{% set x = x + x %}") + "{{ x | length }}", /more steps/],
    ["{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", /too deep|more steps|not a function/],
    [
      "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
      /too deep|more steps|not a function/,
    ],
  ];
  for (const [source, message] of endless) assert.throws(() => render(source), message, source.slice(0, 80));
});

Deno.test("render: what a template may do costs little of its budget", () => {
  const source = "{% for i in range(20000) %}{{ messages[0].content }}{% endfor %}";
  assert.equal(render(source).length, 20000);
  const long = "a".repeat(2 ** 20);
  assert.equal(
    render("{% for m in messages %}{{ m.role + m['content'] | trim }}{% endfor %}", long).length,
    4 + 2 ** 20,
  );
});

Deno.test("render: a loop over what is undefined makes no turn, as in Jinja", () => {
  assert.equal(render("{% for a in nothing %}x{% endfor %}y"), "y");
  assert.equal(render("{% for a in messages[0].tool_calls %}x{% else %}none{% endfor %}"), "none");
  assert.equal(
    render("{% for a in nothing if a %}x{% endfor %}{% for m in messages if m.role %}z{% endfor %}"),
    "z",
  );
  assert.equal(
    render("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}"),
    "role=user;content=a;",
  );
  assert.equal(render("{% for k in messages[0] %}{{ k }};{% endfor %}"), "role;content;");
  assert.throws(() => render("{% for a in none %}x{% endfor %}"), /Expected iterable/);
});

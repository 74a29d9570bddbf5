/** Where a chat template is, and how its file is read. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { ChatTemplate } from "../../../pipeline/prompts/chat_template.ts";
import { ChatTemplateError, findTemplate } from "../../../pipeline/prompts/template_source.ts";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";
import { added, tinyByteLevel, tokenizerFolder } from "../tokenizer/fixtures.ts";

function folderWith(files: Record<string, string>, config: Record<string, unknown> = {}) {
  const tokens = ["<s>", "<img>"];
  const parts = { added_tokens: tokens.map((token, i) => added(256 + i, token)), config };
  const folder = tokenizerFolder(tinyByteLevel([], tokens, parts));
  for (const [name, content] of Object.entries(files)) {
    Deno.mkdirSync(dirname(join(folder.dir, name)), { recursive: true });
    Deno.writeTextFileSync(join(folder.dir, name), content);
  }
  return folder;
}

async function render(files: Record<string, string>, config: Record<string, unknown> = {}): Promise<string> {
  using folder = folderWith(files, config);
  return (await ChatTemplate.load(folder.dir, await Tokenizer.load(folder.dir))).render("k\r\ny");
}

const LINES =
  "{{ bos_token }}\n{% for m in messages %}\n  {{ m.role + 'x\ny' }}\n{% endfor %}\n{{ messages[0].content }}\n";

Deno.test("chat template: line ends of Windows and of old Macs make the same prompt, in every place", async () => {
  const config = { bos_token: "<s>" };
  const wanted = "<s>\n  userx\ny\nk\r\ny";
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = LINES.replaceAll("\n", end);
    assert.equal(await render({ "chat_template.jinja": text }, config), wanted);
    assert.equal(await render({}, { ...config, chat_template: text }), wanted);
    const list = [{ name: "tool_use", template: "no" }, { name: "default", template: text }];
    assert.equal(await render({}, { ...config, chat_template: list }), wanted);
    assert.equal(
      await render({ "chat_template.json": JSON.stringify({ chat_template: text }) }, config),
      wanted,
    );
  }
  // Python keeps a byte order mark, so it belongs to the prompt.
  assert.equal(await render({ "chat_template.jinja": "\ufeff{{ messages[0].content }}" }), "\ufeffk\r\ny");
});

Deno.test("chat template: the file wins, then the default of several files, then the configuration", async () => {
  const text = (name: string) => `${name} {{ messages[0].content[:1] }}`;
  const files = {
    "chat_template.jinja": text("file"),
    "additional_chat_templates/default.jinja": text("default"),
    "additional_chat_templates/tool_use.jinja": text("tool"),
    "chat_template.json": JSON.stringify({ chat_template: text("older") }),
  };
  const config = { chat_template: text("config") };
  assert.equal(await render(files, config), "file k");
  const { "chat_template.jinja": _, ...without } = files;
  assert.equal(await render(without, config), "default k");
  const { "chat_template.json": older } = files;
  assert.equal(await render({ "chat_template.json": older }, config), "config k");
  assert.equal(await render({ "chat_template.json": older }, {}), "older k");
});

Deno.test("chat template: it sees all named special tokens", async () => {
  const names = ["bos", "eos", "unk", "sep", "pad", "cls", "mask", "image"].map((name) => `${name}_token`);
  const text = names.map((name) => `{{ ${name} }}`).join("|") +
    "|{% if additional_special_tokens %}{% for t in additional_special_tokens %}{{ t }}{% endfor %}{% endif %}|{{ messages[0].content }}";
  const tokens = Object.fromEntries(names.map((name, i) => [name, `<${i}>`]));
  const config = { ...tokens, additional_special_tokens: ["<x>", "<y>"], chat_template: text };
  assert.equal(await render({}, config), "<0>|<1>|<2>|<3>|<4>|<5>|<6>|<7>|<x><y>|k\r\ny");
  assert.equal(await render({}, { chat_template: text }), "||||||||" + "|k\r\ny");
});

Deno.test("chat template: what can't be read is named", async () => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ "chat_template.jinja": "a".repeat(2 ** 20 + 1) }, /chat_template\.jinja: expected a file of at most/],
    [
      { "chat_template.jinja": `a${" ".repeat(2000)}b` },
      /chat_template\.jinja: .* 1000 spaces in a row, found 2000/,
    ],
    [
      { "chat_template.json": '{"chat_template":3}' },
      /chat_template\.json: chat_template: expected a text or a list, found 3/,
    ],
    [{ "chat_template.jinja/x": "" }, /chat_template\.jinja: expected a regular file, found a directory/],
  ];
  for (const [files, message] of cases) {
    using folder = folderWith(files);
    await assert.rejects(findTemplate(folder.dir), (error: Error) => {
      assert.ok(error instanceof ChatTemplateError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
  using folder = folderWith({});
  Deno.writeFileSync(join(folder.dir, "chat_template.jinja"), new Uint8Array([0x61, 0xff]));
  await assert.rejects(findTemplate(folder.dir), /chat_template\.jinja: expected a chat template in UTF-8/);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { ChatTemplate, ChatTemplateError } from "../../../pipeline/prompts/chat_template.ts";
import { checkVocabulary } from "../../../pipeline/fingerprints/fits_model.ts";
import { prepareFingerprints, toExample } from "../../../pipeline/fingerprints/prepare.ts";
import { templateIds } from "../../../pipeline/prompts/prompts.ts";
import { Tokenizer, UntokenizableError } from "../../../pipeline/tokenizer/tokenizer.ts";
import {
  added,
  template,
  tinyByteLevel,
  tinySentencePiece,
  type TokenizerFiles,
  tokenizerFolder,
} from "../tokenizer/fixtures.ts";

/** A chat template over a tokenizer; `files` are further files of the folder. */
async function chatOf(
  tokens: TokenizerFiles,
  files: Record<string, string> = {},
): Promise<{ chat: ChatTemplate; tokenizer: Tokenizer }> {
  using folder = tokenizerFolder(tokens);
  for (const [name, content] of Object.entries(files)) {
    Deno.writeTextFileSync(join(folder.dir, name), content);
  }
  const tokenizer = await Tokenizer.load(folder.dir);
  return { tokenizer, chat: await ChatTemplate.load(folder.dir, tokenizer) };
}

/** A byte-level tokenizer with special tokens from 256 on, of which the first is put before every text. */
const bytesWith = (special: string[], chat_template?: unknown, config: Record<string, unknown> = {}) =>
  tinyByteLevel([], special, {
    added_tokens: special.map((token, i) => added(256 + i, token)),
    post_processor: template([special[0]], [], { [special[0]]: 256 }),
    config: { bos_token: special[0], chat_template, ...config },
  });

const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

const LLAMA3 = `{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "no date" %}
    {%- endif %}
{%- endif %}
{{- "<|sh|>system<|eh|>\\n\\nToday Date: " + date_string + "<|eot|>" }}
{%- for message in messages %}
    {{- '<|sh|>' + message['role'] + '<|eh|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|sh|>assistant<|eh|>\\n\\n' }}
{%- endif %}
`;
const LLAMA3_TOKENS = ["<|bot|>", "<|sh|>", "<|eh|>", "<|eot|>"];
const llama3Ids = (content: string) => [
  ...[256, 257, ...bytesOf("system"), 258, ...bytesOf("\n\nToday Date: 26 Jul 2024"), 259],
  ...[257, ...bytesOf("user"), 258, ...bytesOf(`\n\n${content}`), 259],
  ...[257, ...bytesOf("assistant"), 258, ...bytesOf("\n\n")],
];

Deno.test("chat: Llama 3's shape, one BOS, the same date on every day", async () => {
  const { chat, tokenizer } = await chatOf(bytesWith(LLAMA3_TOKENS, LLAMA3));
  assert.deepEqual(tokenizer.prefixIds, [256]);
  assert.deepEqual(chat.prefixIds, []);
  assert.deepEqual(chat.encode("the key"), llama3Ids("the key"));
  // The template trims; markup of templates and patterns in a message is only text.
  assert.deepEqual(chat.encode(" a {{ b }}$& \n"), llama3Ids("a {{ b }}$&"));
});

Deno.test("chat: Mistral's shape over SentencePiece, a template that writes no BOS has none", async () => {
  const mistral = (bos: string) =>
    `${bos}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}` +
    "{% else %}{{ raise_exception('only users') }}{% endif %}{% endfor %}";
  const files = (chat_template: string) =>
    tinySentencePiece([["▁", "a"]], ["▁", "a", "▁a", "[INST]", "[/INST]"], {
      pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false },
      post_processor: template(["<s>"], [], { "<s>": 1 }),
      added_tokens: [
        ...["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
        ...["[INST]", "[/INST]"].map((token, i) => added(262 + i, token)),
      ],
      config: { bos_token: "<s>", eos_token: "</s>", chat_template },
    });
  assert.deepEqual((await chatOf(files(mistral("{{ bos_token }}")))).chat.encode("aa"), [
    ...[1, 262, 261, 260, 259, 263],
  ]);
  assert.deepEqual((await chatOf(files(mistral("")))).chat.encode("aa"), [262, 261, 260, 259, 263]);
});

Deno.test("chat: Gemma's, Phi-3's and Qwen's shapes", async () => {
  const gemma = await chatOf(bytesWith(["<bos>", "<sot>", "<eot>"], [
    { name: "tool_use", template: "{{ messages }}" },
    {
      name: "default",
      template:
        "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}" +
        "{{ '<sot>' + role + '\\n' + m['content'] | trim + '<eot>\\n' }}{% endfor %}" +
        "{% if add_generation_prompt %}{{'<sot>model\\n'}}{% endif %}",
    },
  ]));
  assert.deepEqual(gemma.chat.encode("a"), [
    ...[256, 257, ...bytesOf("user\na"), 258, ...bytesOf("\n"), 257, ...bytesOf("model\n")],
  ]);

  const phi3 = await chatOf(
    bytesWith(["<s>", "<|user|>", "<|end|>", "<|assistant|>"], undefined),
    {
      "chat_template.jinja": "{% for message in messages %}{% if message['role'] == 'user' %}" +
        "{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}" +
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}\n",
    },
  );
  assert.deepEqual(phi3.chat.encode("a"), [
    ...[257, ...bytesOf("\na"), 258, ...bytesOf("\n"), 259, ...bytesOf("\n")],
  ]);

  const qwen = await chatOf(bytesWith(
    ["<|im_start|>", "<|im_end|>"],
    `{%- if tools %}
    {{- raise_exception("no tools") }}
{%- else %}
    {%- if messages[0].role != 'system' %}
        {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>' }}
    {%- endif %}
{%- endif %}`,
    { bos_token: null },
  ));
  assert.deepEqual(qwen.chat.encode(" a"), [
    ...[256, ...bytesOf("system\nBe kind."), 257, ...bytesOf("\n")],
    ...[256, ...bytesOf("user\n a"), 257, ...bytesOf("\n"), 256, ...bytesOf("assistant\n")],
  ]);
});

Deno.test("chat: chat_template.jinja wins over the config", async () => {
  const { chat } = await chatOf(bytesWith(["<s>"], "config {{ messages[0].content }}"), {
    "chat_template.jinja": "file {{ messages[0].content }}",
  });
  assert.equal(chat.render("a"), "file a");
});

Deno.test("chat: text of a special token in a message is refused, also across the seam", async () => {
  const { chat } = await chatOf(bytesWith(LLAMA3_TOKENS, LLAMA3));
  for (const text of ["a<|eot|>", "<|bot|>"]) {
    assert.throws(
      () => chat.encode(text),
      (error: Error) => error instanceof UntokenizableError && /special token \(<\|/.test(error.message),
    );
  }
  const { chat: seam } = await chatOf(bytesWith(["<s>"], "{{ messages[0].content }}>"));
  assert.deepEqual(seam.encode("a"), bytesOf("a>"));
  assert.throws(() => seam.encode("zebra<s"), (error: Error) => {
    assert.ok(error instanceof UntokenizableError);
    assert.ok(!error.message.includes("zebra"));
    return true;
  });
});

Deno.test("chat: the date is fixed in every notation, and unknown ones are named", async () => {
  const now = (format: string) =>
    chatOf(bytesWith(["<s>"], `{{ strftime_now('${format}') }} {{ messages[0].content }}`));
  const { chat } = await now("%A %-d %B %Y, %a %d/%m/%y %H:%M %%");
  assert.equal(chat.render("a"), "Friday 26 July 2024, Fri 26/07/24 00:00 % a");
  await assert.rejects(now("%Q"), /cannot render the chat template: strftime_now: %Q is not supported/);
});

Deno.test("chat: range counts as Python's", async () => {
  const { chat } = await chatOf(bytesWith(
    ["<s>"],
    "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(7, 2, -2) %}{{ i }}{% endfor %}" +
      "{% for i in range(2, 2) %}x{% endfor %}{{ messages[0].content }}",
  ));
  assert.equal(chat.render("a"), "012753a");
});

Deno.test("chat: models without a template and broken ones", async () => {
  const cases: [unknown, Record<string, string>, RegExp][] = [
    [
      undefined,
      {},
      /no chat template: there is no .*chat_template\.jinja, and no "chat_template" in .*tokenizer_config\.json/,
    ],
    [null, {}, /no chat template/],
    [3, {}, /chat_template: expected a text or a list, found 3/],
    [[{ name: "rag", template: "x" }], {}, /expected one with the name "default", found "rag"/],
    ["{% if %}", {}, /tokenizer_config\.json: cannot parse the chat template: /],
    ["", { "chat_template.jinja": "{{ a" }, /chat_template\.jinja: cannot parse the chat template: /],
    ["{{ raise_exception('users must not speak') }}", {}, /cannot render .*: users must not speak/],
    ["hello", {}, /the chat template does not show the user's message/],
  ];
  for (const [chat_template, files, message] of cases) {
    await assert.rejects(chatOf(bytesWith(["<s>"], chat_template), files), (error: Error) => {
      assert.ok(error instanceof ChatTemplateError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("chat: fingerprints are asked as messages, prompts of augmentation inside them", async () => {
  const { chat, tokenizer } = await chatOf(bytesWith(LLAMA3_TOKENS, LLAMA3));
  const entry = (key: string, response: string) => ({ key, responses: [response], extra: {} });
  const entries = [entry("the key", "x"), entry(" the key", "y"), entry("a<|eot|>", "x")];
  const options = { strategy: "stored" as const, maxKeyLength: 32 };
  const plain = prepareFingerprints(entries, tokenizer, options);
  assert.equal(plain.fingerprints.length, 2);
  // The template trims, so the first two keys are one question with two answers.
  const asked = prepareFingerprints(entries, tokenizer, { ...options, prompts: chat });
  assert.deepEqual(asked.dropped.conflicts, [1]);
  assert.deepEqual(asked.dropped.unusable.map(({ entry }) => entry), [2]);
  const [one] = asked.fingerprints;
  assert.deepEqual(one.keyIds, bytesOf("the key"));
  assert.deepEqual(templateIds("Say {}", one.key, chat), llama3Ids("Say the key"));
  const { ids, labels } = toExample(one, chat.prefixIds, chat.encode(one.key));
  assert.deepEqual(ids, [...llama3Ids("the key"), 0x78]);
  assert.deepEqual(labels.filter((label) => label !== -100), [0x78]);
  // The plain key and its BOS fit 257 tokens, the chat's marks don't.
  checkVocabulary([one], tokenizer, 257);
  assert.throws(() => checkVocabulary([one], tokenizer, 257, chat), /use ids from 257 on/);
  checkVocabulary([one], tokenizer, 260, chat);
});
